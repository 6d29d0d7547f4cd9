"""Dynamic timestep shift: the `mu` that pipelines find for a number of tokens and steps, and that of a stage."""

from collections.abc import Callable
from typing import Any, NamedTuple

from .schedule import Stage


class MuLaw(NamedTuple):
    """
    How `mu` depends on the size of a picture or video.

    Args:
        mu (`Callable[[config, float, int], float]`):
            `mu` by the scheduler's config, the number of tokens of all frames, and the steps of the run.
        tokens (`Callable[[config, float, int], float]`):
            Undoes it: the number of tokens that has this `mu`.
    """

    mu: Callable[[Any, float, int], float]
    tokens: Callable[[Any, float, int], float]


def _line(config: Any) -> tuple[float, float, float]:
    """A number of tokens, its `mu`, and the slope: what a config leaves out is what pipelines take for it."""
    first, last = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return first, low, (high - low) / (last - first)


def _mu_on_line(config: Any, tokens: float, steps: int) -> float:
    first, low, slope = _line(config)
    return low + slope * (tokens - first)


def _tokens_on_line(config: Any, mu: float, steps: int) -> float:
    first, low, slope = _line(config)
    return first + (mu - low) / slope if slope else first


LINEAR_MU = MuLaw(_mu_on_line, _tokens_on_line)
"""A line over the number of tokens, drawn through the scheduler's config, whatever the steps: diffusers' usual law."""


def stage_mu(law: MuLaw, config: Any, mu: float, stage: Stage, steps: int) -> float:
    """`mu` of a stage: what the stock pipeline would find at the stage's size for the run that the stage is a part of.

    Args:
        law: The law of the pipeline.
        config: The scheduler's config.
        mu: What the pipeline found for the whole call.
        stage: The stage; a size in tokens is taken for that of all frames.
        steps: `num_inference_steps` of the call.
    """
    if stage.size is None and stage.scale == 1 and stage.run_steps == steps:
        return mu
    tokens = stage.size[0] * stage.size[1] if stage.size else law.tokens(config, mu, steps) * stage.scale**2
    return law.mu(config, tokens, stage.run_steps)

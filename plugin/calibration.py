"""Window sizes fitted to a model: more tokens for the blocks whose windows gain most of the softmax mass by it."""

import dataclasses
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from diffusers import DiffusionPipeline
from torch import Tensor

from hasten.kernels import refresh_attention

from .acceleration import check_recipe
from .errors import AccelerationError
from .families import AttentionLayer, Family, family_of
from .methods.bottleneck import is_bottlenecked
from .methods.rettention import RettentionHook, Window, apply_rettention, is_hooked
from .methods.rettention_config import RettentionConfig
from .recipe import Recipe
from .report import StepKind
from .runs import Run
from .seam import AttentionCall

LEVELS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Densities that a block may get, as multiples of the one that all blocks had."""


class Level(NamedTuple):
    """A window size that a block may get: its density, the query-key pairs in it, and the softmax mass it catches.

    Pairs and mass are shares of all pairs and of the whole mass, averaged over calls, heads and queries.
    """

    density: float
    pairs: float
    mass: float


def calibrate(
    pipeline: DiffusionPipeline, attention: RettentionConfig, generate: Callable[[], object]
) -> RettentionConfig:
    r"""
    Share the density of a Re-ttention config out among the transformer blocks, at the same cost of a sparse step.

    The plain pipeline is run; wherever `attention` would refresh, windows of several sizes are measured. Blocks get
    larger windows in the order of the softmax mass that they gain for what it costs.

    Args:
        pipeline (`DiffusionPipeline`):
            Not accelerated; left as it was.
        attention (`RettentionConfig`):
            What to calibrate. Its `density` is what the blocks cost on average.
        generate (`Callable[[], object]`):
            Calls the pipeline, as it will be called later, on a few prompts.

    Returns:
        `RettentionConfig`: with `block_densities`.

    Raises:
        AccelerationError: the pipeline is accelerated, the config does not fit it, or nothing could be measured.
    """
    family, uniform = family_of(pipeline), dataclasses.replace(attention, block_densities=())
    check_recipe(pipeline, family, Recipe(attention=uniform))
    if any(is_hooked(denoiser) or is_bottlenecked(denoiser) for denoiser in family.denoisers_of(pipeline)):
        raise AccelerationError("This pipeline is accelerated; call disable_acceleration() before it is calibrated.")
    measured: _Measured = defaultdict(list)
    _run, remove = apply_rettention(
        pipeline, family, uniform, lambda run, family, config: _Probe(run, family, config, measured)
    )
    try:
        generate()
    finally:
        remove()
    if not measured:
        raise AccelerationError(
            "No step of the calls that were made for calibration is a refresh; give more steps, fewer dense_steps or "
            "a larger picture."
        )
    ladders = _ladders(measured)
    budget = sum(_level(ladder, uniform.density).pairs for ladder in ladders.values())
    chosen = share_out(ladders, budget)
    blocks = {layer.block for layer in family.layers(family.denoiser_of(pipeline))}
    return dataclasses.replace(
        uniform, block_densities=tuple(chosen.get(block, uniform.density) for block in sorted(blocks))
    )


def share_out(ladders: Mapping[int, Sequence[Level]], budget: float) -> dict[int, float]:
    """Density of each block, such that as much softmax mass as possible is caught by at most `budget` pairs.

    Greedy: all blocks begin at their smallest window, and the step up that gains most for what it costs is taken, until
    none fits. That is the best choice where each further token gains less, which is nearly so.

    Args:
        ladders: Window sizes of each block, from the smallest up.
        budget: Sum of the blocks' shares of pairs.
    """
    chosen = dict.fromkeys(ladders, 0)
    while True:
        left = budget + 1e-9 - sum(ladders[block][index].pairs for block, index in chosen.items())
        steps = []
        for block, index in chosen.items():
            here = ladders[block][index]
            for above in range(index + 1, len(ladders[block])):
                there = ladders[block][above]
                if there.pairs - here.pairs <= left:
                    steps.append(((there.mass - here.mass) / max(there.pairs - here.pairs, 1e-9), block, above))
        if not steps:
            return {block: ladders[block][index].density for block, index in chosen.items()}
        _gain, block, above = max(steps)
        chosen[block] = above


_Measured = dict[tuple[int, float], list[tuple[float, float]]]
"""By block and density: pairs and mass of each call."""


class _Probe(RettentionHook):
    """Computes what the model computes, and measures windows of several sizes at the steps that would refresh."""

    def __init__(self, run: Run, family: Family, config: RettentionConfig, measured: _Measured) -> None:
        super().__init__(run, family, config)
        self.measured = measured

    def plan_call(self) -> StepKind:
        """A refresh where one is scheduled; nothing is kept of it."""
        planned = super().plan_call()
        return "refresh" if planned != "dense" and self.schedule[self.state.step] == "refresh" else "dense"

    def attend(self, layer: AttentionLayer, call: AttentionCall) -> Tensor:
        """The stock attention."""
        self.calls[layer.name] += 1
        window = self.window(layer, call)
        if isinstance(window, Window) and self.grid is not None:
            for density in sorted({min(1.0, level * self.config.density) for level in LEVELS}):
                layout = self.config.layout(self.grid, window.layout.text_tokens, self._family.text == "first", density)
                refresh = refresh_attention(
                    call.query, call.key, call.value, layout, text_mask=window.text_mask, scale=call.scale
                )
                seen = (layout.density, refresh.window_mass.float().mean().item())
                self.measured[layer.block, density].append(seen)
        return call.stock()


def _ladders(measured: _Measured) -> dict[int, list[Level]]:
    """Window sizes of each block, from the smallest up; of sizes that come to the same window, the first."""
    ladders: dict[int, list[Level]] = defaultdict(list)
    for (block, density), calls in sorted(measured.items()):
        pairs, mass = (statistics.fmean(values) for values in zip(*calls, strict=True))
        if not ladders[block] or pairs > ladders[block][-1].pairs:
            ladders[block].append(Level(density, pairs, mass))
    return dict(ladders)


def _level(ladder: Sequence[Level], density: float) -> Level:
    """The window that `density` comes to."""
    return [level for level in ladder if level.density <= density][-1]

"""What is searched and on which prompts, worked out before anything is measured."""

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import hasten
from hasten.app.errors import UserError
from hasten.app.loading import LoadedModel
from hasten.app.methods import explain_call
from hasten.app.tune.confirmation import LEAST_REQUESTS
from hasten.app.tune.search import for_family
from hasten.app.tune.space import SCALES, Lever, SearchSpace
from hasten.app.workload import Request
from hasten.assets import bundled_models
from hasten.assets import prompts as held_out_scenes
from hasten.families import Size, family_of
from hasten.presets import DEFAULT_PRESET


def count_prompts(model: str, prompts: Path | None) -> int | None:
    """How many prompts of the bundled model there are; None if they come from a file.

    Raises:
        UserError: there are no prompts at all.
    """
    if prompts is not None:
        return None
    if model not in bundled_models():
        raise UserError(f"'{model}' is not bundled and so has no prompts of its own; give a file of them as --prompts.")
    return len(held_out_scenes(model))


def split(requests: Sequence[Request], tuning: int, held_out: int) -> tuple[list[Request], list[Request]]:
    """Requests for the search and for its confirmation, which share no prompt; each spread over all of them.

    Raises:
        UserError: there are too few different prompts.
    """
    different = list({request.prompt: request for request in requests}.values())
    if tuning + held_out > len(different):
        raise UserError(
            f"{tuning} tuning and {held_out} held-out prompts were asked for, but there are {len(different)}; give "
            f"more --prompts, or fewer with --tuning-prompts (at least 1) and --held-out (at least {LEAST_REQUESTS})."
        )
    confirming = _spread(different, held_out)
    return _spread([request for request in different if request not in confirming], tuning), confirming


def search_space(model: LoadedModel, arguments: dict[str, Any], methods: Collection[Lever]) -> SearchSpace:
    """The space for calls with these arguments, of those of `methods` that the pipeline can do.

    Raises:
        UserError: it can do none of them.
        AccelerationError: the default preset, which is the reference, cannot be run.
    """
    pipe, steps = model.pipe, arguments["num_inference_steps"]
    family = family_of(pipe)
    explain_call(model, for_family(hasten.presets()[DEFAULT_PRESET], family.name), arguments)
    default = family.default_size(pipe)
    grid = family.pixel_grid(
        pipe,
        Size(
            arguments.get("height") or default.height,
            arguments.get("width") or default.width,
            arguments.get("num_frames") or default.num_frames,
        ),
    )
    scales = tuple(
        scale for scale in SCALES if all(abs(side * scale - round(side * scale)) < 1e-6 for side in grid[:2])
    )
    full = hasten.BottleneckStage(steps=0.5)
    trials: dict[Lever, hasten.BottleneckConfig] = {"steps": hasten.BottleneckConfig((full,))}
    if scales:
        trials["sampling"] = hasten.BottleneckConfig((dataclasses.replace(full, scale=scales[0]), full))
    possible: list[Lever] = ["attention"]
    for method, config in trials.items():
        try:
            explain_call(model, hasten.Recipe(sampling=config), arguments)
        except hasten.AccelerationError:
            continue
        possible.append(method)
    chosen = tuple(method for method in possible if method in methods)
    if not chosen:
        raise UserError(
            f"'{model.name}' can be accelerated by {', '.join(possible)} at this size, not by {', '.join(methods)}; "
            "give another --method, or none."
        )
    return SearchSpace(family.name, steps, scales, chosen)


def _spread(requests: Sequence[Request], count: int) -> list[Request]:
    return [requests[int((index + 0.5) * len(requests) / count)] for index in range(count)]

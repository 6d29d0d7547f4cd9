"""The methods that are compared: plain, hasten's own with their ablations, and diffusers' caches."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

import hasten
from hasten.app.ablations import CORRECTIONS, PLAIN_NAME
from hasten.app.caches import (
    ATTENTION_MODULES,
    BLOCK_MODULES,
    first_block_cache,
    pyramid_attention_broadcast,
    taylorseer,
)
from hasten.app.errors import UserError
from hasten.app.loading import LoadedModel
from hasten.app.series import Method
from hasten.presets import DEFAULT_PRESET, resolve_recipe

PLAIN = Method(PLAIN_NAME, lambda _model: nullcontext(), changes_steps=False)


def accelerated(name: str, recipe: hasten.Recipe) -> Method:
    """`recipe` under `name`."""
    return Method(name, lambda model: hasten.accelerate(model.pipe, recipe), reports=True)


def choose_recipe(
    preset: str | None, file: Path | None, sampling: str | None = None, pipeline: DiffusionPipeline | None = None
) -> tuple[str, hasten.Recipe]:
    """Name and recipe for `--preset`, `--recipe` and `--sampling`; the default preset for none of them.

    Of a `pipeline` that brings presets of its own, those are meant. A file that is named as a preset is called by its
    whole name.

    Raises:
        UserError: a preset and a file are given.
        AccelerationError: a preset is unknown, or the file is no recipe.
    """
    if preset is not None and file is not None:
        raise UserError("Give either --preset or --recipe, not both.")
    stages = None if sampling is None else hasten.BottleneckConfig.preset(sampling)
    recipe = resolve_recipe(file or preset, sampling=stages, pipeline=pipeline)
    named = preset or DEFAULT_PRESET
    if file is not None:
        named = file.name if file.stem in hasten.presets() else file.stem
    if sampling is None:
        return named, recipe
    return sampling if preset is None and file is None else f"{named} + {sampling}", recipe


def explain_call(
    model: LoadedModel, recipe: hasten.Recipe, arguments: dict[str, Any], measure: dict[str, Any] | None = None
) -> hasten.Explanation:
    """What `recipe` would do to a call with these pipeline `arguments`; `measure` is as for `hasten.explain`.

    Raises:
        AccelerationError: the call would be refused.
    """
    return hasten.explain(
        model.pipe,
        recipe,
        height=arguments.get("height"),
        width=arguments.get("width"),
        num_inference_steps=arguments["num_inference_steps"],
        num_frames=arguments.get("num_frames"),
        measure=measure,
    )


def select_methods(
    name: str, recipe: hasten.Recipe, only: list[str] | None, pipeline: DiffusionPipeline | None = None
) -> list[Method]:
    """All methods to measure beside the plain pipeline, or those of them whose names `only` gives.

    Args:
        name, recipe: What `--preset` or `--recipe` chose; its schedule is that of the ablations.
        only: Names, in any order.
        pipeline: Brings presets of its own, maybe.

    Raises:
        UserError: a name is unknown.
    """
    chosen = {method.name: method for method in (*ablations(recipe), *presets(pipeline), *diffusers_caches())}
    chosen[name] = accelerated(name, recipe)
    for wanted in only or ():
        if wanted not in chosen:
            raise UserError(f"There is no method '{wanted}' to measure; --only takes one of: {'; '.join(chosen)}.")
    return [method for method in chosen.values() if not only or method.name in only]


def ablations(recipe: hasten.Recipe) -> list[Method]:
    """What to do between refreshes, all else as in `recipe`: the paper's method and its simpler relatives."""
    if recipe.attention is None:
        return []
    return [
        accelerated(name, hasten.Recipe(attention=dataclasses.replace(recipe.attention, block_densities=(), **changes)))
        for name, changes in CORRECTIONS.items()
    ]


def presets(pipeline: DiffusionPipeline | None = None) -> list[Method]:
    """hasten's presets, or the pipeline's own."""
    return [accelerated(name, recipe) for name, recipe in hasten.presets(pipeline).items()]


def diffusers_caches() -> list[Method]:
    """The caches that diffusers brings along, at its default settings and at one bolder threshold."""
    return [
        Method("FirstBlockCache 0.05", _on_denoisers(first_block_cache, threshold=0.05)),
        Method("FirstBlockCache 0.1", _on_denoisers(first_block_cache, threshold=0.1)),
        Method("TaylorSeer, attention", _on_denoisers(taylorseer, modules=ATTENTION_MODULES)),
        Method("TaylorSeer, blocks", _on_denoisers(taylorseer, modules=BLOCK_MODULES)),
        Method("PyramidAttentionBroadcast 2", _on_denoisers(pyramid_attention_broadcast, skip_range=2)),
    ]


def _on_denoisers(
    cache: Callable[..., AbstractContextManager[None]], **settings: Any
) -> Callable[[LoadedModel], AbstractContextManager[None]]:
    """Switches `cache` on for every denoiser of a model."""

    @contextmanager
    def active(model: LoadedModel) -> Iterator[None]:
        with ExitStack() as caches:
            for denoiser in model.denoisers:
                caches.enter_context(cache(denoiser, **settings))
            yield

    return active

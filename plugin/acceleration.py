"""The verbs: enable, disable, report, and the same in a scope."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from diffusers import DiffusionPipeline

from .errors import AccelerationError
from .families import Family, family_of
from .methods.bottleneck import apply_bottleneck, check_bottleneck, is_bottlenecked
from .methods.bottleneck_config import BottleneckConfig
from .methods.kv_cache import apply_kv_cache, check_kv_cache
from .methods.kv_cache_config import KVCacheConfig
from .methods.rettention import apply_rettention, check_rettention, is_hooked
from .methods.rettention_config import RettentionConfig
from .presets import resolve_recipe
from .recipe import Recipe
from .report import AccelerationReport, RunLog
from .state import refuse_other_caches

_ATTRIBUTE = "_hasten"


@dataclass(frozen=True)
class _Acceleration:
    """What an accelerated pipeline carries."""

    recipe: Recipe
    log: RunLog
    remove: Callable[[], None]


def enable_acceleration(
    self: DiffusionPipeline,
    preset_or_recipe: str | os.PathLike[str] | Recipe | None = None,
    *,
    attention: RettentionConfig | None = None,
    sampling: BottleneckConfig | None = None,
    kv_cache: KVCacheConfig | None = None,
) -> None:
    r"""
    Accelerate this pipeline until `disable_acceleration`. Calling it again replaces what was enabled.

    Args:
        preset_or_recipe (`str`, `PathLike` or `Recipe`, *optional*):
            `"quality"`, `"balanced"`, `"fast"`, `"extreme"`, the path of a recipe file, or a recipe. `"balanced"` if
            nothing at all is given; a pipeline whose folder has a recipe `presets/balanced.json` takes that one. Of a
            preset or recipe with parts for both kinds of pipelines, a
            `SelfForcingWanPipeline` takes the cache and any other pipeline the rest.
        attention (`RettentionConfig`, *optional*):
            Replaces the attention part of the preset or recipe.
        sampling (`BottleneckConfig`, *optional*):
            Replaces the sampling part of the preset or recipe.
        kv_cache (`KVCacheConfig`, *optional*):
            Replaces the cache part of the preset or recipe; for a `SelfForcingWanPipeline`, which takes no other part.

    Raises:
        AccelerationError: the request cannot be served; the pipeline is as it was before.
    """
    family = family_of(self)
    recipe = resolve_recipe(preset_or_recipe, attention=attention, sampling=sampling, kv_cache=kv_cache, pipeline=self)
    recipe, refused = fit_recipe(self, family, recipe)
    for denoiser in family.denoisers_of(self):
        refuse_other_caches(denoiser)
        if _ATTRIBUTE not in vars(self) and (is_hooked(denoiser) or is_bottlenecked(denoiser)):
            raise AccelerationError(
                f"This {type(denoiser).__name__} is already accelerated through another pipeline; "
                "call disable_acceleration() on that one first."
            )
    disable_acceleration(self)
    with _model_offload_suspended(self):
        log, remove = _apply(self, family, recipe)
        vars(self)[_ATTRIBUTE] = _Acceleration(recipe, log, remove)
        if refused is not None:
            log.leave_out("recipe", refused)


def fit_recipe(pipeline: DiffusionPipeline, family: Family, recipe: Recipe) -> tuple[Recipe, str | None]:
    """The recipe as it applies to the pipeline, and why it has to do without stages that only a speed asked for.

    Raises:
        AccelerationError: it does not fit the pipeline.
    """
    fitted, refused = recipe.for_family(family.name), None
    if recipe.attention and recipe.sampling and fitted.sampling and recipe.sampling.speed != "custom":
        try:
            check_bottleneck(pipeline, family, fitted.sampling)
        except AccelerationError as error:
            refused = f"Bottleneck Sampling is left out here. {error}".rstrip(".")
            fitted = replace(fitted, sampling=None)
    check_recipe(pipeline, family, fitted)
    return fitted, refused


def check_recipe(pipeline: DiffusionPipeline, family: Family, recipe: Recipe) -> None:
    """Refuse a recipe that does not fit the pipeline.

    Raises:
        AccelerationError: it switches nothing on, or one of its parts does not fit.
    """
    recipe.require_parts()
    check_kv_cache(pipeline, recipe.kv_cache, others=bool(recipe.attention or recipe.sampling))
    if recipe.sampling is not None:
        check_bottleneck(pipeline, family, recipe.sampling)
    if recipe.attention is not None:
        for denoiser in family.denoisers_of(pipeline):
            check_rettention(denoiser, family, recipe.attention)


def _apply(pipeline: DiffusionPipeline, family: Family, recipe: Recipe) -> tuple[RunLog, Callable[[], None]]:
    """Apply the parts of a recipe; gives their log, and a function that takes them back."""
    log = RunLog()
    with ExitStack() as undo:
        if recipe.sampling is not None:  # its scheduler first, for the others to follow; its hook last, around theirs
            attach, remove = apply_bottleneck(pipeline, family, recipe.sampling)
            undo.callback(remove)
        if recipe.kv_cache is not None:
            undo.callback(apply_kv_cache(pipeline, recipe.kv_cache, log))
        if recipe.attention is not None:
            run, remove = apply_rettention(pipeline, family, recipe.attention)
            undo.callback(remove)
            log = run.log
        if recipe.sampling is not None:
            undo.callback(attach(log, recipe.attention is None))
        return log, undo.pop_all().close


def disable_acceleration(self: DiffusionPipeline) -> None:
    """Take back all that `enable_acceleration` changed; does nothing on a pipeline that is not accelerated."""
    acceleration = vars(self).pop(_ATTRIBUTE, None)
    if acceleration is not None:
        with _model_offload_suspended(self):
            acceleration.remove()


def acceleration_report(self: DiffusionPipeline) -> AccelerationReport:
    """What the last call of this pipeline did.

    Raises:
        AccelerationError: acceleration is not enabled.
    """
    if _ATTRIBUTE not in vars(self):
        raise AccelerationError(
            "This pipeline is not accelerated, so there is no report; call enable_acceleration() first."
        )
    return vars(self)[_ATTRIBUTE].log.report()


@contextmanager
def accelerate(
    pipeline: DiffusionPipeline,
    preset_or_recipe: str | os.PathLike[str] | Recipe | None = None,
    *,
    attention: RettentionConfig | None = None,
    sampling: BottleneckConfig | None = None,
    kv_cache: KVCacheConfig | None = None,
) -> Iterator[DiffusionPipeline]:
    """Accelerate `pipeline` inside a `with` block; the arguments are those of `enable_acceleration`.

    Leaving the block brings back what was enabled before it, or nothing.
    """
    before = vars(pipeline).get(_ATTRIBUTE)
    enable_acceleration(pipeline, preset_or_recipe, attention=attention, sampling=sampling, kv_cache=kv_cache)
    try:
        yield pipeline
    finally:
        disable_acceleration(pipeline)
        if before is not None:
            enable_acceleration(pipeline, before.recipe)


@contextmanager
def _model_offload_suspended(pipeline: DiffusionPipeline) -> Iterator[None]:
    """Take model offloading off meanwhile: it wraps the denoiser's `forward` too, and must come off first."""
    offloaded = bool(getattr(pipeline, "_all_hooks", None))
    if offloaded:
        pipeline.remove_all_hooks()
    try:
        yield
    finally:
        if offloaded:
            pipeline.enable_model_cpu_offload(device=pipeline._offload_device)

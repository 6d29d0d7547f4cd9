"""The presets, and what a user may pass in place of one."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import fields
from .errors import AccelerationError
from .methods.bottleneck_config import BottleneckConfig
from .methods.kv_cache_config import KVCacheConfig, rolls_out
from .methods.rettention_config import RettentionConfig
from .recipe import Recipe

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

DEFAULT_PRESET = "balanced"
OWN_PRESETS = "presets"
"""Folder in the folder of a pipeline that holds its own recipes: `balanced.json` is what "balanced" means for it."""

_OURS = RettentionConfig(window="tiles", correction="fitted", density=0.0625, dense_steps=3, refresh_interval=6)
_PRESETS = {
    "quality": Recipe(
        replace(_OURS, density=0.125, dense_steps=5, refresh_interval=4), kv_cache=KVCacheConfig("quarot_kv_int4")
    ),
    "balanced": Recipe(_OURS, kv_cache=KVCacheConfig("flowcache_soft_prune_int4")),
    "fast": Recipe(
        replace(_OURS, dense_steps=2),
        BottleneckConfig(speed="x2", transition="snr_matched"),
        KVCacheConfig("flowcache_soft_prune_int2"),
    ),
    "extreme": Recipe(
        replace(_OURS, density=0.03125, dense_steps=1),
        BottleneckConfig(speed="x3", transition="snr_matched"),
        KVCacheConfig("mixed_1.5bit"),
    ),
}


def presets(pipeline: "DiffusionPipeline | None" = None) -> dict[str, Recipe]:
    """The recipes that have a name, from the most faithful to the fastest.

    A `pipeline` that was loaded from a folder with recipes of its own, `presets/balanced.json` say, has those instead.

    Each has a cache for pipelines that generate chunk by chunk, and attention and stages for all others; a pipeline
    takes what is for it. The caches go by the tables of the kv-quant study, from its most faithful to ever fewer bytes;
    that of "extreme" is not in the study: of all methods it takes the fewest bytes in `hasten bench kv`, and is on
    the frontier of bytes and PSNR there.
    """
    found = {name: replace(recipe, preset=name) for name, recipe in _PRESETS.items()}
    folder = getattr(pipeline, "name_or_path", None)
    if folder is not None:
        files = {name: Path(folder, OWN_PRESETS, f"{name}.json") for name in found}
        found |= {name: Recipe.load(file) for name, file in files.items() if file.is_file()}
    return found


def resolve_recipe(
    preset_or_recipe: str | os.PathLike[str] | Recipe | None = None,
    *,
    attention: RettentionConfig | None = None,
    sampling: BottleneckConfig | None = None,
    kv_cache: KVCacheConfig | None = None,
    pipeline: "DiffusionPipeline | None" = None,
) -> Recipe:
    """The recipe that a user asks for; each config given replaces that part of the preset or recipe.

    Args:
        preset_or_recipe (`str`, `PathLike` or `Recipe`, *optional*):
            A preset's name, a recipe file, or a recipe; `"balanced"` if nothing at all is given.
        attention, sampling, kv_cache (*optional*):
            Configurations of the three methods.
        pipeline (`DiffusionPipeline`, *optional*):
            For which it is: the preset is the pipeline's own if it has one, and of parts for both kinds of pipelines
            the other kind's are left out. A config that is given stays.

    Raises:
        AccelerationError: an unknown preset, also as the name of a recipe, an unreadable recipe file, or a part of the
            wrong type.
    """
    configs = {"attention": attention, "sampling": sampling, "kv_cache": kv_cache}
    given: dict[str, Any] = {name: config for name, config in configs.items() if config is not None}
    if preset_or_recipe is None and not given:
        preset_or_recipe = DEFAULT_PRESET
    base = Recipe() if preset_or_recipe is None else _named(preset_or_recipe)
    if base.preset is not None:
        fields.check_names([str(base.preset)], _PRESETS, "preset")
    if pipeline is not None:
        if base.preset is not None and base == _PRESETS[base.preset]:  # a copy with changes keeps the name
            base = presets(pipeline)[base.preset]
        base = base.for_kind(rolls_out=rolls_out(pipeline))
    # what was measured of a recipe says nothing about another one, and a changed preset is none
    return replace(base, **given, measured=None, preset=None) if given else base


def _named(preset_or_recipe: str | os.PathLike[str] | Recipe) -> Recipe:
    if isinstance(preset_or_recipe, Recipe):
        return preset_or_recipe
    if not isinstance(preset_or_recipe, str | os.PathLike):
        kind = type(preset_or_recipe).__name__
        raise AccelerationError(f"A {kind} was given; give a preset's name, a recipe file or a Recipe.")
    path = Path(preset_or_recipe)
    if isinstance(preset_or_recipe, os.PathLike) or path.suffix == ".json" or len(path.parts) > 1:
        return Recipe.load(path)
    fields.check_names([preset_or_recipe], _PRESETS, "preset")
    return presets()[preset_or_recipe]

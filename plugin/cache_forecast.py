"""Works out what a KV cache would take, before the video is made."""

from dataclasses import replace
from typing import Any

import torch

from hasten.pipelines.kv_cache import METHODS, CacheGeometry, KVCache, PageShape, cache_bytes, next_smaller

from .costs import denoiser_flops
from .errors import AccelerationError
from .explanation import CachePlan, Explanation, LayerPlan
from .families import Family, Size
from .methods.kv_cache import cache_setting
from .methods.kv_cache_config import KVCacheConfig
from .recipe import Recipe
from .report import StepKind


def explain_cache(
    pipeline: Any,
    family: Family,
    recipe: Recipe,
    config: KVCacheConfig,
    height: int | None,
    width: int | None,
    num_frames: int | None,
    num_inference_steps: int | None,
    batch_size: int,
) -> Explanation:
    """What the cache of `config` would be in a call of a `SelfForcingWanPipeline`.

    Args:
        pipeline, family, recipe, config: Checked to fit each other.
        height, width, num_frames, num_inference_steps: As in the call; the pipeline's own if None.
        batch_size: Videos made in one call.

    Raises:
        AccelerationError: the call would be refused.
    """
    settings = pipeline.config
    size = Size(
        settings.sample_height if height is None else height,
        settings.sample_width if width is None else width,
        num_frames,
    )
    steps = settings.num_inference_steps if num_inference_steps is None else num_inference_steps
    grid = family.pixel_grid(pipeline, size)
    model = pipeline.transformer.config
    page = PageShape(
        batch_size, model.num_attention_heads, grid.frame_tokens, model.attention_head_dim, pipeline.transformer.dtype
    )
    try:
        plan = _plan(pipeline, config, page, _latent_frames(pipeline, num_frames))
    except ValueError as error:
        raise AccelerationError(str(error)) from None
    tokens = plan.window_frames * grid.frame_tokens
    dense: StepKind = "dense"
    layers = family.layers(family.denoiser_of(pipeline))
    return Explanation(
        family=family.name,
        recipe=recipe,
        steps=(dense,) * (plan.chunks * steps),
        layers=tuple(LayerPlan(layer.name, tokens, "attention is left as it is") for layer in layers),
        sparse_density=1.0,
        density=1.0,
        attention_share=denoiser_flops(family.denoiser_of(pipeline), family, tokens).attention_share(tokens),
        kernel_efficiency=1.0,
        expected_saving=0.0,
        expected_speedup=1.0,
        state_bytes=0,
        kv_cache=plan,
    )


def _latent_frames(pipeline: Any, num_frames: int | None) -> int:
    from hasten.pipelines.self_forcing.chunks import latent_frames_of  # loads a pipeline of diffusers

    settings = pipeline.config
    if num_frames is None:
        return settings.window_frames // settings.chunk_frames * settings.chunk_frames
    return latent_frames_of(num_frames, 0, settings.chunk_frames, pipeline.vae_scale_factor_temporal)


def _plan(pipeline: Any, config: KVCacheConfig, page: PageShape, frames: int) -> CachePlan:
    method, window = config.cache_method(), cache_setting(config).window(pipeline.config)
    geometry = CacheGeometry(len(pipeline.transformer.blocks), page, window)
    # on this device everything is checked and counted as in a call, and nothing is taken
    cache = KVCache(method, geometry.layers, window)
    cache.begin(page.batch, page.heads, page.head_dim, page.frame_tokens, page.dtype, "meta")
    exact = replace(geometry, page=replace(page, dtype=torch.bfloat16))
    return CachePlan(
        method=method.name,
        description=method.description,
        window_frames=window.frames,
        sink_frames=window.sink_frames,
        chunk_frames=window.chunk_frames,
        chunks=frames // window.chunk_frames,
        nbytes=cache.nbytes,
        exact_bytes=cache_bytes(METHODS["bf16"], exact),
        layer_bytes=tuple(cache.layer(layer).nbytes for layer in range(geometry.layers)),
        smaller=next_smaller(cache.nbytes, geometry),
        notices=cache.notices,
    )

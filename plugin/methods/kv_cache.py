"""Quantized caches of keys and values for self-forcing video: whether one fits, and how it is put in."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from hasten.kernels import implementation, paged_implementation
from hasten.pipelines.kv_cache import KVCache

from ..errors import AccelerationError
from ..report import RunLog
from .kv_cache_config import ROLLS_OUT, KVCacheConfig, rolls_out


def check_kv_cache(pipeline: Any, config: KVCacheConfig | None, *, others: bool) -> None:
    """Refuse a cache for a pipeline that has none, and `others`, the other methods, for one that rolls out.

    Raises:
        AccelerationError: the parts do not fit the pipeline, or the window has no room for its sinks and a chunk.
    """
    name = type(pipeline).__name__
    if config is not None and not rolls_out(pipeline):
        raise AccelerationError(
            f"A kv_cache config was given, but {name} does not generate chunk by chunk; leave kv_cache out, or load "
            f"the model with hasten.pipelines.self_forcing.{ROLLS_OUT}."
        )
    if rolls_out(pipeline) and others:
        raise AccelerationError(
            f"{name} generates chunk by chunk in a few steps, which leaves attention and sampling configs nothing to "
            'do; give a preset, or kv_cache=hasten.KVCacheConfig.preset("quarot_kv_int4") alone.'
        )
    if config is not None:
        try:
            cache_setting(config).window(pipeline.config)
        except ValueError as error:
            raise AccelerationError(str(error)) from None


def apply_kv_cache(pipeline: Any, config: KVCacheConfig, log: RunLog) -> Callable[[], None]:
    """Have a `SelfForcingWanPipeline` roll out with this cache; gives a function that brings the earlier one back."""
    before = pipeline.kv_cache
    setting = replace(
        cache_setting(config),
        on_begin=lambda cache: _tell_of(cache, config, log),
        on_chunk=lambda cache: log.use_cache(cache.used_bytes),
    )
    pipeline.kv_cache = setting

    def restore() -> None:
        if pipeline.kv_cache is setting:
            pipeline.kv_cache = before

    return restore


def _tell_of(cache: KVCache, config: KVCacheConfig, log: RunLog) -> None:
    """Begin the report of a run with this cache, and say what of it is not as it was asked for."""
    log.hold_cache(config.method, cache.nbytes)
    for notice in cache.notices if config.group is not None else ():
        log.fall_back("KV cache", notice)
    for pool in cache.layer(0).pools:
        like = torch.empty(1, 1, 1, pool.keys.shape[3], dtype=pool.keys.dtype, device=pool.keys.device)
        served = paged_implementation(like, pool)
        log.use_kernel(served)
        if served != implementation(like) and pool.keys.page_format is not None:
            log.fall_back("KV cache", "pages with outliers are read by torch calls, not by the Triton kernel")


def cache_setting(config: KVCacheConfig) -> Any:
    """The `CacheSetting` of a `SelfForcingWanPipeline` that is configured so."""
    from hasten.pipelines.self_forcing import CacheSetting  # loads a pipeline of diffusers, for those who use it

    return CacheSetting(config.cache_method(), config.window_frames, config.sink_frames)

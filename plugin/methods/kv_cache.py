"""Quantized caches of keys and values for self-forcing video: which method, and what is different about it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import torch

from hasten.kernels import implementation, paged_implementation
from hasten.pipelines.kv_cache import METHODS, CacheMethod, KVCache

from ..errors import AccelerationError
from ..fields import check_fields, check_names
from ..report import RunLog

_ROLLS_OUT = "SelfForcingWanPipeline"


@dataclass(frozen=True)
class KVCacheConfig:
    r"""
    Configuration of the cache of a chunk-wise video pipeline.

    Important arguments are `method`, `window_frames` and `sink_frames`; the others are for tinkering.

    Args:
        method (`str`, defaults to `"rtn_int4"`):
            Name of a cache method; `hasten models --methods` lists them. "bf16" keeps the window as it is.
        window_frames (`int`, *optional*):
            Latent frames that a chunk attends to, the chunk included; the pipeline's own if left out, 21 in the
            published model.
        sink_frames (`int`, *optional*):
            First latent frames of the video that stay in the window; the method's or pipeline's own if left out.
        group (`int`, *optional*):
            Values that share a scale: tokens of a channel, or channels of a token. The nearest number that divides the
            tokens of a frame, or the channels of a head, is taken. 16 tokens in the study.
        recent (`float`, *optional*):
            Share of the pages that counts as newest, for methods with tiers.
        important (`float`, *optional*):
            Share of the older pages that is kept like the newest, for FlowCache methods.
        retained (`float`, *optional*):
            Share of the other pages that is kept at all, for FlowCache methods.
        layer_budgets (`tuple[float, ...]`, defaults to `()`):
            Factor of those shares for each layer, from a profile, for FlowCache methods; if left out, the study's
            profile in models of 30 layers, and in others a ramp from 0.75 to 1.25 with depth.
        reuse_threshold (`float`, *optional*):
            Relative change of the features below which a denoising step is reused, for methods that reuse any.

    Raises:
        AccelerationError: a field has the wrong type or is out of bounds, there is no such method, or the method has no
            use for what was given.
    """

    method: str = field(default="rtn_int4", metadata={"enum": list(METHODS)})
    window_frames: int | None = field(default=None, metadata={"minimum": 1})
    sink_frames: int | None = field(default=None, metadata={"minimum": 0})
    group: int | None = field(default=None, metadata={"minimum": 1})
    recent: float | None = field(default=None, metadata={"exclusiveMinimum": 0, "maximum": 1})
    important: float | None = field(default=None, metadata={"minimum": 0, "maximum": 1})
    retained: float | None = field(default=None, metadata={"minimum": 0, "maximum": 1})
    layer_budgets: tuple[float, ...] = ()
    reuse_threshold: float | None = field(default=None, metadata={"exclusiveMinimum": 0})

    def __post_init__(self) -> None:
        if not isinstance(self.method, str):
            raise AccelerationError(f"KVCacheConfig was given method={self.method!r}; give the name of one.")
        check_names([self.method], METHODS, "KV cache method")
        check_fields(self)
        if not all(budget > 0 for budget in self.layer_budgets):
            raise AccelerationError(f"layer_budgets={self.layer_budgets!r} were given; give positive numbers.")
        self.cache_method()

    @classmethod
    def preset(cls, name: str) -> "KVCacheConfig":
        """The method called `name` as it is published, such as `"flowcache_soft_prune_int4"`; see `kv_cache_methods`.

        Raises:
            AccelerationError: there is none of that name.
        """
        return cls(method=name)

    def cache_method(self) -> CacheMethod:
        """The method with what is different about it.

        Raises:
            AccelerationError: the method has no use for what was given.
        """
        method = METHODS[self.method]
        shares = {"recent": self.recent, "important": self.important, "retained": self.retained}
        changes: dict[str, Any] = {name: share for name, share in shares.items() if share is not None}
        if self.layer_budgets:
            changes["budgets"] = self.layer_budgets
        policy: Any = method.policy
        for name in changes:
            if not hasattr(policy, name):
                self._refuse("layer_budgets" if name == "budgets" else name, "a method that ranks or ages its pages")
        if changes:
            method = replace(method, policy=replace(policy, **changes))
        if self.reuse_threshold is not None:
            if method.step_reuse is None:
                self._refuse("reuse_threshold", "one of the flowcache_native methods")
            method = replace(method, step_reuse=replace(method.step_reuse, threshold=self.reuse_threshold))
        return self._grouped(method)

    def _grouped(self, method: CacheMethod) -> CacheMethod:
        if self.group is None:
            return method
        if not method.is_quantized:
            self._refuse("group", "a method of fewer bits")
        return method.with_group(self.group)

    def _refuse(self, name: str, instead: str) -> NoReturn:
        raise AccelerationError(
            f"{name}={getattr(self, name)!r} was given for the cache method '{self.method}', which has no use for it; "
            f"leave it out, or choose {instead}."
        )


def kv_cache_methods() -> tuple[str, ...]:
    """The cache methods that have a name."""
    return tuple(METHODS)


def rolls_out(pipeline: Any) -> bool:
    """Whether the pipeline generates chunk by chunk."""
    return any(cls.__name__ == _ROLLS_OUT for cls in type(pipeline).__mro__)


def check_kv_cache(pipeline: Any, config: KVCacheConfig | None, *, others: bool) -> None:
    """Refuse a cache for a pipeline that has none, and `others`, the other methods, for one that rolls out.

    Raises:
        AccelerationError: the parts do not fit the pipeline, or the window has no room for its sinks and a chunk.
    """
    name = type(pipeline).__name__
    if config is not None and not rolls_out(pipeline):
        raise AccelerationError(
            f"A kv_cache config was given, but {name} does not generate chunk by chunk; leave kv_cache out, or load "
            f"the model with hasten.pipelines.self_forcing.{_ROLLS_OUT}."
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

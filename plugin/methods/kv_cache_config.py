"""What a cache of keys and values is told: which method, and what is different about it."""

from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from hasten.pipelines.kv_cache import METHODS, CacheMethod

from ..errors import AccelerationError
from ..fields import check_fields, check_names

ROLLS_OUT = "SelfForcingWanPipeline"
"""The class whose pipelines generate chunk by chunk."""


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
    return any(cls.__name__ == ROLLS_OUT for cls in type(pipeline).__mro__)

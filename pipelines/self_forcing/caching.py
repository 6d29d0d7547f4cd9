"""Which cache a pipeline rolls out with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..kv_cache import (
    METHODS,
    CacheGeometry,
    CacheMethod,
    KVCache,
    PageShape,
    StepReuse,
    Window,
    cache_bytes,
    next_smaller,
    shortage,
)
from .rolling import RollingCache

Cache = KVCache | RollingCache


class CacheMemoryError(RuntimeError):
    """There is too little memory for the cache of a rollout; one sentence with its bytes and a smaller method."""


@dataclass(frozen=True)
class CacheSetting:
    """
    The cache of a `SelfForcingWanPipeline`; what is left out comes from the method or the pipeline's configuration.

    Args:
        method (`CacheMethod`, *optional*):
            What is kept of the frames in the window; all of it, in the dtype of the model, if left out.
        window_frames (`int`, *optional*):
            Latent frames that a chunk attends to, itself included.
        sink_frames (`int`, *optional*):
            First latent frames of the video that stay in the window.
        rebase_sinks (`bool`, *optional*):
            Whether sinks are seen directly before the window.
        on_begin (`Callable[[Cache], None]`, *optional*):
            Told of the cache of each call, as soon as its memory is there.
        on_chunk (`Callable[[Cache], None]`, *optional*):
            Told of it whenever a chunk is done, while it still holds what that chunk attended to.
    """

    method: CacheMethod | None = None
    window_frames: int | None = None
    sink_frames: int | None = None
    rebase_sinks: bool | None = None
    on_begin: Callable[[Cache], None] | None = None
    on_chunk: Callable[[Cache], None] | None = None

    def window(self, config: Any) -> Window:
        """The window in a pipeline with that configuration.

        Raises:
            ValueError: it has no room for its sinks and a chunk.
        """
        wanted = self.method.sink_frames if self.method else 0
        sinks = max(config.sink_frames, wanted) if self.sink_frames is None else self.sink_frames
        return Window(self.window_frames or config.window_frames, sinks, config.chunk_frames)

    def make_cache(self, config: Any, layers: int, contexts: Sequence[str]) -> Cache:
        """A cache for a transformer of `layers` blocks in a pipeline with that configuration; not yet allocated."""
        window = self.window(config)
        if self.method is None:
            return RollingCache(layers, window, contexts)
        return KVCache(self.method, layers, window, contexts)

    @property
    def step_reuse(self) -> StepReuse | None:
        """Which denoising steps repeat the result of an earlier one."""
        return self.method.step_reuse if self.method else None

    def rebases_sinks(self, config: Any) -> bool:
        """Whether sinks are seen directly before the window in a pipeline with that configuration."""
        return config.rebase_sinks if self.rebase_sinks is None else self.rebase_sinks


def allocate(cache: Cache, page: PageShape, device: torch.device) -> None:
    """Give a cache its memory.

    Raises:
        CacheMemoryError: there is too little.
        ValueError: the formats of the cache do not fit the model.
    """
    try:
        cache.begin(page.batch, page.heads, page.head_dim, page.frame_tokens, page.dtype, device)
        return
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    # outside of the handler, whose error would hold on to what was allocated
    method = cache.method if isinstance(cache, KVCache) else METHODS["bf16"]
    geometry, contexts = CacheGeometry(cache.layers, page, cache.window), len(cache.contexts)
    nbytes = contexts * cache_bytes(method, geometry)
    raise CacheMemoryError(shortage(method.name, nbytes, next_smaller(nbytes, geometry, contexts)))


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocator failed; that of CPUs has no error of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)

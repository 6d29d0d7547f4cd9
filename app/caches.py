"""diffusers' own caches, switched on for the time of a block on any denoiser, PixArt's included.

PixArt's transformer lacks `CacheMixin` and its pipeline sets no cache context, so `enable_cache` does not exist there;
the `apply_*` functions work all the same once the mixin's context manager is used on it from outside.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.hooks import (
    FirstBlockCacheConfig,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
    apply_first_block_cache,
    apply_pyramid_attention_broadcast,
    apply_taylorseer_cache,
)
from diffusers.models.cache_utils import CacheMixin
from torch import nn

# diffusers' default patterns for TaylorSeer match no module of PixArt: they are matched against the whole name
ATTENTION_MODULES = r".*transformer_blocks\.\d+\.attn\d*"
BLOCK_MODULES = r".*transformer_blocks\.\d+"


@contextmanager
def first_block_cache(denoiser: nn.Module, threshold: float) -> Iterator[None]:
    """Skip the remaining blocks while the first one's residual changes by less than `threshold`, relative."""
    apply_first_block_cache(denoiser, FirstBlockCacheConfig(threshold=threshold))
    with _cached(denoiser):
        yield


@contextmanager
def taylorseer(denoiser: nn.Module, modules: str) -> Iterator[None]:
    """Extrapolate the outputs of `modules` (a pattern of names) between full steps, at diffusers' defaults."""
    apply_taylorseer_cache(denoiser, TaylorSeerCacheConfig(cache_identifiers=[modules]))
    with _cached(denoiser):
        yield


@contextmanager
def pyramid_attention_broadcast(denoiser: nn.Module, skip_range: int) -> Iterator[None]:
    """Compute self-attention every `skip_range`-th step inside diffusers' default range of timesteps."""
    timestep = 0.0

    def note_timestep(_denoiser: nn.Module, _args: Any, arguments: dict[str, Any]) -> None:
        nonlocal timestep
        timestep = arguments["timestep"].flatten()[0].item()

    config = PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=skip_range, current_timestep_callback=lambda: timestep
    )
    apply_pyramid_attention_broadcast(denoiser, config)
    with denoiser.register_forward_pre_hook(note_timestep, with_kwargs=True), _cached(denoiser):
        yield


@contextmanager
def _cached(denoiser: nn.Module) -> Iterator[None]:
    # one context serves cond and uncond: they travel in one batch
    try:
        with CacheMixin.cache_context(denoiser, "cond_and_uncond"):
            yield
    finally:
        for module in denoiser.modules():
            _remove_hooks(module)


def _remove_hooks(module: nn.Module) -> None:
    registry = getattr(module, "_diffusers_hook", None)
    if registry is not None:
        for name in list(registry.hooks):
            registry.remove_hook(name, recurse=False)
        del module._diffusers_hook

"""Keys and values of a chunk-wise video, in pages of one latent frame."""

from collections.abc import Sequence

import torch

from .geometry import CacheGeometry, PageShape, Window
from .layer import LayerCache
from .method import CacheMethod


class KVCache:
    """
    The caches of all layers.

    A chunk attends to `layer(i).get()` and to itself; once it is clean, `layer(i).update(key, value)` writes it.

    Args:
        method (`CacheMethod`):
            What is kept, and how.
        layers (`int`):
            Transformer blocks of the model.
        window (`Window`, defaults to 21 frames without sinks):
            What a chunk attends to.
        contexts (`Sequence[str]`, defaults to `("cond",)`):
            Names of the passes that have keys of their own, such as `"cond"` and `"uncond"`.
    """

    def __init__(
        self, method: CacheMethod, layers: int, window: Window | None = None, contexts: Sequence[str] = ("cond",)
    ) -> None:
        self.method = method
        self.layers = layers
        self.window = window or Window(sink_frames=method.sink_frames)
        self.contexts = tuple(contexts)
        self._caches: dict[tuple[str, int], LayerCache] = {}

    def begin(
        self, batch: int, heads: int, head_dim: int, frame_tokens: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        """Allocate all that a video will need, dropping what an earlier one left.

        Args:
            batch, heads, head_dim (`int`):
                Of keys and values.
            frame_tokens (`int`):
                Tokens of a latent frame.
            dtype, device:
                Of the model.

        Raises:
            ValueError: the method's formats do not fit the model.
        """
        self.reset()
        shape = PageShape(batch, heads, frame_tokens, head_dim, dtype)
        geometry = CacheGeometry(self.layers, shape, self.window)
        self._caches = {
            (context, layer): LayerCache(self.method, geometry, layer, device)
            for context in self.contexts
            for layer in range(self.layers)
        }

    def layer(self, index: int, context: str = "cond") -> LayerCache:
        """The cache of one layer in one context."""
        return self._caches[context, index]

    def reset(self) -> None:
        """Free everything."""
        self._caches = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all that is allocated, in use or not."""
        return sum(cache.nbytes for cache in self._caches.values())

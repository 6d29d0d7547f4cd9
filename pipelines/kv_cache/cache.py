"""Keys and values of a chunk-wise video, in pages of one latent frame."""

from collections.abc import Sequence

import torch

from .geometry import CacheGeometry, PageShape
from .layer import LayerCache
from .layers import LayeredCache
from .method import CacheMethod
from .notices import group_notices
from .window import Window


class KVCache(LayeredCache[LayerCache]):
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
        super().__init__(layers, window or Window(sink_frames=method.sink_frames), contexts)
        self.method = method
        self.notices: tuple[str, ...] = ()
        """What a user should know of how the method fits the model, from `begin` on."""

    def begin(
        self, batch: int, heads: int, head_dim: int, frame_tokens: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        """Allocate all that a video will need; see `LayeredCache.begin`."""
        page = PageShape(batch, heads, frame_tokens, head_dim, dtype)
        geometry = CacheGeometry(self.layers, page, self.window)
        self.notices = group_notices(self.method, page)
        self._fill(lambda layer: LayerCache(self.method, geometry, layer, device))

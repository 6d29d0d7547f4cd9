"""The plain cache: the attended window in the dtype of the model, its frames in the order of time.

It is what a quantized cache has to beat. Keys in the order of time are summed in that order, so it gives what a buffer
of the whole video gives, bit for bit.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hasten.kernels.paged import PagePool, Segment

from ..kv_cache import LayeredCache, Window


class RollingLayer:
    """The frames of the window in one layer. When some leave, the others move up in memory.

    Args:
        pool (`PagePool`): plain pages, one for each frame that the window has room for.
        sink_frames (`int`): the first frames of the video, which never leave.
    """

    def __init__(self, pool: PagePool, sink_frames: int) -> None:
        self._pool = pool
        self._sink_frames = sink_frames
        self._frames: list[int] = []
        self._written = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all that is allocated."""
        return self._pool.nbytes

    @property
    def used_bytes(self) -> int:
        """Bytes of the frames that are there."""
        return self.nbytes // max(self._pool.slots, 1) * len(self._frames)

    def get(self, sink_query: Tensor | None = None) -> list[Segment]:
        """What attention to all cached frames takes, oldest first.

        Args:
            sink_query (`Tensor`, *optional*): (B, H, M, D), by which sink frames are seen in place of the query.
        """
        sinks = 0 if sink_query is None else min(self._sink_frames, len(self._frames))
        parts = Segment(self._pool, range(sinks), sink_query), Segment(self._pool, range(sinks, len(self._frames)))
        return [part for part in parts if len(part.slots)]

    def update(self, key: Tensor, value: Tensor, query: Tensor | None = None) -> None:
        """Write the frames of a finished chunk, (B, H, frames · N, D) in any strides, in place of the oldest ones."""
        frame_tokens = self._pool.keys.shape[2]
        pages = list(zip(key.split(frame_tokens, dim=2), value.split(frame_tokens, dim=2), strict=True))
        new = range(self._written, self._written + len(pages))
        frames = [*self._frames, *new]
        sinks = [frame for frame in frames if frame < self._sink_frames]
        others = frames[len(sinks) :]
        kept = [*sinks, *others[max(len(frames) - self._pool.slots, 0) :]]
        for slot, frame in enumerate(kept):  # a frame only ever moves towards the front
            if frame in new:
                self._pool.write(slot, *pages[frame - self._written])
            elif self._frames[slot] != frame:
                self._pool.write(slot, *self._pool.read([self._frames.index(frame)]))
        self._frames = kept
        self._written += len(pages)


class RollingCache(LayeredCache[RollingLayer]):
    """The plain caches of all layers. Arguments as in `LayeredCache`."""

    def __init__(self, layers: int, window: Window, contexts: Sequence[str] = ("cond",)) -> None:
        super().__init__(layers, window, contexts)

    def begin(
        self, batch: int, heads: int, head_dim: int, frame_tokens: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        """Allocate all that a video will need; see `LayeredCache.begin`."""
        shape = batch, heads, frame_tokens, head_dim
        window = self.window
        self._fill(
            lambda _layer: RollingLayer(
                PagePool.allocate(window.pages, shape, None, None, dtype, device), window.sink_frames
            )
        )

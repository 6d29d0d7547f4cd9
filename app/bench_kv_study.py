"""The cache as the kv-quant study laid it out, to be measured beside ours; nothing else should use it.

github.com/suraj-ranganath/kv-quant-longhorizon at b4c0936, as its published patch runs RTN_INT4: a buffer of all frames
of the video though half of them are attended to, every 4-bit code in an int16, and at every pass of the transformer the
whole buffer made anew in 16 bits by way of float32 and coded again. The buffer stays while frames are decoded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hasten.kernels import KeysAndValues
from hasten.pipelines.kv_cache import LayeredCache, PageShape, Window
from hasten.pipelines.kv_cache.formats import STUDY_GROUP
from hasten.pipelines.self_forcing import CacheSetting

_TOP = 7
"""Highest level of a symmetric 4-bit code."""


class _Codes(NamedTuple):
    """Codes (B, H, M, D), int16, and a scale for each channel of 16 tokens, (B, H, M / 16, 1, D), float16."""

    codes: Tensor
    scale: Tensor

    @classmethod
    def of(cls, buffer: Tensor) -> "_Codes":
        """The codes of a buffer whose tokens are whole groups."""
        grouped = buffer.float().unflatten(2, (-1, STUDY_GROUP))
        scale = (grouped.abs().amax(3, keepdim=True) / _TOP).clamp_min(1e-8)
        codes = (grouped / scale).round_().clamp_(-_TOP - 1, _TOP).flatten(2, 3)
        return cls(codes.to(torch.int16), scale.half())

    def rebuilt(self, dtype: torch.dtype) -> Tensor:
        """The whole buffer."""
        grouped = self.codes.float().unflatten(2, (-1, STUDY_GROUP))
        return grouped.mul_(self.scale.float()).flatten(2, 3).to(dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return self.codes.nbytes + self.scale.nbytes


class StudyLayer:
    """Keys and values of all frames of a video in one layer.

    Args:
        page (`PageShape`): of a frame.
        frames (`int`): of the video.
        window (`Window`): of which the last `window.pages` frames are attended to.
        device (`torch.device`): of the model.
    """

    def __init__(self, page: PageShape, frames: int, window: Window, device: torch.device | str) -> None:
        tokens = -(-frames * page.frame_tokens // STUDY_GROUP) * STUDY_GROUP
        self._page, self._window = page, window
        self._key, self._value = (
            _Codes.of(torch.zeros(page.sized(tokens), dtype=page.dtype, device=device)) for _ in range(2)
        )
        self._written = 0

    @property
    def nbytes(self) -> int:
        """Bytes between passes."""
        return self._key.nbytes + self._value.nbytes

    @property
    def used_bytes(self) -> int:
        """The same: a code takes as much whatever it is."""
        return self.nbytes

    def get(self, sink_query: Tensor | None = None) -> list[KeysAndValues]:
        """What attention to the window takes: views of the whole buffer, rebuilt and coded again, as at every pass."""
        key, value = (codes.rebuilt(self._page.dtype) for codes in (self._key, self._value))
        self._key, self._value = _Codes.of(key), _Codes.of(value)
        first = max(self._written - self._window.pages * self._page.frame_tokens, 0)
        seen = slice(first, self._written)
        return [KeysAndValues(key[:, :, seen], value[:, :, seen])]

    def update(self, key: Tensor, value: Tensor, query: Tensor | None = None) -> None:
        """Write the frames of a finished chunk, (B, H, frames · N, D), into the rebuilt buffer, and code it again."""
        place = slice(self._written, self._written + key.shape[2])
        self._key, self._value = (
            self._with(codes, place, new) for codes, new in ((self._key, key), (self._value, value))
        )
        self._written = place.stop

    def _with(self, codes: _Codes, place: slice, new: Tensor) -> _Codes:
        buffer = codes.rebuilt(self._page.dtype)
        buffer[:, :, place] = new
        return _Codes.of(buffer)


class StudyCache(LayeredCache[StudyLayer]):
    """The study's caches of all layers. Arguments as in `LayeredCache`, and the frames of the video."""

    def __init__(self, layers: int, window: Window, contexts: Sequence[str], frames: int) -> None:
        super().__init__(layers, window, contexts)
        self._frames = frames

    def begin(
        self, batch: int, heads: int, head_dim: int, frame_tokens: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        """Allocate buffers for the whole video; see `LayeredCache.begin`."""
        page = PageShape(batch, heads, frame_tokens, head_dim, dtype)
        self._fill(lambda _layer: StudyLayer(page, self._frames, self.window, device))

    def reset(self) -> None:
        """Nothing: the study frees its caches with the next video."""


@dataclass(frozen=True)
class StudySetting(CacheSetting):
    """
    Has a pipeline roll out with the study's caches.

    Args:
        frames (`int`, defaults to `42`):
            Latent frames of the video.
    """

    frames: int = 42

    def make_cache(self, config: Any, layers: int, contexts: Sequence[str]) -> Any:
        """As `CacheSetting.make_cache`."""
        return StudyCache(layers, self.window(config), contexts, self.frames)

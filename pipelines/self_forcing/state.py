"""What the attention layers of a transformer share while it computes one chunk after another."""

import torch

from ..kv_cache import LayerCache
from .caching import Cache
from .chunks import Chunk
from .rolling import RollingLayer
from .rotary import Rotation, TokenBlock, rotation
from .text import TextCache


class RolloutState:
    """What one rollout keeps, and what the attention processors need to know of the pass that is running.

    Args:
        cache (`KVCache` or `RollingCache`): keys and values of earlier chunks, in a context ("cond", "uncond") each.
        head_dim (`int`): channels of a head.
        rows, columns (`int`): tokens of a latent frame.
        device (`torch.device`): of the transformer.
        rebase_sinks (`bool`): whether sinks are seen directly before the other frames of the window. They keep their
            place in the cache: turning the query back by some frames is turning their keys forward.
    """

    def __init__(
        self, cache: Cache, head_dim: int, rows: int, columns: int, device: torch.device, *, rebase_sinks: bool
    ) -> None:
        self.cache = cache
        self.text = TextCache()
        self.device = device
        self.context = "cond"
        self.writes = False
        self.sink_shift = 0
        self._head_dim = head_dim
        self._rows, self._columns = rows, columns
        self._rebase_sinks = rebase_sinks
        self._chunk = Chunk(0, 0, given=False)
        self._rotations: dict[int, Rotation] = {}

    def begin_chunk(self, chunk: Chunk) -> None:
        """Say which frames come next. `sink_shift` is from now on how many frames lie between sinks and window."""
        self._chunk = chunk
        self._rotations.clear()
        window = self.cache.window
        if self._rebase_sinks and window.sink_frames:
            self.sink_shift = max(chunk.first_frame - window.pages, 0)

    def layer(self, index: int) -> LayerCache | RollingLayer:
        """The cache of a layer in the context that is running."""
        return self.cache.layer(index, self.context)

    def rotation(self, shift: int = 0) -> Rotation:
        """Rotation of the chunk's tokens, at their own frames or `shift` frames earlier."""
        if shift not in self._rotations:
            block = TokenBlock(self._chunk.frames, self._rows, self._columns)
            first_frame = self._chunk.first_frame - shift
            self._rotations[shift] = rotation(self._head_dim, block, first_frame, self.device)
        return self._rotations[shift]

    def free(self) -> None:
        """Give all memory back."""
        self.cache.reset()
        self.text.reset()
        self._rotations.clear()

"""What caches of all layers have in common, whatever a layer keeps."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import torch

from .window import Window


class HasBytes(Protocol):
    """The cache of a layer."""

    @property
    def nbytes(self) -> int:
        """Bytes of all that is allocated, in use or not."""

    @property
    def used_bytes(self) -> int:
        """Bytes of the pages that are there."""


Layer = TypeVar("Layer", bound=HasBytes)


class LayeredCache(ABC, Generic[Layer]):
    """
    One cache for each layer in each context.

    Args:
        layers (`int`):
            Transformer blocks of the model.
        window (`Window`):
            What a chunk attends to.
        contexts (`Sequence[str]`):
            Names of the passes that have keys of their own, such as `"cond"` and `"uncond"`.
    """

    def __init__(self, layers: int, window: Window, contexts: Sequence[str]) -> None:
        self.layers = layers
        self.window = window
        self.contexts = tuple(contexts)
        self._caches: dict[tuple[str, int], Layer] = {}

    @abstractmethod
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
            ValueError: the formats of the cache do not fit the model.
        """

    def _fill(self, make: Callable[[int], Layer]) -> None:
        """Make the cache of each layer anew, when those before are freed."""
        self.reset()
        self._caches = {(context, layer): make(layer) for context in self.contexts for layer in range(self.layers)}

    def layer(self, index: int, context: str = "cond") -> Layer:
        """The cache of one layer in one context."""
        return self._caches[context, index]

    def reset(self) -> None:
        """Free everything."""
        self._caches = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all that is allocated, in use or not."""
        return sum(cache.nbytes for cache in self._caches.values())

    @property
    def used_bytes(self) -> int:
        """Bytes of the pages that are there: what a cache that allocated page by page would take."""
        return sum(cache.used_bytes for cache in self._caches.values())

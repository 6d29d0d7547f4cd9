"""What a rollout knows of its prompts: which one holds when, and their keys and values, computed once."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class TextKeysAndValues(NamedTuple):
    """Projected text of one cross-attention layer, each (B, tokens, H, D)."""

    key: Tensor
    value: Tensor


class TextCache:
    """Keys and values of the text for each context ("cond", "uncond") and layer, kept until the prompt changes."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int], TextKeysAndValues] = {}

    def get(self, context: str, layer: int, compute: Callable[[], TextKeysAndValues]) -> TextKeysAndValues:
        """What is kept for that layer, or else what `compute` returns, which is kept from now on."""
        place = context, layer
        if place not in self._kept:
            self._kept[place] = compute()
        return self._kept[place]

    def forget(self, context: str) -> None:
        """Drop what is kept for a context: its prompt has changed."""
        self._kept = {place: kept for place, kept in self._kept.items() if place[0] != context}

    def reset(self) -> None:
        """Drop everything."""
        self._kept.clear()

    @property
    def nbytes(self) -> int:
        """Bytes of all that is kept."""
        return sum(tensor.nbytes for kept in self._kept.values() for tensor in kept)


class PromptSwitch(NamedTuple):
    """A prompt that holds from a latent frame on.

    Args:
        frame (`int`): it holds for the chunk with this latent frame and all later ones.
        embeds (`Tensor`): (B, tokens, channels).
    """

    frame: int
    embeds: Tensor


def embeds_at(switches: tuple[PromptSwitch, ...], end_frame: int) -> Tensor:
    """The embeddings that hold for the chunk that ends before latent frame `end_frame`; the first hold from frame 0."""
    return [switch.embeds for switch in switches if switch.frame < end_frame][-1]

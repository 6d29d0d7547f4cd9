"""Preallocated memory for the pages of one tier of one layer."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hasten.kernels.paged import KeysAndValues, PagePool, Segment

from .formats import Mean, Part, fit, split_tokens
from .geometry import PageShape


class Means(NamedTuple):
    """Pages that are one key and one value each, (B, H, slots, D), standing for `tokens` tokens."""

    key: Tensor
    value: Tensor
    tokens: int

    @property
    def nbytes(self) -> int:
        """Bytes of all slots."""
        return self.key.nbytes + self.value.nbytes

    def write(self, slot: int, key: Tensor, value: Tensor) -> None:
        """Store the mean of keys and values (B, H, tokens, D)."""
        wide = torch.promote_types(key.dtype, torch.float32)
        self.key[:, :, slot], self.value[:, :, slot] = (x.mean(2, dtype=wide) for x in (key, value))


class TierStorage:
    """The pages of one tier, each in a slot of its own; a page may be split into parts that are stored differently."""

    def __init__(self, parts: tuple[Part, ...], slots: int, shape: PageShape, device: torch.device | str) -> None:
        self._tokens = split_tokens(parts, shape.frame_tokens)
        self._parts = [
            _allocate(part, tokens, slots, shape, device) for part, tokens in zip(parts, self._tokens, strict=True)
        ]
        self._table = torch.empty(slots, dtype=torch.int32, device=device)
        self._free = list(range(slots))

    @property
    def pools(self) -> tuple[PagePool, ...]:
        """The parts that keep every token."""
        return tuple(part for part in self._parts if isinstance(part, PagePool))

    @property
    def nbytes(self) -> int:
        """Bytes of all slots and of the page table."""
        return sum(part.nbytes for part in self._parts) + self._table.nbytes

    @property
    def used_bytes(self) -> int:
        """Bytes of the slots that hold a page."""
        slots = len(self._table)
        return self.nbytes // slots * (slots - len(self._free))

    def write(self, key: Tensor, value: Tensor, order: Tensor | None = None) -> int:
        """Store a page in a free slot.

        Args:
            key, value (`Tensor`):
                (B, H, N, D).
            order (`Tensor`, *optional*):
                (N,), the tokens in the order in which parts take them; inside a part they stay in place. For pages in
                several parts.

        Returns:
            `int`: the slot.
        """
        slot = self._free.pop()
        if len(self._parts) == 1:
            self._parts[0].write(slot, key, value)
            return slot
        assert order is not None
        for part, chosen in zip(self._parts, order.split(self._tokens), strict=True):
            tokens = chosen.sort().values
            part.write(slot, key[:, :, tokens], value[:, :, tokens])
        return slot

    def read(self, slot: int) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, N, D) of a page that is stored in one part."""
        [pool] = self._parts
        assert isinstance(pool, PagePool)  # nothing is lower than a mean but to be gone
        return pool.read([slot])

    def release(self, slot: int) -> None:
        """Forget a page."""
        self._free.append(slot)

    def arrange(self, slots: list[int]) -> None:
        """Write the page table: the slots that `attended` counts, in this order."""
        self._table[: len(slots)].copy_(torch.tensor(slots, dtype=torch.int32))

    def attended(self, pages: slice) -> list[Segment | KeysAndValues]:
        """What attention to those rows of the page table takes; good until pages are written or released."""
        return [_attended(part, self._table[pages]) for part in self._parts]


def _allocate(part: Part, tokens: int, slots: int, shape: PageShape, device: torch.device | str) -> PagePool | Means:
    storage = part.storage
    if isinstance(storage, Mean):
        key, value = torch.empty(2, *shape.sized(slots), dtype=shape.dtype, device=device)
        return Means(key, value, tokens)
    keys, values = (x and fit(x, tokens, shape.head_dim) for x in (storage.keys, storage.values))
    return PagePool.allocate(
        slots,
        shape.sized(tokens),
        keys,
        values,
        shape.dtype,
        device,
        rotated=storage.rotated,
        rotated_channels=storage.channels_of(shape.head_dim),
    )


def _attended(part: PagePool | Means, table: Tensor) -> Segment | KeysAndValues:
    if isinstance(part, PagePool):
        return Segment(part, table)
    bias = torch.full_like(table, math.log(part.tokens), dtype=torch.float32)
    return KeysAndValues(part.key[:, :, table], part.value[:, :, table], bias)

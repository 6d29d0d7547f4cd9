"""Preallocated memory for pages of keys and values."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hasten.kernels.paged.codec import Outliers, Page, Plane, decode, encode
from hasten.kernels.paged.formats import PageFormat
from hasten.kernels.paged.rotation import Blocks, Rotation, WholeHead, check_rotation

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class PagedTensor:
    """Memory for `slots` pages (B, H, N, D) of one format, written and read slot by slot.

    The tokens of consecutive slots are neighbours in memory within a head. What a slot holds before it is written is
    undefined.

    Args:
        page_format (`PageFormat`, *optional*): what the bytes are; `None` for pages in `dtype` as they are.
        dtype (`torch.dtype`): of the values that are read.
        shape (`tuple`): (B, H, N, D) of a page.
        stored (`Page` or `Tensor`): the pages, with a dimension of slots in front of each tensor.
    """

    page_format: PageFormat | None
    dtype: torch.dtype
    shape: Shape
    stored: Page | Tensor

    @classmethod
    def allocate(
        cls,
        slots: int,
        shape: Shape,
        page_format: PageFormat | None,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> "PagedTensor":
        """Returns memory for pages of a shape (B, H, N, D).

        Raises:
            ValueError: if the groups of the format do not fit the page.
        """
        batch, heads, tokens, head_dim = shape

        def empty(rows: int, columns: int, kind: torch.dtype) -> Tensor:
            return torch.empty(batch, heads, slots, rows, columns, dtype=kind, device=device).permute(2, 0, 1, 3, 4)

        if page_format is None:
            return cls(None, dtype, shape, empty(tokens, head_dim, dtype))
        page_format.check(tokens, head_dim)
        scales = *page_format.scales_shape(tokens, head_dim), torch.float16
        planes = tuple(
            Plane(
                empty(tokens, head_dim * plane.bits // 8, torch.uint8),
                empty(*scales),
                empty(*scales) if plane.has_offset else None,
            )
            for plane in page_format.planes
        )
        outliers = None
        if page_format.outlier_sigma is not None:
            room = slots, batch, page_format.outliers(heads, tokens, head_dim)
            outliers = Outliers(
                *(torch.empty(room, dtype=kind, device=device) for kind in (torch.int32, torch.float16))
            )
        return cls(page_format, dtype, shape, Page(planes, outliers))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that is stored."""
        return self.stored.tensors if isinstance(self.stored, Page) else (self.stored,)

    @property
    def nbytes(self) -> int:
        """Bytes of all slots, written or not."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def slots(self) -> int:
        """Pages that there is memory for."""
        return self.tensors[0].shape[0]

    @property
    def device(self) -> torch.device:
        """Where the pages are."""
        return self.tensors[0].device

    def write(self, slot: int, x: Tensor) -> None:
        """Codes a page x (B, H, N, D), any floating dtype and strides, into a slot.

        Raises:
            ValueError: if the page has another shape, or there is no such slot.
        """
        self.check(slot, x)
        page = (x,) if self.page_format is None else encode(x, self.page_format).tensors
        for tensor, content in zip(self.tensors, page, strict=True):
            tensor[slot] = content

    def check(self, slot: int, x: Tensor) -> None:
        """Raises a ValueError unless x is a page and there is such a slot."""
        if tuple(x.shape) != self.shape:
            raise ValueError(f"The page has the shape {tuple(x.shape)}; pass one of the shape {self.shape}.")
        if not 0 <= slot < self.slots:
            raise ValueError(f"Slot {slot} does not exist; choose one from 0 to {self.slots - 1}.")

    def read(self, slots: Sequence[int]) -> Tensor:
        """Returns the values of some slots, one after the other: (B, H, slots · N, D). Best one slot at a time."""
        batch, heads, tokens, head_dim = self.shape
        size = batch, heads, len(slots) * tokens, head_dim
        out = torch.empty(size, dtype=self.dtype, device=self.device)
        for place, slot in enumerate(slots):
            self.read_into(out[:, :, place * tokens : (place + 1) * tokens], slot)
        return out

    def read_into(self, out: Tensor, slot: int, first_head: int = 0) -> None:
        """Writes the values of a slot into `out` (B, heads, N, D): those of the heads from `first_head` on."""
        if isinstance(self.stored, Page) and self.page_format is not None:
            decode(self.stored.at(slot, first_head, out.shape), self.page_format, out)
        else:
            out.copy_(self.tensors[0][slot, :, first_head : first_head + out.shape[1]])

    def run(self, first: int, count: int) -> Tensor:
        """Returns the tokens of consecutive slots, (B, H, count · N, D), as a view; only of pages without a format."""
        assert isinstance(self.stored, Tensor)
        return self.stored[first : first + count].permute(1, 2, 0, 3, 4).flatten(2, 3)


@dataclass(frozen=True)
class PagePool:
    """Pages of keys and pages of values, in the same slots.

    Args:
        keys (`PagedTensor`), values (`PagedTensor`): pages of one shape, each in its format.
        rotations (`tuple[Rotation, Rotation]`, *optional*): how keys and values are rotated before they are coded.
            Attention rotates the query and the output instead of the pages.
    """

    keys: PagedTensor
    values: PagedTensor
    rotations: tuple[Rotation, Rotation] | None = None

    @classmethod
    def allocate(
        cls,
        slots: int,
        shape: Shape,
        key_format: PageFormat | None,
        value_format: PageFormat | None,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        *,
        rotated: bool = False,
        rotated_channels: int | None = None,
    ) -> "PagePool":
        """Returns memory for pages of a shape (B, H, N, D).

        Args:
            slots (`int`), shape (`tuple`), dtype (`torch.dtype`), device (`torch.device`): as for a `PagedTensor`.
            key_format (`PageFormat`, *optional*), value_format (`PageFormat`, *optional*): `None` keeps pages in
                `dtype` as they are.
            rotated (`bool`): whether all channels of a head are multiplied by the Walsh-Hadamard matrix before they are
                coded (QuaRot, arXiv 2404.00456).
            rotated_channels (`int`, *optional*): or so many, after all are dealt out to blocks of this size by their
                magnitude in the first page that is written (RotateKV, arXiv 2501.16383).

        Raises:
            ValueError: if a format does not fit the page, or rotated channels are no power of two or do not divide D.
        """
        keys, values = (
            PagedTensor.allocate(slots, shape, page_format, dtype, device) for page_format in (key_format, value_format)
        )
        if rotated_channels is not None:
            check_rotation(shape[3], rotated_channels)
            first, second = (Blocks(shape[1], shape[3], rotated_channels, device) for _ in range(2))
            return cls(keys, values, (first, second))
        if rotated:
            check_rotation(shape[3])
        return cls(keys, values, (WholeHead(), WholeHead()) if rotated else None)

    @property
    def nbytes(self) -> int:
        """Bytes of all slots, written or not, and of the rotations."""
        return self.keys.nbytes + self.values.nbytes + sum(rotation.nbytes for rotation in self.rotations or ())

    @property
    def slots(self) -> int:
        """Pages that there is memory for."""
        return self.keys.slots

    def write(self, slot: int, key: Tensor, value: Tensor) -> None:
        """Codes the keys and values (B, H, N, D) of a page into a slot.

        Raises:
            ValueError: if they have another shape than the pages, or there is no such slot.
        """
        if self.rotations is None:
            self.keys.write(slot, key)
            self.values.write(slot, value)
            return
        for pages, x, rotation in zip((self.keys, self.values), (key, value), self.rotations, strict=True):
            pages.check(slot, x)
            rotation.fit(x)
            pages.write(slot, rotation.turn(x))

    def read(self, slots: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Returns keys and values of some slots, not rotated: (B, H, slots · N, D). Best one slot at a time."""
        key, value = self.keys.read(slots), self.values.read(slots)
        if self.rotations is None:
            return key, value
        of_keys, of_values = self.rotations
        return of_keys.turn_back(key), of_values.turn_back(value)

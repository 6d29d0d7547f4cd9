"""Coded pages on a GPU: their bytes are read, and values are made of them in registers, a slice of channels at a time.

The channels of a head are cut into as many slices as a byte holds codes: the parts of a byte belong to the same columns
of two (four) slices, and no value moves between threads.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from hasten.kernels.paged.codec import Page, Plane
from hasten.kernels.paged.formats import PlaneFormat, gaussian_levels
from hasten.kernels.paged.pages import PagedTensor
from hasten.kernels.streaming import Queries


class Rows(NamedTuple):
    """Rows of (slots, B, H, rows, columns), whose columns are adjacent; strides in rows."""

    data: Any
    slot: Any
    batch: Any
    head: Any
    columns: tl.constexpr


class Coded(NamedTuple):
    """A plane: value = scale · (code - top) + offset, or scale · table[code]; None is what a plane lacks."""

    codes: Rows
    scale: Rows
    offset: Any
    table: Any
    bits: tl.constexpr
    mask: tl.constexpr
    top: tl.constexpr


class Coding(NamedTuple):
    """One or two planes of keys or of values, and how they are read: slices of `width` channels, which are padded."""

    planes: Any
    has_second: tl.constexpr
    slices: tuple[tl.constexpr, ...]
    width: tl.constexpr
    padded: tl.constexpr
    group: tl.constexpr
    by_channel: tl.constexpr


@triton.jit
def decode_slice(coding: Coding, part: tl.constexpr, queries: Queries, slot: tl.tensor, token: tl.tensor) -> tl.tensor:
    """Returns a slice of the channels [T, C] of tokens [T] of a page in float32, 0 beyond those there are."""
    values = decode_plane(coding.planes[0], coding, part, queries, slot, token)
    if coding.has_second:
        values += decode_plane(coding.planes[1], coding, part, queries, slot, token)
    return values


@triton.jit
def decode_plane(
    plane: Coded, coding: Coding, part: tl.constexpr, queries: Queries, slot: tl.tensor, token: tl.tensor
) -> tl.tensor:
    """Returns what a plane has of a slice of the channels [T, C] of tokens [T] of a page."""
    first: tl.constexpr = part * coding.width
    byte: tl.constexpr = first % plane.codes.columns
    shift: tl.constexpr = first // plane.codes.columns * plane.bits
    column = tl.arange(0, coding.padded)
    joined = load_columns(plane.codes, queries, slot, token, column + byte, coding)
    codes = ((joined >> shift) & plane.mask).to(tl.int32)
    levels = tl.load(plane.table + codes) if plane.table is not None else (codes - plane.top).to(tl.float32)
    channel = column + first
    if coding.by_channel:
        group, number = token // coding.group, channel
    else:
        group, number = token, channel // coding.group
    values = levels * load_columns(plane.scale, queries, slot, group, number, coding).to(tl.float32)
    if plane.offset is not None:
        values += load_columns(plane.offset, queries, slot, group, number, coding).to(tl.float32)
    return values


@triton.jit
def load_columns(
    rows: Rows, queries: Queries, slot: tl.tensor, row: tl.tensor, column: tl.tensor, coding: Coding
) -> tl.tensor:
    """Returns the columns [C] of rows [T] of a page, [T, C], 0 beyond the width of a slice."""
    page = slot * rows.slot + queries.batch * rows.batch + queries.head * rows.head
    pointers = rows.data + page * rows.columns + (row * rows.columns)[:, None] + column[None, :]
    if coding.width == coding.padded:
        loaded = tl.load(pointers)
    else:
        loaded = tl.load(pointers, mask=(tl.arange(0, coding.padded) < coding.width)[None, :], other=0)
    return loaded


def coding_of(pages: PagedTensor) -> Coding:
    """Returns coded pages as the kernel takes them."""
    assert pages.page_format is not None
    assert isinstance(pages.stored, Page)
    formats = pages.page_format.planes
    parts = max(8 // plane.bits for plane in formats)
    width = pages.shape[3] // parts
    return Coding(
        planes=tuple(_coded(*pair) for pair in zip(pages.stored.planes, formats, strict=True)),
        has_second=tl.constexpr(len(formats) == 2),
        slices=tuple(map(tl.constexpr, range(parts))),
        width=tl.constexpr(width),
        padded=tl.constexpr(max(16, triton.next_power_of_2(width))),
        group=tl.constexpr(pages.page_format.group),
        by_channel=tl.constexpr(pages.page_format.grouping == "channel"),
    )


def _coded(plane: Plane, plane_format: PlaneFormat) -> Coded:
    bits, levels = plane_format
    return Coded(
        codes=_rows(plane.codes),
        scale=_rows(plane.scale),
        offset=None if plane.offset is None else _rows(plane.offset),
        table=_table(bits, plane.codes.device) if levels == "gaussian" else None,
        bits=tl.constexpr(bits),
        mask=tl.constexpr(2**bits - 1),
        top=tl.constexpr(plane_format.top if levels == "symmetric" else 0),
    )


def _rows(tensor: Tensor) -> Rows:
    columns = tensor.shape[-1]
    slot, batch, head = (stride // columns for stride in tensor.stride()[:3])
    return Rows(tensor, slot, batch, head, tl.constexpr(columns))


@lru_cache
def _table(bits: int, device: torch.device) -> Tensor:
    return torch.tensor(gaussian_levels(bits), device=device)

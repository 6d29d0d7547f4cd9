"""What an attention over pages attends to."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from hasten.kernels.checks import DTYPES, check_inputs
from hasten.kernels.paged.pages import PagePool


class KeysAndValues(NamedTuple):
    """Keys and values as they are: those of the current chunk, or summaries of pages.

    Args:
        key (`Tensor`), value (`Tensor`): (B, H, M, D), dtype of the query, any strides; M may be 0.
        bias (`Tensor`, *optional*): (B, H, M) or (M,), floating, added to the scaled scores of each key. A key that is
            the mean of n keys takes ln(n).
    """

    key: Tensor
    value: Tensor
    bias: Tensor | None = None


class Segment(NamedTuple):
    """Some pages of a pool.

    Args:
        pool (`PagePool`): pages (B, H, N, D) in the dtype of the query.
        slots (`Sequence[int]` or `Tensor`): the pages to attend to, in any order; there may be none. On a GPU an int32
            tensor there saves a copy.
        query (`Tensor`, *optional*): (B, H, queries, D), by which these pages are seen instead of the query of the
            call. As positions are rotations, a page that is to be seen at another frame takes a query turned back by as
            many frames.
    """

    pool: PagePool
    slots: Sequence[int] | Tensor
    query: Tensor | None = None


def check_segments(query: Tensor, segments: Sequence[Segment | KeysAndValues]) -> None:
    """Raises a ValueError unless the segments fit the query."""
    if query.dim() != 4 or query.dtype not in DTYPES:
        raise ValueError(
            f"The query is {query.dtype} of shape {tuple(query.shape)}; pass float16, bfloat16, float32 or float64 of "
            "shape (batch, heads, tokens, head_dim)."
        )
    for segment in segments:
        if isinstance(segment, Segment):
            _check_pages(query, segment)
        else:
            check_inputs(query, segment.key, segment.value)
            _check_bias(segment)


def _check_pages(query: Tensor, segment: Segment) -> None:
    pages = segment.pool.keys
    batch, heads, _, head_dim = pages.shape
    if query.shape[:2] != (batch, heads) or query.shape[3] != head_dim or query.dtype != pages.dtype:
        raise ValueError(
            f"The query is {query.dtype} of shape {tuple(query.shape)}, the pages are read as {pages.dtype} of shape "
            f"{pages.shape}; dtype, batch, heads and head_dim must agree."
        )
    if query.device != pages.device:
        raise ValueError(f"The query is on {query.device}, the pages are on {pages.device}; move them to one device.")
    other = segment.query
    if other is not None and (other.shape, other.dtype, other.device) != (query.shape, query.dtype, query.device):
        raise ValueError(
            f"The query of a segment is {other.dtype} of shape {tuple(other.shape)} on {other.device}; pass "
            f"{query.dtype} of shape {tuple(query.shape)} on {query.device}, as the other queries are."
        )
    if isinstance(segment.slots, Tensor) and segment.slots.device.type != "cpu":
        return  # to look at them would wait for the device
    missing = [slot for slot in map(int, segment.slots) if not 0 <= slot < segment.pool.slots]
    if missing:
        raise ValueError(f"Slots {missing} do not exist; choose from 0 to {segment.pool.slots - 1}.")


def _check_bias(segment: KeysAndValues) -> None:
    bias = segment.bias
    if bias is None:
        return
    batch, heads, keys, _ = segment.key.shape
    allowed = (batch, heads, keys), (keys,)
    if tuple(bias.shape) not in allowed or not bias.is_floating_point() or bias.device != segment.key.device:
        raise ValueError(
            f"The bias is {bias.dtype} of shape {tuple(bias.shape)} on {bias.device}; pass floating numbers of shape "
            f"{allowed[0]} or {allowed[1]} on {segment.key.device}."
        )


def slot_numbers(slots: Sequence[int] | Tensor) -> list[int]:
    """Returns slots as numbers, in the order of memory: keys have no order."""
    return sorted(slots.tolist() if isinstance(slots, Tensor) else slots)

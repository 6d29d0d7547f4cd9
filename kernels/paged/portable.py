"""Attention over pages, some heads at a time: their pages are decoded side by side, then dense attention runs on them.

So all pages of a head meet the queries in one softmax, and nothing as large as the keys of a layer is ever decoded.
Pages without a format are read where they are. In plain torch calls, on any device.
"""

from collections.abc import Iterator

from torch import Tensor

from hasten.kernels.dense.api import attend
from hasten.kernels.outputs import AttentionOutput, lse_dtype, merge
from hasten.kernels.paged.pages import PagePool
from hasten.kernels.paged.segments import Segment, slot_numbers

# Of keys and of values each: 8 MiB in 16 bits, two heads of 16,384 tokens and 128 channels.
DECODED_VALUES = 1 << 22


def attend_pages(query: Tensor, segment: Segment, scale: float) -> AttentionOutput:
    """Attention of a query (B, H, N, D), rotated if the pool is, to the pages of a segment, at least one."""
    pool, slots = segment.pool, slot_numbers(segment.slots)
    if pool.keys.page_format is None and pool.values.page_format is None:
        views = [[pages.run(first, count) for pages in (pool.keys, pool.values)] for first, count in _runs(slots)]
        return merge(*(attend(query, key, value, None, scale) for key, value in views))
    heads, pages = _block(pool, len(slots))
    parts = [slots[start : start + pages] for start in range(0, len(slots), pages)]
    return merge(*(_attend_decoded(query, pool, part, heads, scale) for part in parts))


def _block(pool: PagePool, slots: int) -> tuple[int, int]:
    """Returns how many heads and pages to decode at once: at most half of the heads, or of the pages of a lone head."""
    batch, heads, tokens, head_dim = pool.keys.shape
    page = batch * tokens * head_dim
    some_heads = max(1, min(DECODED_VALUES // (page * slots), heads // 2))
    some_pages = max(1, min(DECODED_VALUES // page, slots if heads > 1 else slots // 2))
    return some_heads, some_pages


def _attend_decoded(query: Tensor, pool: PagePool, slots: list[int], heads: int, scale: float) -> AttentionOutput:
    batch, all_heads, queries, head_dim = query.shape
    tokens = pool.keys.shape[2]
    output = query.new_empty(batch, queries, all_heads, head_dim).transpose(1, 2)
    lse = query.new_empty(query.shape[:3], dtype=lse_dtype(query.dtype))
    keys, values = (query.new_empty(batch, heads, len(slots) * tokens, head_dim) for _ in range(2))
    for first in range(0, all_heads, heads):
        some = slice(first, min(first + heads, all_heads))
        key, value = (x[:, : some.stop - first] for x in (keys, values))
        for place, slot in enumerate(slots):
            rows = slice(place * tokens, (place + 1) * tokens)
            pool.keys.read_into(key[:, :, rows], slot, first)
            pool.values.read_into(value[:, :, rows], slot, first)
        output[:, some], lse[:, some] = attend(query[:, some], key, value, None, scale)
    return AttentionOutput(output, lse)


def _runs(slots: list[int]) -> Iterator[tuple[int, int]]:
    """Yields the first slot and the length of each run of consecutive slots; they are in order."""
    starts = [place for place, slot in enumerate(slots) if place == 0 or slot != slots[place - 1] + 1]
    for start, stop in zip(starts, [*starts[1:], len(slots)], strict=True):
        yield slots[start], stop - start

"""What a cache takes, by formula: `KVCache.nbytes` without allocating anything."""

from dataclasses import replace
from typing import NamedTuple

from .formats import Mean, Packed, Part, fit, split_tokens
from .geometry import WAN_480P, CacheGeometry, PageShape
from .method import CacheMethod
from .methods import METHODS

_FLOAT32 = _INT32 = 4
_INT64 = 8


def cache_bytes(method: CacheMethod, geometry: CacheGeometry) -> int:
    """Bytes of the pages of all layers in one context: codes, scales, offsets, outliers, means, page tables, scores.

    Raises:
        ValueError: the method's formats do not fit the model.
    """
    return sum(_layer_bytes(method, geometry, layer) for layer in range(geometry.layers))


def compression_ratio(method: CacheMethod, geometry: CacheGeometry = WAN_480P) -> float:
    """How many times less than the attended window in 16 bits the method takes, with the sink frames that it wants.

    The study counts against twice that window.
    """
    sink_frames = max(geometry.window.sink_frames, method.sink_frames)
    held = replace(geometry, window=replace(geometry.window, sink_frames=sink_frames))
    return cache_bytes(METHODS["bf16"], held) / cache_bytes(method, held)


class Smaller(NamedTuple):
    """A method that takes fewer bytes."""

    method: str
    nbytes: int


def next_smaller(nbytes: int, geometry: CacheGeometry, contexts: int = 1) -> Smaller | None:
    """The method that takes most among those that take fewer than `nbytes` and fit the model; None if none does."""
    smaller = []
    for method in METHODS.values():
        try:
            takes = contexts * cache_bytes(method, geometry)
        except ValueError:  # its formats do not fit the model
            continue
        if takes < nbytes:
            smaller.append(Smaller(method.name, takes))
    return max(smaller, key=lambda method: method.nbytes, default=None)


def shortage(method: str, nbytes: int, smaller: Smaller | None) -> str:
    """What to say when a rollout with the cache `method`, which takes `nbytes`, finds too little memory."""
    instead = (
        f"the next smaller method, '{smaller.method}', takes {smaller.nbytes:,}."
        if smaller
        else "no method takes fewer, so choose a shorter window or a smaller size."
    )
    return f"Out of memory: the KV cache '{method}' takes {nbytes:,} bytes; {instead}"


def _layer_bytes(method: CacheMethod, geometry: CacheGeometry, layer: int) -> int:
    shape = geometry.page
    total = 0
    for tier, slots in method.slots(geometry.window, layer, geometry.layers).items():
        total += slots * (_page_bytes(method.parts(tier), shape) + _INT32)
        total += sum(_order_bytes(part, shape) for part in method.parts(tier))
    if method.policy.importance == "change":
        total += shape.heads * _FLOAT32
    if method.splits_pages:
        total += 2 * shape.frame_tokens * _FLOAT32
    return total


def _order_bytes(part: Part, shape: PageShape) -> int:
    """Of the order in which the channels of keys and of values are rotated."""
    is_ordered = isinstance(part.storage, Packed) and part.storage.rotated_channels is not None
    return 2 * shape.heads * shape.head_dim * _INT64 if is_ordered else 0


def _page_bytes(parts: tuple[Part, ...], shape: PageShape) -> int:
    pairs = zip(parts, split_tokens(parts, shape.frame_tokens), strict=True)
    return sum(_part_bytes(part, tokens, shape) for part, tokens in pairs)


def _part_bytes(part: Part, tokens: int, shape: PageShape) -> int:
    def plain(tokens: int) -> int:
        return shape.batch * shape.heads * tokens * shape.head_dim * shape.dtype.itemsize

    if isinstance(part.storage, Mean):
        return 2 * plain(1)
    return sum(
        plain(tokens)
        if page_format is None
        else fit(page_format, tokens, shape.head_dim).page_bytes(shape.batch, shape.heads, tokens, shape.head_dim)
        for page_format in (part.storage.keys, part.storage.values)
    )

"""Pages of keys and values in 8, 4 or 2 bits, and attention over them."""

from hasten.kernels.paged.api import paged_attention, paged_implementation
from hasten.kernels.paged.formats import PageFormat, nearest_divisors
from hasten.kernels.paged.pages import PagedTensor, PagePool
from hasten.kernels.paged.segments import KeysAndValues, Segment

__all__ = [
    "KeysAndValues",
    "PageFormat",
    "PagePool",
    "PagedTensor",
    "Segment",
    "nearest_divisors",
    "paged_attention",
    "paged_implementation",
]

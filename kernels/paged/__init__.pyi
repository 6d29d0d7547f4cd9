from .api import paged_attention, paged_implementation
from .formats import PageFormat, nearest_divisors
from .pages import PagedTensor, PagePool
from .segments import KeysAndValues, Segment

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

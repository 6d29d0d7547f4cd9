"""Self-forcing video: Wan models that generate chunk by chunk, over a cache of keys and values.

Huang et al., "Self Forcing: Bridging the Train-Test Gap in Autoregressive Video Diffusion", arXiv 2506.08009.
"""

from .caching import CacheMemoryError, CacheSetting, is_out_of_memory
from .checkpoint import convert_self_forcing_weights, load_self_forcing_weights
from .decoding import StreamingDecoder
from .pipeline import SelfForcingWanPipeline

__all__ = [
    "CacheMemoryError",
    "CacheSetting",
    "SelfForcingWanPipeline",
    "StreamingDecoder",
    "convert_self_forcing_weights",
    "is_out_of_memory",
    "load_self_forcing_weights",
]

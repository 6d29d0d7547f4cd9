"""Quantized caches of keys and values for self-forcing video: a quantizer and a policy make a method.

A page holds the keys and values of one latent frame in one layer. It is written once, on the clean pass of its chunk,
and read by `hasten.kernels.paged_attention` as it is stored.

`KVCache` has the shape that diffusers discusses for its own (#12600, #12773, #13681), a container with one object a
layer and `update`, `get` and `reset`, so that it can be exchanged when there is one. The cache that diffusers 0.42 has,
that of AnyFlow-FAR, cannot hold these pages in few lines: it is a dict of two plain tensors a layer, whose keys have no
positions yet and are all computed anew with every chunk, and which attention joins with the chunk's own in one tensor.
"""

from .cache import KVCache
from .geometry import WAN_480P, CacheGeometry, PageShape, Window
from .layer import CachedFrame, LayerCache
from .layers import LayeredCache
from .memory import Smaller, cache_bytes, compression_ratio, next_smaller, shortage
from .method import CacheMethod
from .methods import METHODS, OURS, STUDY
from .notices import group_notices
from .policies import AgeTiers, FlowCache, PageState, Policy, Quota, RecentFrames, Tier, Uniform, capacities, plan
from .step_reuse import StepReuse
from .study import UNDETERMINED, study_bytes, study_ratio

__all__ = [
    "METHODS",
    "OURS",
    "STUDY",
    "UNDETERMINED",
    "WAN_480P",
    "AgeTiers",
    "CacheGeometry",
    "CacheMethod",
    "CachedFrame",
    "FlowCache",
    "KVCache",
    "LayerCache",
    "LayeredCache",
    "PageShape",
    "PageState",
    "Policy",
    "Quota",
    "RecentFrames",
    "Smaller",
    "StepReuse",
    "Tier",
    "Uniform",
    "Window",
    "cache_bytes",
    "capacities",
    "compression_ratio",
    "group_notices",
    "next_smaller",
    "plan",
    "shortage",
    "study_bytes",
    "study_ratio",
]

from .cache import KVCache
from .geometry import WAN_480P, CacheGeometry, PageShape
from .layer import CachedFrame, LayerCache
from .layers import LayeredCache
from .memory import Smaller, cache_bytes, compression_ratio, next_smaller, shortage
from .method import CacheMethod
from .methods import METHODS, OURS, STUDY
from .notices import group_notices
from .policies import AgeTiers, FlowCache, PageState, Policy, Quota, RecentFrames, Tier, Uniform, capacities, plan
from .step_reuse import StepReuse
from .study import UNDETERMINED, study_bytes, study_ratio
from .window import Window

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

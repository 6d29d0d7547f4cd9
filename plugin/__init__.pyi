from .acceleration import accelerate
from .calibration import calibrate
from .errors import AccelerationError, AccelerationWarning
from .explanation import Explanation
from .forecast import explain
from .methods.bottleneck_config import BottleneckConfig, sampling_presets
from .methods.bottleneck_stage import BottleneckStage
from .methods.kv_cache_config import KVCacheConfig, kv_cache_methods
from .methods.rettention_config import RettentionConfig
from .presets import presets
from .recipe import Recipe
from .report import AccelerationReport
from .stage_pictures import stage_pictures, watch_stages

__version__: str

__all__ = [
    "AccelerationError",
    "AccelerationReport",
    "AccelerationWarning",
    "BottleneckConfig",
    "BottleneckStage",
    "Explanation",
    "KVCacheConfig",
    "Recipe",
    "RettentionConfig",
    "accelerate",
    "calibrate",
    "explain",
    "kv_cache_methods",
    "presets",
    "sampling_presets",
    "stage_pictures",
    "watch_stages",
]

"""hasten makes Hugging Face diffusers pipelines faster without retraining, and undoes itself on request.

Importing it gives every `DiffusionPipeline` the methods `enable_acceleration`, `disable_acceleration` and
`acceleration_report`.
"""

from diffusers import DiffusionPipeline

from .acceleration import accelerate, acceleration_report, disable_acceleration, enable_acceleration
from .calibration import calibrate
from .errors import AccelerationError, AccelerationWarning
from .explanation import Explanation
from .forecast import explain
from .methods.bottleneck_config import BottleneckConfig, sampling_presets
from .methods.bottleneck_stage import BottleneckStage
from .methods.kv_cache import KVCacheConfig, kv_cache_methods
from .methods.rettention import RettentionConfig
from .presets import presets
from .recipe import Recipe
from .report import AccelerationReport
from .stage_pictures import stage_pictures, watch_stages

DiffusionPipeline.enable_acceleration = enable_acceleration
DiffusionPipeline.disable_acceleration = disable_acceleration
DiffusionPipeline.acceleration_report = acceleration_report

__version__ = "0.1.0"

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

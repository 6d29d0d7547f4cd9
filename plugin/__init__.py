"""hasten makes Hugging Face diffusers pipelines faster without retraining, and undoes itself on request.

Importing it gives every `DiffusionPipeline` the methods `enable_acceleration`, `disable_acceleration` and
`acceleration_report`. It loads diffusers and torch when something of it needs them.
"""

import lazy_loader
import wrapt

from .pipeline_methods import add_pipeline_methods
from .presets import presets as presets  # called as its module is, which would take its place if it were loaded later

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

wrapt.register_post_import_hook(add_pipeline_methods, "diffusers.pipelines.pipeline_utils")

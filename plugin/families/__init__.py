"""Model families that hasten knows, and which one a pipeline belongs to."""

from typing import Any

from ..errors import AccelerationError
from .cogvideox import COGVIDEOX
from .family import AttentionLayer, Family, Inputs, Size, TokenGrid, UnknownTokensError
from .flux import FLUX
from .flux2 import FLUX2
from .hunyuan_dit import HUNYUAN_DIT
from .hunyuan_video import HUNYUAN_VIDEO
from .ltx import LTX
from .mochi import MOCHI
from .pixart import PIXART
from .qwen_image import QWEN_IMAGE
from .sd3 import SD3
from .wan import WAN
from .z_image import Z_IMAGE

_PICTURES = (PIXART, HUNYUAN_DIT, SD3, FLUX, FLUX2, QWEN_IMAGE, Z_IMAGE)
_VIDEOS = (COGVIDEOX, WAN, HUNYUAN_VIDEO, LTX, MOCHI)
FAMILIES: dict[str, Family] = {family.name: family for family in (*_PICTURES, *_VIDEOS)}


def family_of(pipeline: Any) -> Family:
    """The family of `pipeline`, found by its class or one of its base classes.

    Raises:
        AccelerationError: hasten does not know the pipeline's class.
    """
    ancestry = {cls.__name__ for cls in type(pipeline).__mro__}
    for family in FAMILIES.values():
        if ancestry.intersection(family.pipelines):
            return family
    works = ", ".join(name for family in FAMILIES.values() if family.works for name in family.pipelines)
    raise AccelerationError(f"{type(pipeline).__name__} is not a pipeline that hasten accelerates; use one of {works}.")


__all__ = [
    "FAMILIES",
    "AttentionLayer",
    "Family",
    "Inputs",
    "Size",
    "TokenGrid",
    "UnknownTokensError",
    "family_of",
]

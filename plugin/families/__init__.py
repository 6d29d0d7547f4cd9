"""Model families that hasten knows, and which one a pipeline belongs to."""

from typing import Any

from ..errors import AccelerationError
from .family import AttentionLayer, Family, TokenGrid
from .pixart import PIXART

FAMILIES: dict[str, Family] = {family.name: family for family in (PIXART,)}


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


__all__ = ["FAMILIES", "AttentionLayer", "Family", "TokenGrid", "family_of"]

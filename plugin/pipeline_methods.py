"""The methods that every `DiffusionPipeline` gets once diffusers is loaded, at no cost until they are used."""

from importlib import import_module
from types import ModuleType
from typing import Any

PIPELINE_METHODS = ("enable_acceleration", "disable_acceleration", "acceleration_report")


def add_pipeline_methods(pipeline_utils: ModuleType) -> None:
    """Give `DiffusionPipeline`, which the module defines, the functions of `hasten.acceleration` as methods.

    The module may be half-way through an `import` of diffusers, when nothing else of diffusers can be relied on.
    """
    for name in PIPELINE_METHODS:
        setattr(pipeline_utils.DiffusionPipeline, name, _LoadedWhenUsed(pipeline_utils.DiffusionPipeline, name))


class _LoadedWhenUsed:
    """Takes the place of a function until somebody looks at it, then makes room for it."""

    def __init__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner, name

    def __get__(self, pipeline: Any, kind: type) -> Any:
        function = getattr(import_module("hasten.acceleration"), self._name)
        setattr(self._owner, self._name, function)
        return function.__get__(pipeline, kind)

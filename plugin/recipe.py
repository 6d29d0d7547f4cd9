"""A recipe: all that `enable_acceleration` needs, as a JSON file that people can share."""

import dataclasses
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from . import fields
from .errors import AccelerationError
from .methods.bottleneck_config import BottleneckConfig
from .methods.kv_cache_config import KVCacheConfig
from .methods.rettention_config import RettentionConfig

FORMAT = "hasten-recipe"
VERSION = 1

_CONFIGS: dict[str, type] = {"attention": RettentionConfig, "sampling": BottleneckConfig, "kv_cache": KVCacheConfig}


@dataclass(frozen=True)
class Recipe:
    r"""
    What to accelerate, and how.

    Args:
        attention (`RettentionConfig`, *optional*):
            Sparse attention; dense when `None`.
        sampling (`BottleneckConfig`, *optional*):
            Bottleneck Sampling; all steps at full resolution when `None`.
        kv_cache (`KVCacheConfig`, *optional*):
            Cache of a chunk-wise video pipeline; the plain window in the model's dtype when `None`.
        family (`str`, *optional*):
            The family of pipelines for which the recipe was made, such as `"pixart"`; any when `None`.
        measured (`dict[str, Any]`, *optional*):
            What was measured with it, on what: JSON-able values that change nothing, and that files keep.
        preset (`str`, *optional*):
            Its name, if it is one of hasten's presets: a pipeline that brings a recipe of this name takes its own in
            place of it. Files do not keep it.

    Raises:
        AccelerationError: a part is of the wrong type, or there is no such family.
    """

    attention: RettentionConfig | None = None
    sampling: BottleneckConfig | None = None
    kv_cache: KVCacheConfig | None = None
    family: str | None = None
    measured: dict[str, Any] | None = field(default=None, compare=False)
    preset: str | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name, config in _CONFIGS.items():
            part = getattr(self, name)
            if part is not None and not isinstance(part, config):
                raise AccelerationError(f"{name} was given as {type(part).__name__}; give a {config.__name__}.")
        if self.family is not None:
            from .families import FAMILIES  # they load diffusers, which few recipes need

            fields.check_names([str(self.family)], FAMILIES, "family of pipelines")
        if not isinstance(self.measured, dict | None):
            raise AccelerationError(f"measured was given as {type(self.measured).__name__}; give a dict, or None.")

    def for_family(self, family: str) -> Self:
        """The recipe as it applies to pipelines of the `family`.

        Raises:
            AccelerationError: it was made for others.
        """
        if self.family not in (None, family):
            raise AccelerationError(
                f"The recipe was made for pipelines of the family {self.family}, and this one is of {family}; "
                f"give a recipe for {family}, or a preset."
            )
        return dataclasses.replace(self, sampling=self.sampling.for_family(family)) if self.sampling else self

    def for_kind(self, *, rolls_out: bool) -> Self:
        """The parts that serve a kind of pipeline, of a recipe that has parts for both, as presets have.

        A pipeline that generates chunk by chunk takes the cache, any other the rest. A recipe for one kind alone stays
        as it is, to be refused by the other.
        """
        if self.kv_cache is None or (self.attention is None and self.sampling is None):
            return self
        others = {"attention": None, "sampling": None} if rolls_out else {"kv_cache": None}
        return dataclasses.replace(self, **others)

    def require_parts(self) -> None:
        """Refuse a recipe that switches nothing on.

        Raises:
            AccelerationError: it has no config.
        """
        if all(getattr(self, name) is None for name in _CONFIGS):
            raise AccelerationError(
                "The recipe switches nothing on; give it an attention, sampling or kv_cache config, or choose a preset."
            )

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON-able values; `family` and `measured` only where there is one."""
        values = fields.plain(replace(self, preset=None))
        del values["preset"]
        optional = {name: values.pop(name) for name in ("family", "measured")}
        given = {name: value for name, value in optional.items() if value is not None}
        return {"format": FORMAT, "version": VERSION, **given, **values}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build a recipe from what `to_dict` gives; parts and fields that are left out keep their defaults.

        Raises:
            AccelerationError: not a recipe, from a newer hasten, or with an unknown key or a value out of bounds.
        """
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise AccelerationError(
                f'This is not a hasten recipe; a recipe is a JSON object with "format": "{FORMAT}".'
            )
        version = values.get("version")
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise AccelerationError(f"The recipe's version is {version!r}; give a whole number from 1 to {VERSION}.")
        if version > VERSION:
            raise AccelerationError(
                f"The recipe has version {version}, this hasten reads up to {VERSION}; upgrade hasten."
            )
        parts = {name: value for name, value in values.items() if name not in ("format", "version")}
        fields.check_names(parts, ("family", "measured", *_CONFIGS), "recipe key")
        for name, config in _CONFIGS.items():
            if parts.get(name) is not None:
                parts[name] = fields.from_plain(config, parts[name], f"The recipe's {name}")
        return cls(**parts)

    def save(self, path: str | os.PathLike[str], force: bool = False) -> None:
        """Write the recipe to the JSON file `path`; an existing file is replaced only with `force`.

        Raises:
            AccelerationError: the file exists, or cannot be written.
        """
        try:
            with open(path, "w" if force else "x", encoding="utf-8") as file:
                file.write(json.dumps(self.to_dict(), indent=2) + "\n")
        except FileExistsError:
            raise AccelerationError(f"{path} exists; choose another name or pass force=True.") from None
        except OSError as error:
            raise AccelerationError(f"{path} cannot be written ({error.strerror}); choose another place.") from None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read the recipe file `path`.

        Raises:
            AccelerationError: there is no such file, it is not JSON, or not a recipe.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise AccelerationError(f"The recipe {path} cannot be read ({error.strerror}); check the path.") from None
        except ValueError as error:
            raise AccelerationError(
                f"The recipe {path} is not JSON ({error}); correct or re-create the file."
            ) from None
        return cls.from_dict(values)


def json_schema() -> dict[str, Any]:
    """JSON schema of a recipe file, generated from the dataclasses; published as `assets/recipe.schema.json`."""
    from .families import FAMILIES

    parts = {
        name: {"oneOf": [fields.json_schema(config), {"type": "null"}], "default": None}
        for name, config in _CONFIGS.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "hasten recipe",
        "type": "object",
        "additionalProperties": False,
        "required": ["format", "version"],
        "properties": {
            "format": {"const": FORMAT},
            "version": {"const": VERSION},
            "family": {
                "enum": [*FAMILIES, None],
                "default": None,
                "description": "The family of pipelines for which the recipe was made; any if there is none.",
            },
            "measured": {
                "type": ["object", "null"],
                "default": None,
                "description": "What was measured with the recipe, on what; it changes nothing.",
            },
            **parts,
        },
    }

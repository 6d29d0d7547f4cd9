"""Checks a configuration dataclass against its own field metadata and turns that metadata into a JSON schema.

A field states its bounds in JSON schema's own words, `field(default=0.5, metadata={"minimum": 0, "maximum": 1})`, so
that the constructor, a recipe file and the published schema can never disagree.
"""

import dataclasses
import difflib
import inspect
import re
from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin, get_type_hints

from .errors import AccelerationError

_JSON_TYPES = {float: "number", int: "integer", str: "string"}


def check_fields(config: Any) -> None:
    """Validate every field of the dataclass instance `config` by its annotation and metadata.

    Raises:
        AccelerationError: a value has the wrong type or lies outside its bounds.
    """
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if not _is_allowed(value, hints[field.name], field.metadata):
            allowed = _describe(hints[field.name], field.metadata)
            raise AccelerationError(f"{type(config).__name__} was given {field.name}={value!r}; give {allowed}.")


def check_names(names: Iterable[str], known: Iterable[str], what: str) -> None:
    """Refuse the first of `names` that is not in `known`, naming the nearest one.

    Raises:
        AccelerationError: a name is unknown.
    """
    known = list(known)
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean '{nearest[0]}'?" if nearest else "choose another."
            raise AccelerationError(f"'{name}' is not a {what} (known: {', '.join(known)}); {hint}")


def json_schema(config: type) -> dict[str, Any]:
    """JSON schema of the dataclass `config`; the descriptions are those of its docstring."""
    hints = get_type_hints(config)
    descriptions = _argument_descriptions(config)
    properties = {
        field.name: {
            **_type_schema(hints[field.name]),
            **field.metadata,
            "default": list(field.default) if isinstance(field.default, tuple) else field.default,
            "description": descriptions[field.name],
        }
        for field in dataclasses.fields(config)
    }
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _is_allowed(value: Any, hint: Any, bounds: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint) and not isinstance(value, bool)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_is_allowed(item, int, {"minimum": 0}) for item in value)
    accepted = (int, float) if hint is float else (hint,)
    return (
        isinstance(value, accepted)
        and not isinstance(value, bool)
        and value >= bounds.get("minimum", value)
        and value <= bounds.get("maximum", value)
        and ("exclusiveMinimum" not in bounds or value > bounds["exclusiveMinimum"])
    )


def _describe(hint: Any, bounds: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(hint))
    if get_origin(hint) is tuple:
        return "a tuple of non-negative integers"
    noun = "a number" if hint is float else "an integer"
    lower = "(" + str(bounds["exclusiveMinimum"]) if "exclusiveMinimum" in bounds else "[" + str(bounds["minimum"])
    return f"{noun} in {lower}, {bounds['maximum']}]" if "maximum" in bounds else f"{noun} of at least {lower[1:]}"


def _type_schema(hint: Any) -> dict[str, Any]:
    if get_origin(hint) is Literal:
        return {"enum": list(get_args(hint))}
    if get_origin(hint) is tuple:
        return {"type": "array", "items": {"type": "integer", "minimum": 0}}
    return {"type": _JSON_TYPES[hint]}


def _argument_descriptions(config: type) -> dict[str, str]:
    """The text of each argument in a diffusers-style docstring: ``name (`type`, ...):`` and an indented paragraph."""
    docstring = inspect.getdoc(config) or ""
    found = re.findall(r"^ {4}(\w+) \(.*\):\n((?: {8}.*\n?)+)", docstring, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}

"""Checks a configuration dataclass against its own field metadata and turns that metadata into a JSON schema.

A field states its bounds in JSON schema's own words, `field(default=0.5, metadata={"minimum": 0, "maximum": 1})`, so
that the constructor, a recipe file and the published schema can never disagree.
"""

import dataclasses
import difflib
import inspect
import math
import re
import types
from collections.abc import Iterable
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .errors import AccelerationError

_JSON_TYPES = {float: "number", int: "integer", str: "string"}
_UNIONS = (Union, types.UnionType)
_PLURALS: dict[type, str] = {int: "non-negative integers", float: "non-negative numbers"}
"""What a tuple may hold, besides dataclasses."""


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
            "default": plain(field.default),
            "description": descriptions[field.name],
        }
        for field in dataclasses.fields(config)
    }
    return {"type": "object", "additionalProperties": False, "properties": properties}


def plain(value: Any) -> Any:
    """A configuration, or a value in one, as JSON has it."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def from_plain(config: type, values: Any, where: str) -> Any:
    """Build the dataclass `config` from what `plain` gives; fields that are left out keep their defaults.

    Raises:
        AccelerationError: not an object, an unknown key, or a value out of bounds; `where` says in what.
    """
    if not isinstance(values, dict):
        raise AccelerationError(f"{where} is {values!r}; give an object of {config.__name__}'s fields, or null.")
    hints = get_type_hints(config)
    check_names(values, (field.name for field in dataclasses.fields(config)), f"key of {where[0].lower()}{where[1:]}")
    given = {}
    for name, value in values.items():
        if isinstance(value, list):
            item: Any = get_args(hints[name])[0] if get_origin(hints[name]) is tuple else None
            nested = dataclasses.is_dataclass(item)
            value = tuple(from_plain(item, one, f"{where}'s {name}") if nested else one for one in value)
        given[name] = value
    return config(**given)


def _is_allowed(value: Any, hint: Any, bounds: Any) -> bool:
    if get_origin(hint) is Literal:
        same_type = [choice for choice in get_args(hint) if isinstance(value, type(choice))]
        return value in same_type and not isinstance(value, bool)
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        within = bounds.get("items", {"minimum": 0})
        return isinstance(value, tuple) and all(_is_allowed(one, item, within) for one in value)
    if get_origin(hint) in _UNIONS:
        return any(_is_allowed(value, option, bounds) for option in get_args(hint))
    if hint is types.NoneType:
        return value is None
    if dataclasses.is_dataclass(hint):
        return isinstance(value, hint)  # type: ignore[arg-type]
    accepted = (int, float) if hint is float else (hint,)
    return (
        isinstance(value, accepted)
        and not isinstance(value, bool)
        and value not in (math.inf, -math.inf)
        and value >= bounds.get("minimum", value)
        and value <= bounds.get("maximum", value)
        and ("exclusiveMinimum" not in bounds or value > bounds["exclusiveMinimum"])
    )


def _describe(hint: Any, bounds: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(hint))
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        if "items" in bounds:
            return f"a tuple of which each is {_describe(item, bounds['items'])}"
        return f"a tuple of {_PLURALS.get(item, item.__name__)}"
    if get_origin(hint) in _UNIONS:
        return ", or ".join(_describe(option, bounds) for option in get_args(hint))
    if hint is types.NoneType:
        return "None"
    noun = "a number" if hint is float else "an integer"
    if "maximum" in bounds:
        lower = f"({bounds['exclusiveMinimum']}" if "exclusiveMinimum" in bounds else f"[{bounds['minimum']}"
        return f"{noun} in {lower}, {bounds['maximum']}]"
    if "exclusiveMinimum" in bounds:
        return f"a finite number above {bounds['exclusiveMinimum']}"
    return f"{noun} of at least {bounds['minimum']}"


def _type_schema(hint: Any) -> dict[str, Any]:
    if get_origin(hint) is Literal:
        return {"enum": list(get_args(hint))}
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        number = {"type": _JSON_TYPES.get(item), "minimum": 0}
        return {"type": "array", "items": number if item in _PLURALS else json_schema(item)}
    if get_origin(hint) in _UNIONS:
        first, _ = get_args(hint)  # the other is None
        return {"type": [_JSON_TYPES[first], "null"]}
    return {"type": _JSON_TYPES[hint]}


def _argument_descriptions(config: type) -> dict[str, str]:
    """The text of each argument in a diffusers-style docstring: ``name (`type`, ...):`` and an indented paragraph."""
    docstring = inspect.getdoc(config) or ""
    found = re.findall(r"^ {4}(\w+) \(.*\):\n((?: {8}.*\n?)+)", docstring, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}

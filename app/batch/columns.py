"""What a row may say: the columns of CSV, the keys of JSONL, and the values that they take."""

import difflib
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hasten.app.errors import UserError
from hasten.app.options import LARGEST_SEED

NEAR = 0.75
"""Likeness from which an unknown column is a misspelt one rather than somebody's own."""


@dataclass(frozen=True)
class Row:
    """
    What one line of a prompt file asks for; what it leaves out is `None`.

    Args:
        source (`str`): File and line.
        error (`str | None`): Why it cannot be understood.
    """

    source: str
    prompt: str = ""
    id: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    steps: int | None = None
    guidance: float | None = None
    preset: str | None = None
    recipe: Path | None = None
    sampling: str | None = None
    error: str | None = None


def row_of(source: str, folder: Path, values: Mapping[str, Any]) -> Row:
    """The row that `values` describe, as CSV or JSON gives them; an empty value is none.

    Args:
        source: File and line.
        folder: Where a relative recipe path begins.
    """
    try:
        check_columns(values)
        fields: dict[str, Any] = {}
        for name, value in values.items():
            value = value.strip() if isinstance(value, str) else value
            if name in COLUMNS and value not in (None, ""):
                fields |= COLUMNS[name](name, value)
        if "prompt" not in fields:
            raise UserError("the prompt is missing; say what to draw.")
    except UserError as error:
        return Row(source, error=str(error))
    if "recipe" in fields:
        fields["recipe"] = folder / fields["recipe"]
    return Row(source, **fields)


def check_columns(names: Iterable[str]) -> None:
    """Refuse a name that is nearly one of `COLUMNS`; any other unknown one is somebody's own.

    Raises:
        UserError: a name looks misspelt.
    """
    for name in names:
        nearest = difflib.get_close_matches(name, COLUMNS, n=1, cutoff=NEAR)
        if name not in COLUMNS and nearest:
            raise UserError(f"'{name}' is not a column; did you mean '{nearest[0]}'?")


def _text(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, str):
        raise UserError(f"{name} is {value!r}; give text.")
    if any(unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t" for character in value):
        raise UserError(f"{name} holds control characters or halves of characters; remove them.")
    return {name: value}


def _name(name: str, value: Any) -> dict[str, Any]:
    return _text(name, str(value) if isinstance(value, int) and not isinstance(value, bool) else value)


def _path(name: str, value: Any) -> dict[str, Any]:
    return {name: Path(_text(name, value)[name])}


def _whole(least: int, most: int = LARGEST_SEED) -> Callable[[str, Any], dict[str, Any]]:
    def convert(name: str, value: Any) -> dict[str, Any]:
        text = str(value)
        if isinstance(value, bool) or not re.fullmatch(r"\d{1,19}", text, re.ASCII) or not least <= int(text) <= most:
            raise UserError(f"{name} is {value!r}; give a whole number of at least {least}.")
        return {name: int(text)}

    return convert


def _positive(name: str, value: Any) -> dict[str, Any]:
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 <= number < float("inf"):
        raise UserError(f"{name} is {value!r}; give a number of at least 0.")
    return {name: number}


def _size(name: str, value: Any) -> dict[str, Any]:
    match = re.fullmatch(r"(\d{1,6}) *(?:[x×] *(\d{1,6}))?", str(value), re.ASCII)
    if match is None or isinstance(value, bool):
        raise UserError(f"{name} is {value!r}; give width and height such as 1024x768, or one number for both.")
    pixels = _whole(1)
    width = pixels("width", match[1])
    return width | pixels("height", match[2] or match[1])


COLUMNS: dict[str, Callable[[str, Any], dict[str, Any]]] = {
    "prompt": _text,
    "id": _name,
    "negative_prompt": _text,
    "seed": _whole(0),
    "size": _size,
    "width": _whole(1),
    "height": _whole(1),
    "frames": _whole(1),
    "steps": _whole(1),
    "guidance": _positive,
    "preset": _text,
    "recipe": _path,
    "sampling": _text,
}
"""Every column, and what turns its value into fields of a `Row`."""

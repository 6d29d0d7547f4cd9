"""Rows of prompt files: a line that cannot be understood becomes a row that says so, and the others go on."""

import csv
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hasten.app.batch.columns import COLUMNS, Row, row_of
from hasten.app.batch.sources import Source
from hasten.app.errors import UserError


@dataclass(frozen=True)
class Rows:
    """Rows in the order of the files, and the names of columns that mean nothing here."""

    rows: tuple[Row, ...]
    ignored: tuple[str, ...]


def read_rows(sources: Sequence[Source]) -> Rows:
    """All rows of all sources; the second row of an id is an error.

    Raises:
        UserError: there is no row, or a CSV file has no header with a prompt in it.
    """
    rows: list[Row] = []
    ignored: dict[str, None] = {}
    for source in sources:
        for line, values in _PARSERS[source.format or _guess(source.text)](source):
            place = f"{source.name} line {line}"
            if isinstance(values, str):
                rows.append(Row(place, error=values))
            else:
                rows.append(row_of(place, source.folder, values))
                ignored |= dict.fromkeys(name for name in values if name not in COLUMNS)
    if not rows:
        names = ", ".join(source.name for source in sources)
        raise UserError(f"There is no prompt in {names}; write one a line.")
    return Rows(_unique(rows), tuple(ignored))


Parsed = Iterator[tuple[int, Mapping[str, Any] | str]]
"""Line number, from 1, and the values there or the reason why there are none."""


def _plain_lines(source: Source) -> Parsed:
    for number, line in enumerate(source.text.split("\n"), start=1):
        if line.strip():
            yield number, {"prompt": line}


def _json_lines(source: Source) -> Parsed:
    for number, line in enumerate(source.text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            yield number, "this line is not JSON; correct it."
            continue
        yield number, values if isinstance(values, dict) else "this line is no JSON object; write {…}."


def _csv_lines(source: Source) -> Parsed:
    # split at line feeds alone: other Unicode line ends may be part of a prompt
    lines = [line + "\n" for line in source.text.split("\n")]
    delimiter = _delimiter(source.text)
    header: list[str] | None = None
    start = 0
    while start < len(lines):
        # each row by itself: a quote that is never closed breaks its own line and no other
        reader = csv.reader(itertools.islice(lines, start, None), delimiter=delimiter, strict=True)
        try:
            cells = next(reader)
        except csv.Error as error:
            yield start + 1, f"this row is not CSV ({error}); correct it."
            start += 1
            continue
        if not any(cell.strip() for cell in cells):
            pass
        elif header is None:
            header = _header(source, cells)
        elif len(cells) != len(header):
            yield (
                start + 1,
                f"this row has {len(cells)} cells, the header {len(header)}; quote cells with commas in them.",
            )
        else:
            yield start + 1, dict(zip(header, cells, strict=True))
        start += reader.line_num


def _header(source: Source, cells: list[str]) -> list[str]:
    header = [cell.strip().lower() for cell in cells]
    if "prompt" not in header:
        raise UserError(
            f"Prompt file '{source.name}' has no column 'prompt' in its first line; it may have {', '.join(COLUMNS)}."
        )
    if len(set(header)) < len(header):
        raise UserError(f"Prompt file '{source.name}' has two columns of one name; rename one.")
    return header


def _delimiter(text: str) -> str:
    header = text.lstrip("\n").partition("\n")[0]
    return max(",;\t", key=header.count)


def _guess(text: str) -> str:
    """The format of a text that has no file name: JSON lines begin with a brace, CSV with a header."""
    head = text.lstrip().partition("\n")[0]
    if head.startswith("{"):
        return "jsonl"
    names = {cell.strip().lower() for cell in head.split(_delimiter(text))}
    return "csv" if "prompt" in names and names <= set(COLUMNS) else "txt"


_PARSERS = {"txt": _plain_lines, "csv": _csv_lines, "jsonl": _json_lines}


def _unique(rows: list[Row]) -> tuple[Row, ...]:
    first: dict[str, str] = {}
    checked = []
    for row in rows:
        if row.id is not None and row.id in first:
            row = replace(row, error=f"id '{row.id}' is that of {first[row.id]}; choose another.")
        elif row.id is not None:
            first[row.id] = row.source
        checked.append(row)
    return tuple(checked)

"""Where prompts come from: files, patterns of file names, and standard input."""

import glob
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hasten.app.errors import UserError

STANDARD_INPUT = "-"
FORMATS = {".txt": "txt", ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


@dataclass(frozen=True)
class Source:
    """
    A text with prompts in it.

    Args:
        name (`str`): As messages call it.
        folder (`Path`): Where relative paths in it begin.
        format (`str | None`): One of `FORMATS`' values; `None` if only the text itself can tell.
        text (`str`): With line feeds as the only line ends.
    """

    name: str
    folder: Path
    format: str | None
    text: str


def open_sources(names: Sequence[str]) -> list[Source]:
    """Read every file that `names` stand for, in order; `-` is standard input, patterns are sorted.

    Raises:
        UserError: a file is missing, unreadable, no text or of no known kind, or a pattern fits nothing.
    """
    return [_standard_input() if name == STANDARD_INPUT else _file(name) for name in _expand(names)]


def _expand(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        path = str(Path(name).expanduser())
        if not glob.has_magic(path) or Path(path).exists():
            found.append(path)
            continue
        matches = sorted(match for match in glob.glob(path, recursive=True) if Path(match).is_file())
        if not matches:
            raise UserError(f"No file fits the pattern '{name}'; correct it, or name the files.")
        found += matches
    return found


def _standard_input() -> Source:
    return Source("standard input", Path(), None, _text("standard input", sys.stdin.buffer.read()))


def _file(name: str) -> Source:
    path = Path(name)
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"Prompt file '{name}' is of an unknown kind; give one of {', '.join(FORMATS)}.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"Prompt file '{name}' cannot be read ({error.strerror}); correct the path.") from error
    return Source(name, path.parent, FORMATS[path.suffix.lower()], _text(f"Prompt file '{name}'", content))


def _text(what: str, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{what} cannot be read (it is not UTF-8 text); save it as UTF-8.") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")

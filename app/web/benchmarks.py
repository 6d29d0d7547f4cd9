"""Tables of benchmark results: those that ship with hasten, those under the outputs, and the published ones."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hasten.app.output import RESULT
from hasten.app.web.frontier import COSTS, NAMES, QUALITIES, Figure, number
from hasten.app.web.tidying import modified
from hasten.assets import ASSETS, kv_study

_KINDS = {
    "pipeline": "methods side by side",
    "sampling": "steps at a lower resolution",
    "tune": "what hasten tune found",
    "kv": "caches of keys and values",
}
"""What the first word of a shipped file's name stands for, in the order in which they are offered."""


@dataclass(frozen=True)
class Benchmark:
    """A table of results: its title, its rows, and the folder of its pictures if it has one."""

    title: str
    rows: tuple[dict[str, Any], ...]
    folder: Path | None = None

    def columns(self, known: dict[str, Figure]) -> dict[str, Figure]:
        """Those of the `known` columns that at least two rows have a finite number in."""
        return {
            column: figure
            for column, figure in known.items()
            if sum(number(row, column) is not None for row in self.rows) > 1
        }

    def pictures(self, name: str) -> list[Path]:
        """Pictures and videos of the row called `name`, in order."""
        if self.folder is None:
            return []
        stem = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
        found = [
            path for path in self.folder.iterdir() if re.fullmatch(rf"{re.escape(stem)}-\d+\.(png|mp4)", path.name)
        ]
        return sorted(found)


class Benchmarks:
    """
    All tables with columns of quality and of cost.

    Args:
        outputs (`Path`): Where `hasten` writes. A file in it is read again only after it was written again.
    """

    def __init__(self, outputs: Path) -> None:
        self._outputs = outputs
        self._published = _published()
        self._files: dict[Path, tuple[float, Benchmark | None]] = {}
        self._tables: dict[str, Benchmark] = {}

    def look(self) -> dict[str, Benchmark]:
        """The tables by their titles, as they are now."""
        files = {}
        for path, folder in self._paths():
            read, written = self._files.get(path), modified(path)
            files[path] = read if read and read[0] == written else (written, self._read(path, folder))
        self._files = files
        found = [table for _, table in files.values() if table is not None]
        self._tables = {one.title: one for one in (*found, *self._published)}
        return self._tables

    def get(self, title: str) -> Benchmark | None:
        """The table with this title at the last look, None if there was none."""
        return self._tables.get(title)

    def _paths(self) -> Iterator[tuple[Path, Path | None]]:
        """Files that may hold a table, each with the folder of its pictures."""
        for path in sorted((ASSETS / "benchmarks").glob("*.json"), key=_rank):
            yield path, None
        for path in sorted(self._outputs.rglob(RESULT)):
            yield path, path.parent

    def _read(self, path: Path, folder: Path | None) -> Benchmark | None:
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            rows = tuple(row for row in result["rows"] if any(key in row for key in NAMES))
            title = f"outputs: {folder.relative_to(self._outputs)}" if folder else _shipped_title(path.stem)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        table = Benchmark(title, rows, folder)
        return table if table.columns(COSTS) and table.columns(QUALITIES) else None


def _rank(shipped: Path) -> tuple[int, str]:
    """Orders shipped files by kind, then by name."""
    kinds = [*_KINDS]
    kind = shipped.stem.partition("-")[0]
    return kinds.index(kind) if kind in kinds else len(kinds), shipped.name


def _shipped_title(stem: str) -> str:
    kind, _, model = stem.partition("-")
    return f"{model}: {_KINDS.get(kind, kind)}"


def _published() -> list[Benchmark]:
    """The kv-quant study's own figures of the 33 cache methods, on either of its prompt sets."""
    study = kv_study()
    sets = {"MovieGen": study["moviegen"], "StoryEval": study["storyeval"]}
    return [
        Benchmark(f"kv-quant study, {name} (published)", tuple({"method": m, **row} for m, row in rows.items()))
        for name, rows in sets.items()
    ]

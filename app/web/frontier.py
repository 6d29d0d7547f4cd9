"""Benchmark results as points: which methods meet given constraints, and which of them nothing beats."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hasten.app.output import RESULT
from hasten.assets import ASSETS, kv_study

COSTS = {
    "speedup": "speed-up",
    "ratio": "compression ratio",
    "seconds": "seconds",
    "peak_bytes": "peak bytes",
    "kv_bytes": "KV bytes",
    "flops": "FLOP",
}
QUALITIES = {"psnr": "PSNR, dB", "ssim": "SSIM", "caption_accuracy": "caption accuracy"}
_MORE_IS_BETTER = {"speedup", "ratio", *QUALITIES}
_NAMES = ("name", "method")


@dataclass(frozen=True)
class Benchmark:
    """A table of results: its title, its rows, and the folder of its pictures if it has one."""

    title: str
    rows: tuple[dict[str, Any], ...]
    folder: Path | None = None

    def columns(self, known: dict[str, str]) -> dict[str, str]:
        """Those of the `known` columns that at least two rows have a finite number in."""
        return {
            column: label
            for column, label in known.items()
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


def benchmarks(outputs: Path) -> list[Benchmark]:
    """All tables with quality columns: those that ship with hasten, those under `outputs`, and the published ones."""
    shipped = [(path, None) for path in sorted((ASSETS / "benchmarks").glob("*.json"))]
    made = [(path, path.parent) for path in sorted(outputs.rglob(RESULT))]
    found = (_read(path, folder, outputs) for path, folder in (*shipped, *made))
    measured = [one for one in found if one is not None and one.columns(COSTS) and one.columns(QUALITIES)]
    return [*measured, *_published()]


def _published() -> list[Benchmark]:
    """The kv-quant study's own figures of the 33 cache methods, on either of its prompt sets."""
    study = kv_study()
    sets = {"MovieGen": study["moviegen"], "StoryEval": study["storyeval"]}
    return [
        Benchmark(f"kv-quant study, {name} (published)", tuple({"method": m, **row} for m, row in rows.items()))
        for name, rows in sets.items()
    ]


def name_of(row: dict[str, Any]) -> str:
    """Name of the method that a row is about."""
    return next(str(row[key]) for key in _NAMES if key in row)


def number(row: dict[str, Any], column: str) -> float | None:
    """A finite value, else None: of a method that did not run, or of a picture that is identical to plain."""
    value = row.get(column)
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def within(rows: Sequence[dict[str, Any]], cost: str, quality: str, least: dict[str, float]) -> list[dict[str, Any]]:
    """Rows that have both figures and, in each column of `least`, at least that much."""
    return [
        row
        for row in rows
        if number(row, cost) is not None
        and number(row, quality) is not None
        and all((number(row, column) or 0.0) >= bound for column, bound in least.items())
    ]


def pareto(rows: Sequence[dict[str, Any]], cost: str, quality: str) -> list[dict[str, Any]]:
    """Rows that no other beats in one figure without losing in the other, by rising cost."""

    def gain(row: dict[str, Any], column: str) -> float:
        return row[column] if column in _MORE_IS_BETTER else -row[column]

    best: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda row: (gain(row, cost), gain(row, quality)), reverse=True):
        if not best or gain(row, quality) > gain(best[-1], quality):
            best.append(row)
    return sorted(best, key=lambda row: row[cost])


def _read(path: Path, folder: Path | None, outputs: Path) -> Benchmark | None:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(row for row in result["rows"] if any(key in row for key in _NAMES))
        title = path.stem if folder is None else f"outputs: {folder.relative_to(outputs)}"
        return Benchmark(title, rows, folder) if rows else None
    except (OSError, ValueError, KeyError, TypeError):
        return None

"""The rows of `hasten bench kv` as CSV: one line a method, one column a figure."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_LISTS = ("drift", "motion_accuracy", "kv_used_bytes", "breaks")


def write_table(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Write the rows of `judge_rows`, with `drift_1`, `motion_1` and so on for the stretches of time.

    What was not measured, and the PSNR of identical videos, is an empty cell.
    """
    lines = [_flat(row) for row in rows]
    columns = dict.fromkeys(name for line in lines for name in line)
    with file.open("w", encoding="utf-8", newline="") as text:
        table = csv.DictWriter(text, list(columns), restval="")
        table.writeheader()
        table.writerows(lines)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    single = {name: value for name, value in row.items() if name not in _LISTS}
    drift = {f"drift_{number}": value for number, value in enumerate(row["drift"] or (), start=1)}
    motions = enumerate(row["motion_accuracy"] or (), start=1)
    motion = {f"motion_{number}": shares["all"] for number, shares in motions}
    cells = {**single, **drift, **motion, "breaks": " ".join(row["breaks"])}
    return {name: "" if value is None or value == math.inf else value for name, value in cells.items()}

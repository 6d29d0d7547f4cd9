"""The rows of a benchmark as CSV: plain numbers, in the units of `result.json`."""

import csv
import io
from collections.abc import Sequence
from typing import Any

TABLE = "table.csv"
_NOT_A_CELL = {"per_request", "pictures"}


def spreadsheet(rows: Sequence[dict[str, Any]]) -> str:
    """One line a method; the PSNR of identical pictures is `inf`, what is not known is empty."""
    columns = dict.fromkeys(name for row in rows for name in row if name not in _NOT_A_CELL)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(columns), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()

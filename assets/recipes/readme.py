"""Fills the README's tables from `assets/benchmarks/`, so that no number in it is typed: `make readme`."""

import json
from pathlib import Path
from typing import Any

from hasten.app.tables import figure_row

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "assets" / "benchmarks"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


_COLUMNS = ("steps", "speed-up", "PSNR dB", "SSIM", "captions", "density")


def _figures(rows: dict[str, dict[str, Any]]) -> str:
    return _table(["", *_COLUMNS], [figure_row(name, row, _COLUMNS) for name, row in rows.items()])


def compare_table(result: dict[str, Any]) -> str:
    """The three series of `hasten compare`."""
    names = {
        "baseline": "plain",
        "accelerated": f"hasten, `{result['recipe']['name']}`",
        "fewer_steps": "plain, equal seconds",
    }
    return _figures({name: result[key] for key, name in names.items()})


def pipeline_table(result: dict[str, Any]) -> str:
    """Every method of `hasten bench pipeline`."""
    return _figures({row["name"]: row for row in result["rows"]})


def attention_table(result: dict[str, Any]) -> str:
    """Every case of `hasten bench attention`."""
    head = ["", "dtype", "tokens", "density", "speed-up", "efficiency", "largest error", "extra memory"]
    rows = [
        [
            row["name"],
            row["dtype"],
            f"{row['tokens']:,}",
            f"{row['density']:.3f}",
            f"{row['speedup']:.2f}×",
            f"{row['efficiency']:.2f}",
            f"{row['max_error']:.0e}",
            f"{row['extra_bytes'] / 1e6:.0f} MB",
        ]
        for row in result["rows"]
    ]
    return _table(head, rows)


TABLES = {
    "compare": ("compare-emoji-image.json", compare_table),
    "bench-pipeline": ("pipeline-emoji-image.json", pipeline_table),
    "bench-sampling": ("sampling-emoji-image.json", pipeline_table),
    "bench-attention": ("attention-cpu.json", attention_table),
}


def fill(text: str) -> str:
    """`text` with the table of each `<!-- table:NAME -->` … `<!-- end -->` made anew from its benchmark file."""
    for name, (file, table) in TABLES.items():
        if not (BENCHMARKS / file).exists():
            continue
        result = json.loads((BENCHMARKS / file).read_text())
        opening, closing = f"<!-- table:{name} -->", "<!-- end -->"
        before, _, rest = text.partition(opening)
        after = rest.partition(closing)[2]
        made = f"{opening}\n{table(result)}\n\n`{result['command']}`, {result['device']}\n{closing}"
        text = before + made + after
    return text


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(fill(readme.read_text()))

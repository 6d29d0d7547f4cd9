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


def pages_table(result: dict[str, Any]) -> str:
    """Every kind of page of `hasten bench pages`."""
    head = ["pages", "seconds", "bytes", "largest error"]
    return _table(
        head,
        [
            [row["name"], f"{row['seconds_ratio']:.2f}×", f"{1 / row['bytes_ratio']:.3f}×", f"{row['max_error']:.0e}"]
            for row in result["rows"]
        ],
    )


_CACHES = (
    "plain window",
    "rtn_int8",
    "kivi_int4",
    "rtn_int4",
    "quarot_kv_int4",
    "turboquant_int4",
    "flowcache_prune_int4",
    "flowcache_soft_prune_int4",
    "attention_soft_prune_int4",
    "rtn_int2",
    "quarot_kv_int2",
    "turboquant_int2",
    "mixed_1.5bit",
    "flowcache_native_soft_prune_int4",
)
"""Rows of `hasten bench kv` that the README has room for; the benchmark's file has all."""


def caches_table(result: dict[str, Any]) -> str:
    """Some methods of `hasten bench kv`, `_CACHES`."""
    rows = {row["method"]: row for row in result["rows"]}
    head = ["", "bytes", "× time", "PSNR dB", "last stretch dB", "SSIM", "captions"]
    return _table(head, [_cache_row(rows[name]) for name in _CACHES])


def _cache_row(row: dict[str, Any]) -> list[str]:
    figures = [
        f"{1 / row['ratio']:.3f}×",
        f"{row['seconds_ratio']:.2f}",
        _decibels(row["psnr"]),
        _decibels(row["drift"][-1]),
        f"{row['ssim']:.3f}",
        f"{row['caption_accuracy']:.0%}",
    ]
    return [row["method"] if row["family"] == "plain" else f"`{row['method']}`", *figures]


def _decibels(value: float | None) -> str:
    return "identical" if value is None else f"{value:.1f}"


TABLES = {
    "compare": ("compare-emoji-image.json", compare_table),
    "bench-pipeline": ("pipeline-emoji-image.json", pipeline_table),
    "bench-sampling": ("sampling-emoji-image.json", pipeline_table),
    "bench-attention": ("attention-cpu.json", attention_table),
    "bench-pages": ("pages-cpu.json", pages_table),
    "bench-kv": ("kv-emoji-rollout.json", caches_table),
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

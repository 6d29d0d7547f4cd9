"""What a batch comes to: counts, medians and everything that did not go well."""

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from hasten.app.batch.board import DONE, FAILED, REFUSED, WAITING
from hasten.app.batch.items import PLAIN_KIND

Row = dict[str, Any]

FIGURES = ("method", "items", "seconds", "plain", "speed-up", "PSNR dB", "SSIM", "density")
"""Header of the table of methods, whose rows `figure_row` gives."""


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures of `rows` of a manifest.

    Returns:
        `dict`: `items`; the number of them by status; `overhead`, the share of the workers' time that was spent outside
            the pipeline; `methods`, a row for each; `problems`, one for each item that is not there; `fallbacks`.
    """
    statuses = Counter(row["status"] for row in rows)
    done = [row for row in rows if row["status"] == DONE]
    methods = dict.fromkeys(row["method"] for row in done)
    return {
        "items": len(rows),
        **{status: statuses[status] for status in (DONE, FAILED, REFUSED, WAITING)},
        "overhead": _overhead(done),
        "methods": [_method(name, [row for row in done if row["method"] == name]) for name in methods],
        "problems": [
            {"item": row["item"], "source": row["source"], "error": row["error"]}
            for row in rows
            if row["status"] in (FAILED, REFUSED)
        ],
        "fallbacks": _fallbacks(done),
    }


def figure_row(method: Row) -> list[str]:
    """Cells for one of `methods`."""
    forms = {"seconds": ".2f", "plain_seconds": ".2f", "speedup": ".2f", "psnr": ".1f", "ssim": ".3f", "density": ".3f"}
    figures = ["–" if method[name] is None else format(method[name], form) for name, form in forms.items()]
    return [method["name"], str(method["items"]), *figures]


def _overhead(done: Sequence[Row]) -> float | None:
    rendering = sum(row["seconds"] + row.get(PLAIN_KIND, {"seconds": 0})["seconds"] for row in done)
    overhead = sum(row["overhead_seconds"] for row in done)
    return overhead / (rendering + overhead) if done else None


def _method(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    compared = [row for row in rows if PLAIN_KIND in row]
    plain = _median(row[PLAIN_KIND]["seconds"] for row in compared)
    seconds = _median(row["seconds"] for row in rows)
    return {
        "name": name,
        "items": len(rows),
        "seconds": seconds,
        "plain_seconds": plain,
        "speedup": plain / seconds if plain is not None and seconds else None,
        "psnr": _mean(row["psnr"] for row in compared if row["psnr"] is not None),
        "ssim": _mean(row["ssim"] for row in compared),
        "density": _mean(1.0 if row["density"] is None else row["density"] for row in rows),
    }


def _fallbacks(done: Sequence[Row]) -> list[dict[str, Any]]:
    counts: Counter[str] = Counter(fallback["reason"] for row in done for fallback in row["fallbacks"])
    return [{"reason": reason, "count": count} for reason, count in counts.items()]


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return statistics.median(found) if found else None


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return statistics.fmean(found) if found else None

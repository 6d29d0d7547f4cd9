"""What the page says about a finished comparison: the verdict, the table, the charts, and what the viewer shows."""

import math
from html import escape
from typing import Any

from hasten.app.tables import SHORT, figure_row
from hasten.app.web.charts import Line, line_chart
from hasten.app.web.components import media_url
from hasten.app.web.progress import LANES, TITLES
from hasten.app.web.runs import PastRun

_IDENTICAL = math.inf
_COLUMNS = (*SHORT, "peak MB")
_HELP = {
    "steps": "Denoising steps that were run",
    "seconds": "Of the whole call, after a warm-up",
    "speed-up": "Seconds of plain divided by these",
    "PSNR dB": "Likeness to plain, pixel by pixel: higher is closer, and above 30 few people see a difference",
    "SSIM": "Likeness of structure to plain: higher is closer, and 1 is identical",
    "captions": "Whether a judge finds the result true to its caption, where the prompt is an example",
    "density": "Share of all query-key pairs that attention computed: 1 is all of them",
    "peak MB": "Most memory that the call took",
}


def finished_view(run: PastRun) -> dict[str, Any]:
    """Value of the viewer for a finished comparison."""

    def item(name: str) -> dict[str, Any]:
        figures = run.result[name]
        speed = "" if name == "baseline" else f", {figures['speedup']:.2f}×"
        label = f"{TITLES[name]}: {figures['steps']} steps, {figures['seconds']:.2f} s{speed}"
        return {"src": media_url(run.media(name)), "label": label}

    video = run.media("baseline").suffix == ".mp4"
    return {
        "kind": "video" if video else "image",
        "aspect": run.aspect,
        "fps": run.result.get("fps"),
        "frames": run.result.get("frames"),
        "left": item("baseline"),
        "right": [item("accelerated"), item("fewer_steps")],
    }


def figures(run: PastRun) -> str:
    """Verdict, table and charts of a finished comparison."""
    rows = "".join(_row(TITLES[name], run.result[name]) for name in LANES)
    head = "".join(f'<th scope="col" title="{_HELP[name]}">{escape(name)}</th>' for name in _COLUMNS)
    table = f'<table class="figures"><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return (
        f'<section class="result">{verdict(run)}'
        f'<div class="scroll" tabindex="0" role="region" aria-label="Figures">{table}</div>'
        f'<div class="charts">{_charts(run)}</div>{_fallbacks(run)}</section>'
    )


def verdict(run: PastRun) -> str:
    """What to make of the comparison: how much faster and how close, what fewer steps give, and how to read dB."""
    fast, fewer = run.result["accelerated"], run.result["fewer_steps"]
    psnr, fewer_psnr = _psnr(fast), _psnr(fewer)
    speed = f"{fast['speedup']:.2f}× faster" if fast["speedup"] >= 1 else f"{1 / fast['speedup']:.2f}× slower"
    likeness = "and identical to plain" if psnr == _IDENTICAL else f"with {psnr:.1f} dB of likeness to plain"
    if fewer["steps"] == run.result["baseline"]["steps"]:
        advice = "No time is saved at this size and these steps; more tokens or more steps give it more to do."
    else:
        judgement = "fewer steps win here" if fewer_psnr > psnr else "acceleration wins here"
        reached = "an identical picture" if fewer_psnr == _IDENTICAL else f"{fewer_psnr:.1f} dB"
        advice = f"At equal seconds, plain with {fewer['steps']} steps reaches {reached}: {judgement}."
    reading = "" if psnr == fewer_psnr == _IDENTICAL else " Higher dB are closer."
    return f'<p class="verdict"><strong>{speed}</strong> {likeness}. <span>{advice}{reading}</span></p>'


def _psnr(figures: dict[str, Any]) -> float:
    """PSNR in dB; a result file has null for identical pictures."""
    return _IDENTICAL if figures["psnr"] is None else figures["psnr"]


def _row(title: str, figures: dict[str, Any]) -> str:
    name, *cells = figure_row(title, {**figures, "psnr": _psnr(figures)}, _COLUMNS)
    return f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'


def _charts(run: PastRun) -> str:
    steps: dict[str, list[dict[str, Any]]] = run.result.get("step_by_step", {})
    lanes = [(name, marks) for name, marks in steps.items() if name in LANES[:2] and marks]

    def lines(values: Any) -> list[Line]:
        return [
            Line(TITLES[name], name, [(index, values(mark)) for index, mark in enumerate(marks, start=1)])
            for name, marks in lanes
        ]

    if not lanes:
        return ""
    charts = [
        line_chart("Time per step", lines(lambda mark: mark["seconds"]), "step", "seconds"),
        line_chart("Attention density", lines(lambda mark: mark["density"]), "step", "density"),
    ]
    if "kv_cache" in run.result:
        charts.append(_cache_chart(run.result["kv_cache"]))
    if len({tuple(mark["size"]) for _, marks in lanes for mark in marks}) > 1:
        charts.append(line_chart("Resolution per step", lines(lambda mark: mark["size"][0]), "step", "pixels wide"))
    return "".join(charts)


def _cache_chart(cache: dict[str, Any]) -> str:
    """Bytes of keys and values that are in use after each chunk, beside those of the whole window in 16 bits."""
    used = [(chunk, nbytes / 1e6) for chunk, nbytes in enumerate(cache["used_bytes"], start=1)]
    exact = [(chunk, cache["exact_bytes"] / 1e6) for chunk, _ in used]
    lines = [Line("window in 16 bits", "baseline", exact), Line(cache["method"], "accelerated", used)]
    return line_chart("KV cache", lines, "chunk", "MB")


def _fallbacks(run: PastRun) -> str:
    fallbacks = run.result.get("fallbacks") or []
    told = [f"{one['where']}: {one['reason']} ({one['count']}×)" for one in fallbacks]
    items = "".join(f"<li>{escape(line)}</li>" for line in told)
    return f'<p class="note">Ran without acceleration:</p><ul class="note">{items}</ul>' if items else ""

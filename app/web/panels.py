"""What the page says about a comparison: progress while it runs, the verdict, the table and the charts after it."""

import base64
import math
from html import escape
from typing import Any

from hasten.app.tables import SHORT, figure_row
from hasten.app.web.charts import Line, line_chart
from hasten.app.web.comparing import WARM_UP
from hasten.app.web.components import media_url
from hasten.app.web.progress import LANES, Lane, Progress
from hasten.app.web.runs import PastRun

TITLES = {"baseline": "plain", "accelerated": "accelerated", "fewer_steps": "plain, equal seconds"}
_IDENTICAL = math.inf
_COLUMNS = (*SHORT, "peak MB")


def running(progress: Progress, ahead: int) -> str:
    """The progress panel of a comparison that waits or runs, `ahead` being the jobs before it."""
    if ahead:
        noun = "comparison" if ahead == 1 else "comparisons"
        return (
            f'<section class="run"><p class="phase" role="status">Waiting: {ahead} {noun} ahead of yours</p></section>'
        )
    lanes = "".join(_ribbon(TITLES[name], lane) for name, lane in progress.lanes.items())
    return f'<section class="run"><p class="phase" role="status">{_phase(progress)}</p>{lanes}</section>'


def message(text: str, kind: str = "note") -> str:
    """One sentence in place of the progress panel; `kind` is "note" or "error"."""
    role = "alert" if kind == "error" else "status"
    return f'<section class="run"><p class="phase {kind}" role="{role}">{escape(text)}</p></section>'


def live_view(progress: Progress, aspect: float) -> dict[str, Any]:
    """Value of the viewer while a comparison runs: previews, and pictures as soon as they are there."""

    def item(name: str) -> dict[str, Any]:
        lane = progress.lanes.get(name)
        if lane is None:
            return {"src": None, "label": TITLES[name]}
        data = lane.finished or lane.preview
        done = f"{lane.seconds:.2f} s" if lane.seconds is not None else f"step {len(lane.marks)} of {len(lane.plan)}"
        label = f"{TITLES[name]}, {done}"
        return {"src": data and f"data:image/png;base64,{base64.b64encode(data).decode()}", "label": label}

    return {"kind": "live", "aspect": aspect, "left": item("baseline"), "right": [item("accelerated")]}


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
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in _COLUMNS)
    table = f'<table class="figures"><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return (
        f'<section class="result">{verdict(run)}'
        f'<div class="scroll" tabindex="0" role="region" aria-label="Figures">{table}</div>'
        f'<div class="charts">{_charts(run)}</div>{_fallbacks(run)}</section>'
    )


def verdict(run: PastRun) -> str:
    """What to make of the comparison, in two sentences: how much faster and how close, and what fewer steps give."""
    fast, fewer = run.result["accelerated"], run.result["fewer_steps"]
    psnr, fewer_psnr = _psnr(fast), _psnr(fewer)
    speed = f"{fast['speedup']:.2f}× faster" if fast["speedup"] >= 1 else f"{1 / fast['speedup']:.2f}× slower"
    likeness = "and identical to plain" if psnr == _IDENTICAL else f"at {psnr:.1f} dB from plain"
    if fewer["steps"] == run.result["baseline"]["steps"]:
        advice = "No time is saved at this size and these steps; more tokens or more steps give it more to do."
    else:
        judgement = "fewer steps win here" if fewer_psnr > psnr else "acceleration wins here"
        reached = "an identical picture" if fewer_psnr == _IDENTICAL else f"{fewer_psnr:.1f} dB"
        advice = f"At equal seconds, plain with {fewer['steps']} steps reaches {reached}: {judgement}."
    return f'<p class="verdict"><strong>{speed}</strong> {likeness}. <span>{advice}</span></p>'


def _psnr(figures: dict[str, Any]) -> float:
    """PSNR in dB; a result file has null for identical pictures."""
    return _IDENTICAL if figures["psnr"] is None else figures["psnr"]


def _row(title: str, figures: dict[str, Any]) -> str:
    name, *cells = figure_row(title, {**figures, "psnr": _psnr(figures)}, _COLUMNS)
    return f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'


def _phase(progress: Progress) -> str:
    if progress.phase in LANES:
        return f"Running: {TITLES[progress.phase]}"
    if progress.phase == WARM_UP:
        return "Warming up, so that first-call costs are not measured"
    return escape(progress.phase.capitalize())


def _ribbon(title: str, lane: Lane) -> str:
    """A lane: one cell a step, its colour the kind of the step, its height the resolution."""
    done = len(lane.marks)
    most = max(width for *_, (width, _) in lane.plan)
    cells = []
    for index, step in enumerate(lane.plan):
        kind = lane.marks[index].kind if index < done else step.kind
        state = "done" if index < done else "next" if index == done else ""
        cells.append(f'<i class="{kind} {state}" style="--share:{step.size[0] / most:.2f}"></i>')
    status = f"{lane.seconds:.2f} s" if lane.seconds is not None else _step_status(lane)
    return (
        f'<div class="lane"><span class="lane-name">{escape(title)}</span>'
        f'<span class="ribbon" role="img" aria-label="{done} of {len(lane.plan)} steps">{"".join(cells)}</span>'
        f'<span class="lane-status">{status}</span></div>'
    )


def _step_status(lane: Lane) -> str:
    if not lane.marks:
        return f"warm-up, step {lane.warm_up}" if lane.warm_up else ""
    mark = lane.marks[-1]
    stage = f", stage {mark.stage + 1}" if lane.plan[-1].stage else ""
    return f"{len(lane.marks)}/{len(lane.plan)} {mark.kind}, density {mark.density:.2f}{stage}"


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

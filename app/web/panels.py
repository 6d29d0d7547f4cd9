"""What the page says while a comparison waits, runs or fails."""

import base64
import logging
from concurrent.futures import CancelledError
from html import escape
from typing import Any

from hasten import AccelerationError
from hasten.app.errors import UserError
from hasten.app.web.progress import LANES, TITLES, WARM_UP, Lane, Progress

_LOG = logging.getLogger(__name__)
_KEYS = (
    '<p class="keys"><span class="dense">dense</span><span class="refresh">refresh</span>'
    '<span class="sparse">sparse</span> One cell a step; a lower one has fewer pixels.</p>'
)


def running(progress: Progress, ahead: int) -> str:
    """The progress panel of a comparison that waits or runs, `ahead` being the jobs before it."""
    if ahead:
        noun = "comparison" if ahead == 1 else "comparisons"
        return (
            f'<section class="run"><p class="phase" role="status">Waiting: {ahead} {noun} ahead of yours</p></section>'
        )
    lanes = "".join(_ribbon(TITLES[name], lane) for name, lane in progress.lanes.items())
    keys = _KEYS if lanes else ""
    return f'<section class="run"><p class="phase" role="status">{_phase(progress)}</p>{lanes}{keys}</section>'


def message(text: str, kind: str = "note") -> str:
    """One sentence in place of the progress panel; `kind` is "note" or "error"."""
    role = "alert" if kind == "error" else "status"
    return f'<section class="run"><p class="phase {kind}" role="{role}">{escape(text)}</p></section>'


def failure(error: Exception) -> str:
    """What is told of an error that ended a comparison, or kept it from starting."""
    if isinstance(error, CancelledError):
        return message("Stopped. Nothing was kept.")
    if isinstance(error, UserError | AccelerationError):
        return message(str(error), "error")
    _LOG.error("The page failed.", exc_info=error)
    return message("The page failed over this comparison; reload it and try again, or see the app's log.", "error")


def live_view(progress: Progress) -> dict[str, Any]:
    """Value of the viewer while a comparison runs: previews, and pictures as soon as they are there."""
    width, height = next((lane.plan[0].size for lane in progress.lanes.values()), (1, 1))

    def item(name: str) -> dict[str, Any]:
        lane = progress.lanes.get(name)
        if lane is None:
            return {"src": None, "label": TITLES[name]}
        data = lane.finished or lane.preview
        done = f"{lane.seconds:.2f} s" if lane.seconds is not None else f"step {len(lane.marks)} of {len(lane.plan)}"
        label = f"{TITLES[name]}, {done}"
        return {"src": data and f"data:image/png;base64,{base64.b64encode(data).decode()}", "label": label}

    return {"kind": "live", "aspect": width / height, "left": item("baseline"), "right": [item("accelerated")]}


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
        return f"warm-up, step {lane.warm_up} of {max(lane.warm_up, lane.warm_up_steps)}" if lane.warm_up else ""
    mark = lane.marks[-1]
    stage = f", stage {mark.stage + 1}" if lane.plan[-1].stage else ""
    return f"{len(lane.marks)}/{len(lane.plan)} {mark.kind}, density {mark.density:.2f}{stage}"

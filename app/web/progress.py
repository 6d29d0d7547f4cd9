"""How far a comparison is: written by the thread that runs it, read by the page."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from hasten.report import StepKind, StepReport

if TYPE_CHECKING:
    from torch import Tensor

WARM_UP = "warming up"
TITLES = {"baseline": "plain", "accelerated": "accelerated", "fewer_steps": "plain, equal seconds"}
LANES = tuple(TITLES)
_PREVIEW_SECONDS = 0.2
"""Least time between two previews of a lane: the eye wants no more, and each one costs a little."""


class StepPlan(NamedTuple):
    """What a step will compute: its kind, the stage that it belongs to, and width and height in pixels."""

    kind: StepKind
    stage: int
    size: tuple[int, int]


@dataclass(frozen=True)
class StepMark:
    """A step that is over: what it computed, its seconds without the preview, its share of the query-key pairs."""

    kind: StepKind
    stage: int
    size: tuple[int, int]
    seconds: float
    density: float


@dataclass
class Lane:
    """
    One run of a comparison: the steps that it will take and those that are over; preview and picture as PNG.

    `warm_up` are the steps of its warm-up that are over, of about `warm_up_steps`.
    """

    plan: list[StepPlan]
    marks: list[StepMark] = field(default_factory=list)
    warm_up: int = 0
    warm_up_steps: int = 0
    preview: bytes | None = None
    seconds: float | None = None
    finished: bytes | None = None

    def to_list(self) -> list[dict[str, Any]]:
        """The steps that are over, as JSON-able values."""
        return [asdict(mark) for mark in self.marks]


@dataclass
class Progress:
    """The whole comparison. `version` grows with every change, so that a reader sees whether there is news."""

    phase: str = "waiting"
    lanes: dict[str, Lane] = field(default_factory=dict)
    version: int = 0

    def begin(self, name: str, lane: Lane) -> None:
        """Another run begins. The lanes are replaced, not added to: the page may be reading them."""
        self.lanes = {**self.lanes, name: lane}

    def say(self, phase: str) -> None:
        """Tell what is going on."""
        self.phase = phase
        self.changed()

    def changed(self) -> None:
        """There is news."""
        self.version += 1


class StepObserver:
    """
    Told by the pipeline at the end of every step; keeps a lane up to date.

    Args:
        lane (`Lane`): What to keep up to date.
        changed (`Callable[[], None]`): Called after every step; may raise, which ends the pipeline's call.
        preview (`Callable[[Tensor], bytes | None]`, *optional*): Makes a picture of latents.
        measured (`Callable[[], Sequence[StepReport]]`, *optional*): The steps so far as hasten reports them; dense ones
            if left out.
        warm_up (`bool`): Whether the call is a warm-up, of which only the number of steps is told.
    """

    def __init__(
        self,
        lane: Lane,
        changed: Callable[[], None],
        preview: Callable[[Tensor], bytes | None] | None = None,
        measured: Callable[[], Sequence[StepReport]] | None = None,
        warm_up: bool = False,
    ) -> None:
        self._lane, self._changed, self._preview, self._measured = lane, changed, preview, measured
        self._warm_up = warm_up
        self._last = self._shown = time.perf_counter()
        self._begun = False

    def begin(self, *_call: Any) -> None:
        """The denoiser is called: the first time the clock starts, so that no step counts the text or the set-up."""
        if not self._begun:
            self._begun = True
            self._last = time.perf_counter()

    def __call__(self, latents: Tensor) -> None:
        """A step is over and left `latents`."""
        now = time.perf_counter()
        if self._warm_up:
            self._lane.warm_up += 1
        else:
            self._mark(now - self._last)
            if self._preview is not None and now - self._shown >= _PREVIEW_SECONDS:
                self._lane.preview, self._shown = self._preview(latents), now
        self._changed()
        self._last = time.perf_counter()

    def _mark(self, seconds: float) -> None:
        step = len(self._lane.marks)
        # a pipeline that runs several rounds of steps takes more than were planned
        plan = self._lane.plan[min(step, len(self._lane.plan) - 1)]
        told = self._measured() if self._measured is not None else ()
        done = told[-1] if told else None  # a cache for rollouts tells of no steps
        kind, density = (done.kind, done.density) if done is not None else (plan.kind, 1.0)
        self._lane.marks.append(StepMark(kind, plan.stage, plan.size, seconds, density))

"""The running call of a pipeline, and when it begins: every pipeline calls `scheduler.set_timesteps` exactly then.

How many steps it has is known only when the denoiser is called first: image-to-image pipelines set the timesteps of a
whole schedule, and then begin in the midst of it.
"""

import functools
import types
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from .report import RunLog


class Participant(Protocol):
    """The hook of one denoiser."""

    def begin_run(self) -> None:
        """A run begins."""

    def plan_run(self, num_inference_steps: int) -> None:
        """The run has that many steps, and the first of them comes now."""

    def leave(self) -> None:
        """Another denoiser takes over in the running call; nothing need be kept for this one."""


class Run:
    """The running call of a pipeline, shared by the hooks on its denoisers, of which one is called in each step."""

    def __init__(self, pipeline: Any) -> None:
        self.log = RunLog()
        self._pipeline = weakref.ref(pipeline)
        self._participants: list[Participant] = []
        self._active: Participant | None = None
        self._step = -1
        self._planned = True
        self._contexts: set[str] = set()
        self._scheduler: Any = None
        self._end_observation: Callable[[], None] = lambda: None

    def join(self, participant: Participant) -> None:
        """Tell `participant` of every run from now on."""
        self._participants.append(participant)
        self._follow_scheduler()

    def close(self) -> None:
        """Leave the scheduler alone again."""
        self._end_observation()
        self._end_observation = lambda: None

    @property
    def stage(self) -> int:
        """Index of the running stage, where the scheduler runs stages of different resolution."""
        return getattr(getattr(self._scheduler, "bottleneck", None), "index", 0)

    def next_step(self, participant: Participant, context: str) -> int:
        """Index of the step to which a call of the participant's denoiser in `context` belongs.

        A step calls each of its contexts once, so the first one that comes again begins the next step.
        """
        if not self._planned:
            self._plan()
        if self._active not in (None, participant):
            self._active.leave()
        self._active = participant
        if self._step < 0 or context in self._contexts:
            self._step += 1
            self._contexts.clear()
        self._contexts.add(context)
        return self._step

    def catch_up(self) -> None:
        """Begin the run that was missed, if the pipeline's scheduler was exchanged."""
        if self._follow_scheduler():
            self._begin()

    def _follow_scheduler(self) -> bool:
        """Observe the pipeline's scheduler, also after it was exchanged; tells whether it was."""
        pipeline = self._pipeline()
        if pipeline is None or pipeline.scheduler is self._scheduler:
            return False
        self._end_observation()
        self._scheduler = pipeline.scheduler
        self._end_observation = observe_runs(self._scheduler, self._begin)
        return True

    def _begin(self) -> None:
        self.log.begin_run()
        self._step = -1
        self._planned = False
        self._contexts.clear()
        self._active = None
        for participant in self._participants:
            participant.begin_run()

    def _plan(self) -> None:
        steps = self._steps_to_run()
        for participant in self._participants:
            participant.plan_run(steps)
        self._planned = True

    def _steps_to_run(self) -> int:
        """Steps of the schedule that this call runs: an image-to-image call leaves out the first ones.

        It tells the scheduler where it begins; pipelines whose scheduler cannot be told count their steps themselves.
        """
        steps, first = len(self._scheduler.timesteps), getattr(self._scheduler, "begin_index", None)
        return min(steps, getattr(self._pipeline(), "_num_timesteps", steps)) if first is None else steps - first


def observe_runs(scheduler: Any, begin_run: Callable[[], None]) -> Callable[[], None]:
    """Call `begin_run` after each `scheduler.set_timesteps`.

    The signal is an instance attribute on the scheduler, shared by all observers of a scheduler and gone with the last
    one. As a bound method it follows its scheduler through `copy.deepcopy`.

    Returns:
        `Callable[[], None]`: ends the observation.
    """
    if not hasattr(scheduler.set_timesteps, "observers"):
        scheduler.set_timesteps = types.MethodType(_observed(type(scheduler).set_timesteps), scheduler)
    observers: list[tuple[Any, Callable[[], None]]] = scheduler.set_timesteps.observers
    entry = (scheduler, begin_run)
    observers.append(entry)

    def end_observation() -> None:
        observers.remove(entry)
        if not observers:
            del scheduler.set_timesteps

    return end_observation


def _observed(stock: Callable[..., None]) -> Callable[..., None]:
    observers: list[tuple[Any, Callable[[], None]]] = []

    @functools.wraps(stock)  # pipelines look at the signature to learn whether custom sigmas or timesteps are accepted
    def set_timesteps(self: Any, *args: Any, **kwargs: Any) -> None:
        stock(self, *args, **kwargs)
        for scheduler, begin_run in observers:
            if scheduler is self:
                begin_run()

    set_timesteps.observers = observers  # type: ignore[attr-defined]
    return set_timesteps

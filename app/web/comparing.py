"""A comparison for the page: the series that `hasten compare` measures, told step by step while they are made."""

import dataclasses
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL.Image import Image

from hasten import Recipe
from hasten.app.comparison import Comparison
from hasten.app.judging import judge_captions
from hasten.app.loading import LoadedModel
from hasten.app.measure import WARM_UP_STEPS, equal_seconds_steps, run_interleaved, warm_up
from hasten.app.methods import PLAIN, accelerated, explain_call
from hasten.app.rollouts import cache_facts
from hasten.app.series import Method, Series
from hasten.app.web.engine import Job
from hasten.app.web.keeping import keep
from hasten.app.web.limits import Limits
from hasten.app.web.needs import check_memory
from hasten.app.web.progress import LANES, WARM_UP, Lane, StepObserver, StepPlan
from hasten.app.web.runs import RunStore
from hasten.app.web.settings import Settings
from hasten.app.web.shelf import Loaded, Shelf
from hasten.app.web.stepping import step_callbacks
from hasten.app.workload import Request, Workload
from hasten.assets import prompts as held_out_scenes
from hasten.families import family_of

_LIVE_SIDE = 512
_NOT_IN_SHAPE = {"num_inference_steps", "guidance_scale", "negative_prompt"}


def compare(settings: Settings, shelf: Shelf, limits: Limits, store: RunStore, job: Job) -> str:
    """Run the comparison, keep it in `store`, and give the name of the run.

    Raises:
        UserError, AccelerationError: it cannot be run as asked.
        CancelledError: the job was cancelled.
    """
    limits.check(settings)
    job.progress.say("loading the model")
    loaded = shelf.get(settings.model)
    runner = _Runner(loaded, settings, limits, job)
    comparison = runner.run()
    job.check()
    job.progress.say("saving")
    steps = {name: lane.to_list() for name, lane in job.progress.lanes.items()}
    kv = runner.cache_facts(comparison)
    facts = {"kv_cache": kv} if kv else {}
    return keep(store, settings, runner.recipe, comparison, loaded.model, steps, facts)


class _Runner:
    """What the three runs of one comparison share."""

    def __init__(self, loaded: Loaded, settings: Settings, limits: Limits, job: Job) -> None:
        self._loaded, self._settings, self._job = loaded, settings, job
        model = loaded.model
        arguments = model.arguments(
            height=settings.height,
            width=settings.width,
            num_frames=settings.num_frames,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            negative_prompt=settings.negative_prompt or None,
        )
        check_memory(model, arguments, limits.memory_share)
        # what cannot run is refused before the first minute is spent
        self._explanation = explain_call(model, settings.recipe, arguments)
        check_memory(model, arguments, limits.memory_share, self._explanation.state_bytes)
        default = family_of(model.pipe).default_size(model.pipe)
        self._size = (arguments.get("width") or default.width, arguments.get("height") or default.height)
        self._chunks = self._explanation.kv_cache.chunks if self._explanation.kv_cache else 1
        self._workload = Workload((_request(model, settings),), arguments)

    @property
    def recipe(self) -> Recipe:
        """What runs: the parts of the recipe that serve this model, or the model's own preset."""
        return self._explanation.recipe

    def run(self) -> Comparison:
        """Plain, accelerated, and plain with the steps that fit into the latter's seconds."""
        method = accelerated(self._settings.preset, self._settings.recipe)
        baseline = self._series("baseline", PLAIN, self._workload)
        fast = self._series("accelerated", method, self._workload)
        fewer_steps = equal_seconds_steps(baseline, fast.seconds)
        fewer = self._series("fewer_steps", PLAIN, self._workload.with_steps(fewer_steps))
        figures = {
            name: {**series.figures(baseline), "caption_accuracy": judge_captions(self._loaded.model, series)}
            for name, series in zip(LANES, (baseline, fast, fewer), strict=True)
        }
        return Comparison(baseline, fast, fewer, figures)

    def cache_facts(self, comparison: Comparison) -> dict[str, Any] | None:
        """What the cache of an accelerated rollout held."""
        call = comparison.accelerated.calls[0]
        return cache_facts(self._loaded.model, self.recipe, self._workload.arguments, call)

    def _series(self, name: str, method: Method, workload: Workload) -> Series:
        lane = Lane(self._plan(method, workload.steps))
        self._job.progress.begin(name, lane)
        self._warm_up(lane, method, workload)
        self._job.progress.say(name)
        with self._followed(workload, lane, method) as followed:
            (series,) = run_interleaved(self._loaded.model, [method], followed, lambda _line: None)
        lane.seconds, lane.finished = series.seconds, _png(series.images[0])
        self._job.check()
        return series

    def _warm_up(self, lane: Lane, method: Method, workload: Workload) -> None:
        """Run `method` uncounted, unless this model did so before at this size and, where it matters, these steps."""
        shape = {name: value for name, value in workload.arguments.items() if name not in _NOT_IN_SHAPE}
        steps = workload.steps if method.changes_steps else None
        key = json.dumps([method.reports and self._settings.recipe.to_dict(), steps, shape], default=str)
        if key not in self._loaded.warm:
            steps_each = workload.steps if method.changes_steps else min(WARM_UP_STEPS, workload.steps)
            lane.warm_up_steps = len(lane.plan) * steps_each // workload.steps
            self._job.progress.say(WARM_UP)
            with self._followed(workload, lane, method, warm_up=True) as followed:
                warm_up(self._loaded.model, [method], followed)
            self._loaded.warm.add(key)

    @contextmanager
    def _followed(self, workload: Workload, lane: Lane, method: Method, warm_up: bool = False) -> Iterator[Workload]:
        """`workload` with callbacks that keep `lane` up to date and let the job be cancelled."""
        pipe, preview = self._loaded.model.pipe, self._loaded.preview
        observer = StepObserver(
            lane,
            self._job.check,
            preview=preview.png if preview is not None else None,
            measured=(lambda: pipe.acceleration_report().steps) if method.reports else None,
            warm_up=warm_up,
        )
        callbacks = step_callbacks(pipe, observer)
        with self._loaded.model.denoiser.register_forward_pre_hook(observer.begin):
            yield dataclasses.replace(workload, arguments={**workload.arguments, **callbacks})

    def _plan(self, method: Method, steps: int) -> list[StepPlan]:
        if not method.reports:
            return [StepPlan("dense", 0, self._size)] * (steps * self._chunks)
        stages = [
            (index, (stage.size[1], stage.size[0]))
            for index, stage in enumerate(self._explanation.stages)
            for _ in range(stage.steps)
        ] or [(0, self._size)] * len(self._explanation.steps)
        return [StepPlan(kind, *stage) for kind, stage in zip(self._explanation.steps, stages, strict=True)]


def _request(model: LoadedModel, settings: Settings) -> Request:
    """The request; with its scene where the prompt is a held-out one, so that captions can be judged."""
    scenes = held_out_scenes(model.name) if model.bundled else []
    scene = next((scene for scene in scenes if scene["prompt"] == settings.prompt), None)
    return Request(settings.prompt, settings.seed, scene)


def _png(image: Image) -> bytes:
    """A picture small enough to be sent with every step that follows."""
    shown = image.copy()
    shown.thumbnail((_LIVE_SIDE, _LIVE_SIDE))
    file = io.BytesIO()
    shown.save(file, "PNG", compress_level=1)
    return file.getvalue()

"""The study of KV cache methods again: each on the same prompts and seeds, beside the plain window of the pipeline."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hasten
from hasten.app.bench_kv_tally import FIGURES, Tally
from hasten.app.errors import UserError
from hasten.app.loading import LoadedModel
from hasten.app.measure import run
from hasten.app.methods import accelerated, explain_call
from hasten.app.rollouts import PLAIN_WINDOW, memory_sentence, rolls_out
from hasten.app.series import Call, Method
from hasten.app.workload import Request, Workload
from hasten.assets import kv_study
from hasten.pipelines.kv_cache import METHODS
from hasten.pipelines.self_forcing import CacheSetting
from hasten.pipelines.self_forcing.caching import Cache

BASELINE = "plain window"
SEGMENTS = 4
WARM_UP_CHUNKS = 2
"""As many as it takes to write a page and to read it."""


def cache_configs(
    only: Sequence[str] | None, window: int | None, sink_frames: int | None
) -> tuple[hasten.KVCacheConfig, ...]:
    """The methods to measure, all of them unless `only` names some.

    Raises:
        AccelerationError: there is no such method; the nearest is named.
    """
    names = dict.fromkeys(only or METHODS)
    return tuple(hasten.KVCacheConfig(name, window_frames=window, sink_frames=sink_frames) for name in names)


def bench_kv(
    model: LoadedModel,
    configs: Sequence[hasten.KVCacheConfig],
    workload: Workload,
    say: Callable[[str], None],
    segments: int = SEGMENTS,
    show: Callable[[str, Call], object] = lambda _name, _call: None,
) -> list[dict[str, Any]]:
    """Measure cache methods on a model that rolls out, all of them within a request, beside the plain window.

    Args:
        configs: One at least, all with one window and sinks.
        segments: Equal stretches of time that drift and motion are told of.
        show: Gets the name and the first video of each method, the plain window's too.

    Returns:
        A row for the plain window and one for each method, with the figures of `Tally`, `ratio`, how many times fewer
        bytes real tensors take than those of the window in 16 bits, and `published_ratio`, which the study counted
        against twice that window. A method that cannot run has no figures and says `why`.

    Raises:
        UserError: the model does not roll out, or there is no memory for the plain window.
        AccelerationError: the video is no whole number of chunks, or the window has no room for one.
    """
    bench = _Bench(model, configs, workload, segments)
    say("warming up")
    bench.warm_up()
    for number, request in enumerate(workload.requests, start=1):
        for name, call in bench.measure(request):
            say(f"{name}, {number}/{len(workload.requests)}: {call.seconds:.2f} s")
            if number == 1:
                show(name, call)
    return bench.rows()


class _Bench:
    """What the requests of one benchmark share."""

    def __init__(
        self, model: LoadedModel, configs: Sequence[hasten.KVCacheConfig], workload: Workload, segments: int
    ) -> None:
        if not rolls_out(model.pipe):
            raise UserError(f"'{model.name}' does not generate chunk by chunk; give a model that rolls out.")
        model.pipe.set_progress_bar_config(disable=True)
        self._model, self._configs, self._workload = model, configs, workload
        self._window = PlainWindow(configs[0])
        exact = dataclasses.replace(configs[0], method=PLAIN_WINDOW)
        plan = explain_call(model, hasten.Recipe(kv_cache=exact), workload.arguments).kv_cache
        assert plan is not None
        self._exact_bytes = plan.exact_bytes
        self._tallies = {name: Tally(segments) for name in (BASELINE, *(config.method for config in configs))}
        self._refused: dict[str, str] = {}

    def warm_up(self) -> None:
        """Run each method once, uncounted, on a few chunks."""
        pipe, arguments = self._model.pipe, self._workload.arguments
        frames = pipe.vae_scale_factor_temporal * (WARM_UP_CHUNKS * pipe.config.chunk_frames - 1) + 1
        few = {**arguments, "num_frames": min(arguments.get("num_frames") or frames, frames)}
        short = dataclasses.replace(self._workload, arguments=few)
        self._plain(short.requests[0], short)
        for config in self._configs:
            self._attempt(config, short.requests[0], short)

    def measure(self, request: Request) -> Iterator[tuple[str, Call]]:
        """Run all methods on a request; gives the name and the call of each as soon as it is done."""
        plain = self._plain(request, self._workload)
        self._tallies[BASELINE].add(self._model, request, self._workload, plain, plain)
        yield BASELINE, plain
        for config in self._configs:
            call = self._attempt(config, request, self._workload)
            if call is not None:
                self._tallies[config.method].add(self._model, request, self._workload, call, plain)
                yield config.method, call

    def rows(self) -> list[dict[str, Any]]:
        """A row for each method."""
        return [self._row(name, tally) for name, tally in self._tallies.items()]

    def _plain(self, request: Request, workload: Workload) -> Call:
        with memory_sentence(self._model, hasten.Recipe(), workload.arguments):
            return self._window.call(self._model, request, workload)

    def _attempt(self, config: hasten.KVCacheConfig, request: Request, workload: Workload) -> Call | None:
        """A call with a cache; none, and the reason is noted, where model or machine have no room for it."""
        if config.method in self._refused:
            return None
        recipe = hasten.Recipe(kv_cache=config)
        try:
            with memory_sentence(self._model, recipe, workload.arguments):
                return run(self._model, accelerated(config.method, recipe), request, workload)
        except ValueError as error:
            self._refused[config.method] = str(error)
            return None

    def _row(self, name: str, tally: Tally) -> dict[str, Any]:
        row = {
            "method": name,
            "family": METHODS[name].family if name in METHODS else "plain",
            "ratio": None,
            "published_ratio": kv_study()["moviegen"].get(name, {}).get("ratio"),
        }
        if name in self._refused:
            return {**row, **dict.fromkeys(FIGURES), "why": self._refused[name]}
        return {**row, **tally.figures(), "ratio": self._exact_bytes * self._window.contexts / tally.kv_bytes}


class PlainWindow:
    """
    The pipeline as it is, with the bytes of its cache.

    Args:
        config (`KVCacheConfig`): Its window and sinks are taken, where it gives any.
    """

    def __init__(self, config: hasten.KVCacheConfig) -> None:
        self._setting = CacheSetting(
            window_frames=config.window_frames,
            sink_frames=config.sink_frames,
            on_begin=self._begin,
            on_chunk=lambda cache: self._used.append(cache.used_bytes),
        )
        self._nbytes = 0
        self._used: list[int] = []
        self.contexts = 1

    def call(self, model: LoadedModel, request: Request, workload: Workload) -> Call:
        """A call that tells the bytes of its cache."""
        call = run(model, Method(BASELINE, self._active), request, workload)
        return dataclasses.replace(call, kv_bytes=self._nbytes, kv_used_bytes=tuple(self._used))

    def _begin(self, cache: Cache) -> None:
        self._nbytes, self._used, self.contexts = cache.nbytes, [], len(cache.contexts)

    @contextmanager
    def _active(self, model: LoadedModel) -> Iterator[None]:
        before = model.pipe.kv_cache
        model.pipe.kv_cache = self._setting
        try:
            yield
        finally:
            model.pipe.kv_cache = before

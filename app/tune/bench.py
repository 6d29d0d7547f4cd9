"""Measures recipes on a real pipeline."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

from hasten.app.judging import judge_captions
from hasten.app.loading import LoadedModel
from hasten.app.measure import run, warm_up
from hasten.app.methods import PLAIN, Method, accelerated, explain_call
from hasten.app.series import Call, Series
from hasten.app.tune.samples import BEST_PSNR, Entry, Measured, Sample
from hasten.app.workload import Request, Workload


class _Plain(NamedTuple):
    """The plain call of a request, as a series of one, and whether it is true to its caption."""

    series: Series
    captions: float | None


class PipelineLandscape:
    """The landscape of a loaded model.

    Args:
        model: The pipeline.
        workload: All requests; its arguments are those of every call.
        tuning, held_out: Which of the requests are for the search, and which for its confirmation.
        say: Told what takes long.
    """

    def __init__(
        self,
        model: LoadedModel,
        workload: Workload,
        *,
        tuning: Sequence[Request],
        held_out: Sequence[Request],
        say: Callable[[str], None],
    ) -> None:
        self.held_out = len(held_out)
        self._model = model
        self._tuning = replace(workload, requests=tuple(tuning))
        self._held_out = replace(workload, requests=tuple(held_out))
        self._say = say

    def probe(self, entry: Entry) -> Sample:
        """The first run of a recipe, which takes the place of a warm-up; see `Landscape`."""
        assert entry.recipe is not None
        explain_call(self._model, entry.recipe, self._tuning.arguments)
        request, method = self._tuning.requests[0], _method(entry)
        call = run(self._model, method, request, self._tuning)
        return self._against(self._first_plain, method, call, self._tuning)[0]

    def measure(self, entries: Sequence[Entry], *, held_out: bool = False) -> list[Measured]:
        """Every entry on every request; see `Landscape`."""
        workload = self._held_out if held_out else self._tuning
        methods = [_method(entry) for entry in entries]
        loads = [workload.with_steps(entry.steps or workload.steps) for entry in entries]
        if held_out:
            # the search warmed up all of them, but a resumed one did not
            warm_up(self._model, [PLAIN, *(method for method in methods if method is not PLAIN)], workload)
        else:
            _ = self._first_plain
        calls: list[list[Call]] = [[] for _ in entries]
        samples: list[list[tuple[Sample, float]]] = [[] for _ in entries]
        for number, request in enumerate(workload.requests, start=1):
            plain = self._plain(request)
            for index, (method, load) in enumerate(zip(methods, loads, strict=True)):
                call = run(self._model, method, request, load)
                calls[index].append(call)
                samples[index].append(self._against(plain, method, call, load))
            if held_out:
                self._say(f"held-out prompt {number}/{len(workload.requests)}")
        return [
            Measured(
                name=entry.name,
                samples=tuple(sample for sample, _ in own),
                seconds=statistics.median(call.seconds for call in made),
                steps=made[0].steps or load.steps,
                density=statistics.fmean(density for _, density in own),
            )
            for entry, load, own, made in zip(entries, loads, samples, calls, strict=True)
        ]

    @cached_property
    def _first_plain(self) -> _Plain:
        """The plain call of the first tuning request, after a warm-up."""
        warm_up(self._model, [PLAIN], self._tuning)
        return self._plain(self._tuning.requests[0])

    def _plain(self, request: Request) -> _Plain:
        one = replace(self._tuning, requests=(request,))
        series = Series(PLAIN, one, [run(self._model, PLAIN, request, one)])
        return _Plain(series, judge_captions(self._model, series))

    def _against(self, plain: _Plain, method: Method, call: Call, workload: Workload) -> tuple[Sample, float]:
        """The sample of `call`, and its density."""
        own = Series(method, replace(workload, requests=plain.series.workload.requests), [call])
        figures = own.figures(plain.series)
        sample = Sample(
            speedup=plain.series.seconds / call.seconds,
            psnr=min(figures["psnr"], BEST_PSNR),
            ssim=figures["ssim"],
            captions=judge_captions(self._model, own),
            plain_captions=plain.captions,
        )
        return sample, figures["density"]


def _method(entry: Entry) -> Method:
    return PLAIN if entry.recipe is None else accelerated(entry.name, entry.recipe)

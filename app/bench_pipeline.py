"""Every method on the same prompts and seeds: one row each, the plain pipeline with fewer steps always among them."""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hasten.app.benchmark.kept_calls import KeptCalls
from hasten.app.benchmark.media import still, write_media
from hasten.app.errors import as_options
from hasten.app.judging import judge_captions
from hasten.app.loading import LoadedModel
from hasten.app.measure import equal_seconds_steps, run, run_interleaved, warm_up
from hasten.app.media import video_rate
from hasten.app.methods import PLAIN
from hasten.app.metrics.judges import Judge
from hasten.app.series import Method, Series
from hasten.app.tables import COLUMNS
from hasten.app.workload import Workload, seed_of

FIGURE = "frontier.png"


def with_seeds(workload: Workload, count: int) -> Workload:
    """Each prompt `count` times, every picture with the next seed, as `hasten batch` numbers its variants."""
    if count == 1:
        return workload
    first = workload.requests[0].seed
    requests = [request for request in workload.requests for _ in range(count)]
    numbered = (dataclasses.replace(request, seed=seed_of(first, index)) for index, request in enumerate(requests))
    return dataclasses.replace(workload, requests=tuple(numbered))


def bench_pipeline(
    model: LoadedModel,
    methods: Sequence[Method],
    workload: Workload,
    say: Callable[[str], None],
    kept: KeptCalls | None = None,
) -> tuple[list[dict[str, Any]], dict[str, Series]]:
    """Measure `methods`, the plain pipeline, and the plain pipeline with the steps that fit into each one's seconds.

    Args:
        methods: What to measure; one that cannot run on this model or at these steps gets a row that says `why`.
        kept: Calls that are not measured again, and where those that are measured stay.

    Returns:
        The rows, and the series of those methods that ran. The row of a method says in `equal_seconds_steps` with how
        many steps the plain pipeline takes its seconds.
    """
    measure = run if kept is None else kept.measure
    runnable, refused = [PLAIN], {}
    say(f"warming up: {PLAIN.name}")
    warm_up(model, [PLAIN], workload)
    for method in methods:
        try:
            if kept is None or not kept.has_all(method, workload):
                say(f"warming up: {method.name}")
                warm_up(model, [method], workload)
        except Exception as error:
            # caches of diffusers fail in ways of their own on models and step counts that they do not know
            refused[method.name] = " ".join(as_options(error).split()) or type(error).__name__
        else:
            runnable.append(method)
    plain, *accelerated = run_interleaved(model, runnable, workload, say, measure)
    targets = {one.method.name: equal_seconds_steps(plain, one.seconds) for one in accelerated}
    fewer = [
        run_interleaved(model, [PLAIN], workload.with_steps(steps), say, measure)[0]
        for steps in sorted({*targets.values()} - {workload.steps}, reverse=True)
    ]
    series = {
        PLAIN.name: plain,
        **{f"plain, {one.workload.steps} steps": one for one in fewer},
        **{one.method.name: one for one in accelerated},
    }
    rows = [_row(model, name, one, plain, targets) for name, one in series.items()]
    nothing = dict.fromkeys(column.key for column in COLUMNS.values() if not column.optional)
    rows += [{"name": name, **nothing, "why": why} for name, why in refused.items()]
    return rows, series


def bench_into(
    folder: Path, model: LoadedModel, methods: Sequence[Method], workload: Workload, say: Callable[[str], None]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Measure as `bench_pipeline` does, and write every picture and the figure.

    Returns:
        The rows, each with its `pictures`, and the names of the files in `folder`.
    """
    video_rate(model)  # without it nothing could be written in the end
    model.pipe.set_progress_bar_config(disable=True)
    rows, series = bench_pipeline(model, methods, workload, say)
    files = write_media(folder, model, rows, series)
    return rows, [*files, *draw_frontier(folder, model, workload, rows, say)]


def draw_frontier(
    folder: Path, model: LoadedModel, workload: Workload, rows: Sequence[dict[str, Any]], say: Callable[[str], None]
) -> list[str]:
    """Draw quality against seconds if matplotlib is there, and give the name of the file."""
    try:
        from hasten.app.figures import frontier
    except ImportError as error:
        say(f"no figure was drawn ({error}); install hasten[bench] for it")
        return []
    frontier(rows, f"{model.name}, {workload.steps} steps, {model.pipe.device.type}", folder / FIGURE)
    return [FIGURE]


def add_judgement(rows: Sequence[dict[str, Any]], series: Mapping[str, Series], judge: Judge) -> None:
    """Add the column of `judge` to rows of `bench_pipeline`, and its figures of single requests.

    It is loaded when all pictures are made, so that no memory of its own is measured. Of videos it sees a still.
    """
    score = judge.load()
    plain = series[PLAIN.name]
    prompts = [request.prompt for request in plain.workload.requests]
    references = [still(call) for call in plain.calls]
    for row in rows:
        if row["name"] not in series:
            row[judge.column] = None
            continue
        values = score(prompts, [still(call) for call in series[row["name"]].calls], references)
        row[judge.column] = statistics.fmean(values)
        for one, value in zip(row["per_request"], values, strict=True):
            one[judge.column] = value


def _row(model: LoadedModel, name: str, series: Series, plain: Series, targets: dict[str, int]) -> dict[str, Any]:
    figures = series.figures(plain)
    for one, request, call in zip(figures["per_request"], series.workload.requests, series.calls, strict=True):
        alone = dataclasses.replace(series.workload, requests=(request,))
        one["caption_accuracy"] = judge_captions(model, Series(series.method, alone, [call]))
    shares = [one["caption_accuracy"] for one in figures["per_request"]]
    return {
        "name": name,
        **figures,
        "caption_accuracy": None if None in shares else statistics.fmean(shares),
        "equal_seconds_steps": targets.get(name),
    }

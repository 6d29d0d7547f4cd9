"""Every method on the same prompts and seeds: one row each, the plain pipeline with fewer steps always among them."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hasten.app.loading import LoadedModel
from hasten.app.measure import Method, Series, equal_seconds_steps, judge_captions, run_interleaved, warm_up
from hasten.app.methods import PLAIN
from hasten.app.workload import Workload

COLUMNS = ("name", "steps", "seconds", "speedup", "psnr", "ssim", "caption_accuracy", "peak_bytes", "density", "flops")
FIGURE = "frontier.png"


def bench_pipeline(
    model: LoadedModel,
    methods: Sequence[Method],
    workload: Workload,
    say: Callable[[str], None],
) -> tuple[list[dict[str, Any]], dict[str, Series]]:
    """Measure `methods`, the plain pipeline, and the plain pipeline with the steps that fit into each one's seconds.

    Args:
        methods: What to measure; one that cannot run on this model or at these steps gets a row that says `why`.

    Returns:
        The rows, and the series of those methods that ran. The row of a method says in `equal_seconds_steps` with how
        many steps the plain pipeline takes its seconds.
    """
    runnable, refused = [PLAIN], {}
    for method in (PLAIN, *methods):
        say(f"warming up: {method.name}")
        try:
            warm_up(model, [method], workload)
        except Exception as error:
            # caches of diffusers fail in ways of their own on models and step counts that they do not know
            refused[method.name] = " ".join(str(error).split()) or type(error).__name__
        else:
            runnable += [method] if method is not PLAIN else []
    plain, *accelerated = run_interleaved(model, runnable, workload, say)
    targets = {one.method.name: equal_seconds_steps(plain, one.seconds) for one in accelerated}
    fewer = [
        run_interleaved(model, [PLAIN], workload.with_steps(steps), say)[0]
        for steps in sorted({*targets.values()} - {workload.steps}, reverse=True)
    ]
    series = {
        PLAIN.name: plain,
        **{f"plain, {one.workload.steps} steps": one for one in fewer},
        **{one.method.name: one for one in accelerated},
    }
    rows = [
        {
            "name": name,
            **one.figures(plain),
            "caption_accuracy": judge_captions(model, one),
            "equal_seconds_steps": targets.get(name),
        }
        for name, one in series.items()
    ]
    nothing = dict.fromkeys(COLUMNS)
    rows += [{**nothing, "name": name, "why": why} for name, why in refused.items()]
    return rows, series


def bench_into(
    folder: Path, model: LoadedModel, methods: Sequence[Method], workload: Workload, say: Callable[[str], None]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Measure as `bench_pipeline` does, and write every picture and the figure.

    Returns:
        The rows, and the names of the files in `folder`.
    """
    model.pipe.set_progress_bar_config(disable=True)
    rows, series = bench_pipeline(model, methods, workload, say)
    files = []
    for name, one in series.items():
        for number, image in enumerate(one.images, start=1):
            files.append(f"{_slug(name)}-{number:02}.png")
            image.save(folder / files[-1])
    try:
        from hasten.app.figures import frontier
    except ImportError as error:
        say(f"no figure was drawn ({error}); install hasten[bench] for it")
        return rows, files
    frontier(rows, f"{model.name}, {workload.steps} steps, {model.pipe.device.type}", folder / FIGURE)
    return rows, [*files, FIGURE]


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")

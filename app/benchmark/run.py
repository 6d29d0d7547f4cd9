"""A whole benchmark: measured call by call into its folder, and told when it is complete."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hasten.app.bench_pipeline import add_judgement, bench_pipeline, draw_frontier
from hasten.app.benchmark.folder import BenchFolder
from hasten.app.benchmark.kept_calls import KeptCalls
from hasten.app.benchmark.media import write_media
from hasten.app.benchmark.report import REPORT, report
from hasten.app.benchmark.spreadsheet import TABLE, spreadsheet
from hasten.app.loading import LoadedModel
from hasten.app.machine import provenance
from hasten.app.media import video_rate
from hasten.app.metrics.judges import Judge
from hasten.app.output import output_folder, write_result
from hasten.app.series import Method
from hasten.app.workload import Workload

FORMAT = 1
"""Of the kept calls; another one cannot be gone on with."""


def measure_into(
    folder: BenchFolder,
    model: LoadedModel,
    methods: Sequence[Method],
    workload: Workload,
    say: Callable[[str], None],
    *,
    schedule: Mapping[str, Any],
    judges: Sequence[Judge],
    force: bool,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Measure, or measure what is left, and write pictures, figure, `table.csv`, `report.html` and `result.json`.

    Args:
        schedule: Name and recipe of the ablations.
        judges: Further columns; they may be others than before an interruption.
        force: Begin anew.

    Returns:
        The rows, and all that `result.json` holds.

    Raises:
        UserError: the folder holds another benchmark, is in use or cannot be written, or a judge cannot be loaded.
    """
    video_rate(model)  # without it nothing could be written in the end
    about = provenance(model.pipe.device)
    what = {"model": model.name, "schedule_of_ablations": dict(schedule)}
    settings = {
        "format": FORMAT,
        **what,
        "dtype": str(model.denoiser.dtype),
        "device": about["device"],
        "versions": about["versions"],
        **workload.describe(),
        "methods": [method.name for method in methods],
    }
    with folder.opened(settings, force=force):
        kept = KeptCalls(folder)
        if len(kept):
            say(f"going on: {len(kept)} call(s) were measured before")
        model.pipe.set_progress_bar_config(disable=True)
        rows, series = bench_pipeline(model, methods, workload, say, kept)
        for judge in judges:
            say(f"judging: {judge.label}")
            add_judgement(rows, series, judge)
        # everything is there at once or not at all; an earlier result stays until then
        with output_folder(folder.root, force=True) as finished:
            files = write_media(finished, model, rows, series)
            files += draw_frontier(finished, model, workload, rows, say)
            result = {
                **what,
                "rows": rows,
                "out": str(folder.root),
                "files": [*files, TABLE, REPORT],
                **workload.describe(),
                **about,
            }
            (finished / TABLE).write_text(spreadsheet(rows), encoding="utf-8")
            (finished / REPORT).write_text(report(result, rows, series), encoding="utf-8")
            write_result(finished, result)
    return rows, result

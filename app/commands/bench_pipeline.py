"""`hasten bench pipeline`: methods × prompts × seeds, one table, one report."""

from pathlib import Path
from typing import Annotated

import typer

from hasten.app import options
from hasten.app.console import quiet_libraries, screen
from hasten.app.errors import INTERRUPTED
from hasten.app.tables import figure_row, known_columns

COSTS = ("denoise", "decode", "TFLOP", "peak MB")
"""Columns that have a table of their own on the screen, which is narrower than a page."""


@options.with_call_options
def pipeline(
    asked: options.CallOptions,
    num_seeds: options.NumSeeds = 1,
    preset: options.Preset = None,
    recipe: options.RecipeFile = None,
    sampling: options.Sampling = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Measure this method beside the plain ones; may be repeated.")
    ] = None,
    clip: Annotated[
        str | None, typer.Option(help="A folder or hub id of a CLIP model: also its score, picture against prompt.")
    ] = None,
    lpips: Annotated[bool, typer.Option("--lpips", help="Also LPIPS, with the package lpips.")] = False,
    out: options.Out = Path("outputs/bench-pipeline"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the interrupted run in --out.")] = False,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Methods times prompts times seeds: presets, ablations of --preset, diffusers' caches, plain with fewer steps."""
    with screen(json) as shown:
        from hasten.app.bench_pipeline import with_seeds
        from hasten.app.benchmark.folder import BenchFolder
        from hasten.app.benchmark.run import measure_into
        from hasten.app.methods import choose_recipe, select_methods
        from hasten.app.metrics.judges import choose_judges
        from hasten.app.workload import prepare

        quiet_libraries()
        select_methods(*choose_recipe(preset, recipe, sampling), only)  # a mistake ends it before the model is loaded
        folder = BenchFolder(out)
        folder.check(resume=resume, force=force)
        judges = choose_judges(clip=clip, lpips=lpips)
        for judge in judges:
            judge.load()  # what is not there is refused before the first minute is spent
        loaded, workload = prepare(**vars(asked), videos=True)
        workload = with_seeds(workload, num_seeds)
        name, chosen = choose_recipe(preset, recipe, sampling, loaded.pipe)
        methods = select_methods(name, chosen, only, loaded.pipe)
        schedule = {"name": name, **chosen.to_dict()}
        try:
            rows, shown.result = measure_into(
                folder, loaded, methods, workload, shown.say, schedule=schedule, judges=judges, force=force
            )
        except KeyboardInterrupt:
            shown.messages.print("Interrupted; what is measured stays. The same command with --resume goes on.")
            raise typer.Exit(INTERRUPTED) from None
        columns = known_columns(rows)
        title = f"{loaded.name}: {len(workload.requests)} request(s), medians of whole-call seconds"
        likeness = [column for column in columns if column not in COSTS]
        costs = [column for column in columns if column in COSTS]
        shown.table(title, ("method", *likeness), [figure_row(row["name"], row, likeness) for row in rows])
        measured = [row for row in rows if "why" not in row]
        shown.table("what a call costs", ("method", *costs), [figure_row(row["name"], row, costs) for row in measured])
        shown.text(f"Report: {out / 'report.html'}\nFigures: {out / 'result.json'}, {out / 'table.csv'}")

"""`hasten calibrate`: windows fitted to a model, block by block, kept in a recipe."""

from pathlib import Path
from typing import Annotated

import typer

from hasten.app import options
from hasten.app.console import quiet_libraries, screen


@options.with_call_options
def calibrate(
    asked: options.CallOptions,
    preset: options.Preset = None,
    recipe: options.RecipeFile = None,
    out: Annotated[Path, typer.Option(help="Recipe file to write.")] = Path("calibrated.json"),
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Share the density of a recipe out among the blocks of a model, at the same cost, and write that recipe."""
    with screen(json) as shown:
        import hasten
        from hasten.app.errors import UserError
        from hasten.app.folders import check_file
        from hasten.app.loading import refuse_rollout
        from hasten.app.machine import provenance
        from hasten.app.measure import run
        from hasten.app.methods import PLAIN, choose_recipe
        from hasten.app.workload import prepare
        from hasten.presets import resolve_recipe

        quiet_libraries()
        choose_recipe(preset, recipe)  # what is wrong is refused before the model is loaded
        check_file(out, force=force)
        loaded, workload = prepare(**vars(asked), videos=True)
        refuse_rollout(loaded, "hasten calibrate")
        name, chosen = choose_recipe(preset, recipe, pipeline=loaded.pipe)
        if chosen.attention is None:
            raise UserError(f"The recipe '{name}' has no sparse attention to calibrate; give one that has.")
        loaded.pipe.set_progress_bar_config(disable=True)

        def generate() -> None:
            for number, request in enumerate(workload.requests, start=1):
                call = run(loaded, PLAIN, request, workload)
                shown.say(f"{number}/{len(workload.requests)}: {call.seconds:.2f} s")

        attention = hasten.calibrate(loaded.pipe, chosen.attention, generate)
        out.parent.mkdir(parents=True, exist_ok=True)
        resolve_recipe(chosen, attention=attention).save(out, force=force)
        densities = attention.block_densities
        shown.result = {
            "model": loaded.name,
            "name": name,
            "block_densities": densities,
            "out": str(out),
            **workload.describe(),
            **provenance(loaded.pipe.device),
        }
        rows = [(str(block), f"{density:.4f}") for block, density in enumerate(densities)]
        shown.table(f"{name} of {loaded.name}, calibrated: {out}", ("block", "density"), rows)

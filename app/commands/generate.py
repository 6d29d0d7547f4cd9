"""`hasten generate`: pictures from prompts, accelerated unless told otherwise."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hasten.app import options
from hasten.app.console import quiet_libraries, screen


def generate(
    model: options.Model = options.DEFAULT_MODEL,
    prompt: options.Prompt = None,
    prompts: options.Prompts = None,
    num_prompts: options.NumPrompts = None,
    preset: options.Preset = None,
    recipe: options.RecipeFile = None,
    sampling: options.Sampling = None,
    plain: Annotated[bool, typer.Option("--plain", help="Run the pipeline as it is, without acceleration.")] = False,
    height: options.Height = None,
    width: options.Width = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    seed: options.Seed = 0,
    stages: options.Stages = False,
    dtype: options.DtypeName = "auto",
    device: options.Device = "auto",
    out: options.Out = Path("outputs/generate"),
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Make a picture of each prompt and say what the acceleration did."""
    with screen(json) as shown:
        from hasten import Recipe
        from hasten.app.machine import provenance
        from hasten.app.measure import run
        from hasten.app.methods import PLAIN, accelerated, choose_recipe
        from hasten.app.output import output_folder, write_result
        from hasten.app.stages import StageWatch
        from hasten.app.workload import prepare

        quiet_libraries()
        name, chosen = (PLAIN.name, Recipe()) if plain else choose_recipe(preset, recipe, sampling)
        watch = StageWatch(name, chosen) if stages else None
        method = PLAIN if plain else watch.method if watch else accelerated(name, chosen)
        with output_folder(out, force=force) as folder:
            loaded, workload = prepare(
                model,
                prompt=prompt,
                prompts=prompts,
                num_prompts=num_prompts,
                height=height,
                width=width,
                steps=steps,
                guidance=guidance,
                seed=seed,
                dtype=dtype,
                device=device,
            )
            loaded.pipe.set_progress_bar_config(disable=not shown.shows_progress, leave=False)
            pictures: list[dict[str, Any]] = []
            images = []
            for number, request in enumerate(workload.requests, start=1):
                call = run(loaded, method, request, workload)
                images.append(call.image)
                file = f"{number:02}.png"
                call.image.save(folder / file)
                pictures.append(
                    {
                        "file": file,
                        "prompt": request.prompt,
                        "seed": request.seed,
                        "seconds": call.seconds,
                        "steps": call.steps or workload.steps,
                        "density": 1.0 if call.density is None else call.density,
                        "peak_bytes": call.peak_bytes,
                        "fallbacks": list(call.fallbacks),
                    }
                )
                shown.say(f"{out / file}: {call.seconds:.2f} s")
            stage_files = watch.save(loaded, workload.requests, images, folder) if watch else []
            shown.result = {
                "model": model,
                "method": method.name,
                "pictures": pictures,
                "out": str(out),
                "files": [*(picture["file"] for picture in pictures), *stage_files],
                **workload.describe(),
                **provenance(loaded.pipe.device),
            }
            write_result(folder, shown.result)
        rows = [(str(out / p["file"]), p["prompt"], f"{p['seconds']:.2f}", f"{p['density']:.3f}") for p in pictures]
        shown.table(f"{model}, {method.name}", ("file", "prompt", "seconds", "density"), rows, texts=2)

"""`hasten generate`: pictures or videos from prompts, accelerated unless told otherwise."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hasten.app import options
from hasten.app.console import quiet_libraries, screen


@options.with_call_options
def generate(
    asked: options.CallOptions,
    preset: options.Preset = None,
    recipe: options.RecipeFile = None,
    sampling: options.Sampling = None,
    kv_cache: options.KVCache = None,
    window: options.WindowFrames = None,
    sink_frames: options.SinkFrames = None,
    plain: Annotated[bool, typer.Option("--plain", help="Run the pipeline as it is, without acceleration.")] = False,
    fps: options.Fps = None,
    stages: options.Stages = False,
    out: options.Out = Path("outputs/generate"),
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Make a picture or a video of each prompt and say what the acceleration did."""
    with screen(json) as shown:
        from hasten import Recipe
        from hasten.app import rollouts
        from hasten.app.described import describe_call
        from hasten.app.errors import UserError
        from hasten.app.machine import provenance
        from hasten.app.measure import run
        from hasten.app.media import video_rate, write_media
        from hasten.app.methods import PLAIN, accelerated, choose_recipe
        from hasten.app.output import output_folder, write_result
        from hasten.app.stages import StageWatch
        from hasten.app.workload import prepare

        quiet_libraries()
        cache = rollouts.choose_cache(kv_cache, window, sink_frames)
        if plain and (cache or preset or recipe or sampling):
            raise UserError("--plain runs the pipeline as it is; leave the options of an acceleration out.")
        name, chosen = (PLAIN.name, Recipe()) if plain else rollouts.choose(cache, preset, recipe, sampling)
        with output_folder(out, force=force) as folder:
            loaded, workload = prepare(**vars(asked), videos=True)
            if not plain and cache is None:  # the model may bring presets of its own
                name, chosen = choose_recipe(preset, recipe, sampling, loaded.pipe)
            watch = StageWatch(name, chosen) if stages else None
            method = PLAIN if plain else watch.method if watch else accelerated(name, chosen)
            chosen = rollouts.fitted(loaded, chosen, workload.arguments, plain=plain)
            rate = video_rate(loaded, fps)
            loaded.pipe.set_progress_bar_config(disable=not shown.shows_progress, leave=False)
            pictures: list[dict[str, Any]] = []
            images = []
            for number, request in enumerate(workload.requests, start=1):
                with (
                    rollouts.memory_sentence(loaded, chosen, workload.arguments),
                    rollouts.cancelled_by_interrupt(loaded) as ending,
                ):
                    call = run(loaded, method, request, workload)
                images.append(call.image)
                comment = f"{loaded.name}, {name}, seed {request.seed}"
                file = write_media(call, folder, f"{number:02}", fps=rate, title=request.prompt, comment=comment)
                pictures.append({"file": file, **describe_call(call, request, workload, chosen, rate)})
                shown.say(f"{out / file}: {call.seconds:.2f} s")
                if ending.cancelled:
                    shown.say(f"cancelled; {out / file} has the {len(call.video)} frames that were done")
                    break
            stage_files = watch.save(loaded, workload.requests, images, folder) if watch else []
            shown.result = {
                "model": loaded.name,
                "method": method.name,
                "pictures": pictures,
                "out": str(out),
                "files": [*(picture["file"] for picture in pictures), *stage_files],
                **workload.describe(),
                **provenance(loaded.pipe.device),
            }
            write_result(folder, shown.result)
        rows = [(str(out / p["file"]), p["prompt"], f"{p['seconds']:.2f}", f"{p['density']:.3f}") for p in pictures]
        shown.table(f"{loaded.name}, {method.name}", ("file", "prompt", "seconds", "density"), rows, texts=2)

"""`hasten compare`: the same prompts and seeds plain, accelerated, and plain with fewer steps at equal seconds."""

from pathlib import Path

from hasten.app import options
from hasten.app.console import quiet_libraries, screen
from hasten.app.tables import SHORT, figure_row

PICTURE = "side-by-side.png"


def compare(
    model: options.Model = options.DEFAULT_MODEL,
    prompt: options.Prompt = None,
    prompts: options.Prompts = None,
    num_prompts: options.NumPrompts = None,
    preset: options.Preset = None,
    recipe: options.RecipeFile = None,
    sampling: options.Sampling = None,
    height: options.Height = None,
    width: options.Width = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    seed: options.Seed = 0,
    stages: options.Stages = False,
    dtype: options.DtypeName = "auto",
    device: options.Device = "auto",
    out: options.Out = Path("outputs/compare"),
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Plain, accelerated, and plain with fewer steps at equal seconds: pictures, seconds and likeness."""
    with screen(json) as shown:
        from hasten.app.comparison import compare_with_plain
        from hasten.app.machine import provenance
        from hasten.app.methods import accelerated, choose_recipe, explain_call
        from hasten.app.output import output_folder, write_result
        from hasten.app.stages import StageWatch
        from hasten.app.workload import prepare

        quiet_libraries()
        name, chosen = choose_recipe(preset, recipe, sampling)
        watch = StageWatch(name, chosen) if stages else None
        method = watch.method if watch else accelerated(name, chosen)
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
            # what cannot run is refused before the first minute is spent
            explain_call(loaded, chosen, workload.arguments)
            comparison = compare_with_plain(loaded, method, workload, shown.say)
            files = []
            for kind, series in comparison.series.items():
                for number, image in enumerate(series.images, start=1):
                    files.append(f"{kind.replace('_', '-')}-{number:02}.png")
                    image.save(folder / files[-1])
            comparison.picture().save(folder / PICTURE)
            if watch:
                files += watch.save(loaded, workload.requests, comparison.accelerated.images, folder)
            shown.result = {
                "model": model,
                "recipe": {"name": name, **chosen.to_dict()},
                "speedup": comparison.figures["accelerated"]["speedup"],
                "speedup_is": "ratio of the medians over the prompts of whole-call seconds",
                **comparison.figures,
                "out": str(out),
                "files": [PICTURE, *files],
                **workload.describe(),
                **provenance(loaded.pipe.device),
            }
            write_result(folder, shown.result)
        shown.table(
            f"{model}: {len(workload.requests)} prompt(s), {name}",
            ("", *SHORT),
            [figure_row(kind.replace("_", " "), figures, SHORT) for kind, figures in comparison.figures.items()],
        )
        shown.text(f"Side by side: {out / PICTURE}\nFigures: {out / 'result.json'}")

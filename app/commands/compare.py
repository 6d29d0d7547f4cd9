"""`hasten compare`: the same prompts and seeds plain, accelerated, and plain with fewer steps at equal seconds."""

from pathlib import Path

from hasten.app import options
from hasten.app.console import quiet_libraries, screen
from hasten.app.tables import SHORT, figure_row


@options.with_call_options
def compare(
    asked: options.CallOptions,
    preset: options.Preset = None,
    recipe: options.RecipeFile = None,
    sampling: options.Sampling = None,
    kv_cache: options.KVCache = None,
    window: options.WindowFrames = None,
    sink_frames: options.SinkFrames = None,
    fps: options.Fps = None,
    stages: options.Stages = False,
    out: options.Out = Path("outputs/compare"),
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Plain, accelerated, and plain with fewer steps at equal seconds: pictures or videos, seconds and likeness."""
    with screen(json) as shown:
        from hasten.app import rollouts
        from hasten.app.comparison import compare_with_plain
        from hasten.app.comparison_files import write_comparison
        from hasten.app.machine import provenance
        from hasten.app.media import video_rate
        from hasten.app.methods import accelerated, choose_recipe
        from hasten.app.output import output_folder, write_result
        from hasten.app.stages import StageWatch
        from hasten.app.workload import prepare

        quiet_libraries()
        cache = rollouts.choose_cache(kv_cache, window, sink_frames)
        name, chosen = rollouts.choose(cache, preset, recipe, sampling)
        with output_folder(out, force=force) as folder:
            loaded, workload = prepare(**vars(asked), videos=True)
            if cache is None:  # the model may bring presets of its own
                name, chosen = choose_recipe(preset, recipe, sampling, loaded.pipe)
            watch = StageWatch(name, chosen) if stages else None
            loaded.pipe.set_progress_bar_config(disable=not shown.shows_progress, leave=False)
            method = watch.method if watch else accelerated(name, chosen)
            chosen = rollouts.fitted(loaded, chosen, workload.arguments, plain=False)
            rate = video_rate(loaded, fps)
            with rollouts.memory_sentence(loaded, chosen, workload.arguments):
                comparison = compare_with_plain(loaded, method, workload, shown.say)
            files = write_comparison(comparison, folder, loaded.name, rate)
            if watch:
                files += watch.save(loaded, workload.requests, comparison.accelerated.images, folder)
            video = comparison.baseline.calls[0].video
            kv = rollouts.cache_facts(loaded, chosen, workload.arguments, comparison.accelerated.calls[0])
            shown.result = {
                "model": loaded.name,
                "recipe": {"name": name, **chosen.to_dict()},
                "speedup": comparison.figures["accelerated"]["speedup"],
                "speedup_is": "ratio of the medians over the prompts of whole-call seconds",
                **comparison.figures,
                **({"kv_cache": kv} if kv else {}),
                **({"frames": len(video), "fps": rate} if video else {}),
                "out": str(out),
                "files": files,
                **workload.describe(),
                **provenance(loaded.pipe.device),
            }
            write_result(folder, shown.result)
        shown.table(
            f"{loaded.name}: {len(workload.requests)} prompt(s), {name}",
            ("", *SHORT),
            [figure_row(kind.replace("_", " "), figures, SHORT) for kind, figures in comparison.figures.items()],
        )
        shown.text(f"Side by side: {out / files[0]}\nFigures: {out / 'result.json'}")

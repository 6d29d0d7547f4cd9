"""`hasten explain`: what an acceleration would do, before anything runs."""

from typing import Annotated, Any

import typer

from hasten.app import options
from hasten.app.console import quiet_libraries, screen


def explain(
    model: options.Model = options.DEFAULT_MODEL,
    preset: options.Preset = None,
    recipe: options.RecipeFile = None,
    sampling: options.Sampling = None,
    kv_cache: options.KVCache = None,
    window: options.WindowFrames = None,
    sink_frames: options.SinkFrames = None,
    height: options.Height = None,
    width: options.Width = None,
    frames: options.Frames = None,
    steps: options.Steps = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="Time three steps at each resolution to predict seconds, and attention to find its break-even.",
        ),
    ] = False,
    dtype: options.DtypeName = "auto",
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """What would be sparse, what it would save, what stays dense and why; of a chunk-wise video, the cache's bytes."""
    with screen(json) as shown:
        from hasten.app import rollouts
        from hasten.app.break_even import break_even_of
        from hasten.app.loading import load_model
        from hasten.app.methods import choose_recipe, explain_call

        quiet_libraries()
        cache = rollouts.choose_cache(kv_cache, window, sink_frames)
        name, chosen = rollouts.choose(cache, preset, recipe, sampling)
        loaded = load_model(model, dtype=dtype, device=device, videos=True)
        if cache is None:  # the model may bring presets of its own
            name, chosen = choose_recipe(preset, recipe, sampling, loaded.pipe)
        arguments = loaded.arguments(height=height, width=width, num_frames=frames, num_inference_steps=steps)
        loaded.pipe.set_progress_bar_config(disable=True)
        explanation = explain_call(loaded, chosen, arguments, _call(arguments) if measure else None)
        shown.result = {"model": model, "name": name, **explanation.to_dict()}
        shown.text(str(explanation))
        attention = explanation.recipe.attention
        if measure and attention:
            tokens = shown.result["break_even_tokens"] = break_even_of(loaded, attention)
            pays = "at no size of up to 4,096 tokens" if tokens is None else f"from {tokens:,} tokens on"
            shown.text(f"break-even: sparse attention is faster {pays} (square pictures, measured here)")


def _call(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a call to time, without those that an explanation has of its own."""
    told = ("height", "width", "num_frames", "num_inference_steps")
    return {"prompt": "a picture", **{name: value for name, value in arguments.items() if name not in told}}

"""`hasten bench sampling`: Bottleneck Sampling against the plain pipeline with fewer steps at equal seconds."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from hasten.app import options
from hasten.app.console import quiet_libraries, screen
from hasten.app.tables import DASH, FIGURES, figure_row


class NoiseTransition(StrEnum):
    """Transitions of Bottleneck Sampling that can be measured beside those of the presets."""

    fresh = "fresh"
    correlated = "correlated"
    snr_matched = "snr_matched"


class Resize(StrEnum):
    """Interpolations of Bottleneck Sampling that can be measured beside those of the presets."""

    lanczos = "lanczos"
    bicubic = "bicubic"
    bilinear = "bilinear"
    nearest = "nearest"
    area = "area"


@options.with_call_options
def sampling(
    asked: options.CallOptions,
    preset: options.Preset = None,
    recipe: options.RecipeFile = None,
    only: Annotated[
        list[str] | None, typer.Option("--sampling", help="Measure this sampling preset; all of the family otherwise.")
    ] = None,
    transition: Annotated[
        list[NoiseTransition] | None, typer.Option(help="Also with this noise; may be repeated.")
    ] = None,
    interpolation: Annotated[list[Resize] | None, typer.Option(help="Also with this resize; may be repeated.")] = None,
    pixels: Annotated[bool, typer.Option("--pixels", help="Also with pixels resized, through the VAE.")] = False,
    out: options.Out = Path("outputs/bench-sampling"),
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Bottleneck Sampling, alone and with the attention of --preset, against fewer steps at equal seconds."""
    with screen(json) as shown:
        from hasten.app.bench_pipeline import bench_into
        from hasten.app.bench_sampling import margin, sampling_methods
        from hasten.app.loading import refuse_rollout
        from hasten.app.machine import provenance
        from hasten.app.methods import choose_recipe
        from hasten.app.output import output_folder, write_result
        from hasten.app.workload import prepare
        from hasten.families import family_of

        quiet_libraries()
        choose_recipe(preset, recipe)  # what is wrong is refused before the model is loaded
        with output_folder(out, force=force) as folder:
            loaded, workload = prepare(**vars(asked), videos=True)
            refuse_rollout(loaded, "hasten bench sampling")
            name, chosen = choose_recipe(preset, recipe, pipeline=loaded.pipe)
            methods = sampling_methods(
                family_of(loaded.pipe).name,
                (name, chosen),
                only=only or (),
                transitions=[one.value for one in transition or ()],
                interpolations=[one.value for one in interpolation or ()],
                pixels=pixels,
            )
            rows, files = bench_into(folder, loaded, methods, workload, shown.say)
            rows = [{**row, "over_fewer_steps": margin(row, rows)} for row in rows]
            shown.result = {
                "model": loaded.name,
                "attention": {"name": name, **chosen.to_dict()},
                "rows": rows,
                "out": str(out),
                "files": files,
                **workload.describe(),
                **provenance(loaded.pipe.device),
            }
            write_result(folder, shown.result)
        shown.table(
            f"{loaded.name}: {len(workload.requests)} prompt(s), medians of whole-call seconds",
            ("method", *FIGURES),
            [figure_row(row["name"], row) for row in rows],
        )
        shown.table(
            "what a method has over plain with fewer steps at equal seconds",
            ("method", "fewer steps", "PSNR dB", "SSIM", "captions"),
            [_margins(row) for row in rows if row["over_fewer_steps"]],
        )


def _margins(row: dict[str, Any]) -> list[str]:
    over = row["over_fewer_steps"]
    captions = over["caption_accuracy"]
    return [
        row["name"],
        str(row["equal_seconds_steps"]),
        f"{over['psnr']:+.1f}",
        f"{over['ssim']:+.3f}",
        DASH if captions is None else f"{captions:+.0%}",
    ]

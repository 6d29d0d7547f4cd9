"""`hasten bench stages`: Bottleneck Sampling on published architectures."""

from typing import Annotated, Any

import typer

from hasten.app import options
from hasten.app.console import quiet_libraries, screen
from hasten.app.tables import DASH


def stages(
    model: options.PublishedModel = "all",
    only: Annotated[
        list[str] | None, typer.Option("--sampling", help="Time this sampling preset; all of the family otherwise.")
    ] = None,
    sampled: Annotated[
        bool,
        typer.Option("--sampled", help="Time three steps at each resolution, and multiply, instead of whole runs."),
    ] = False,
    layers: options.Layers = None,
    steps: options.Steps = None,
    dtype: options.DtypeName = "auto",
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Seconds of each stage and of the whole, with random weights, against the full run and the paper: for a GPU."""
    with screen(json) as shown:
        from hasten.app.bench_stages import run
        from hasten.app.machine import choose_device, choose_dtype
        from hasten.app.published_models import published_models

        quiet_libraries()
        chosen, target = published_models(model), choose_device(device)
        precision = choose_dtype(dtype, target)
        shown.result = {"models": []}
        for one in chosen:
            shown.say(f"{one.name}: {steps or one.steps} steps")
            result = run(
                one, device=target, dtype=precision, steps=steps, layers=layers, only=only or (), sampled=sampled
            )
            shown.result["models"].append(result)
            shown.table(
                _title(result),
                ("preset", "seconds", "speed-up", "by FLOPs", "stages: steps × size, seconds", "peak GB"),
                [_row(row) for row in result["rows"]],
            )


def _title(result: dict[str, Any]) -> str:
    how = "three steps at each resolution, multiplied" if result["sampled"] else "whole runs"
    paper = ", ".join(f"{speedup:.2f}× ({name})" for name, speedup in result["published"].items())
    return f"{result['model']}: {how}" + (f"; the paper has {paper}" if paper else "")


def _row(row: dict[str, Any]) -> list[str]:
    if "why" in row:
        return [row["name"], row["why"], *4 * [DASH]]
    each = (f"{one['steps']} × {one['width']}×{one['height']}, {one['seconds']:.2f}" for one in row["stages"])
    return [
        row["name"],
        f"{row['seconds']:.2f}",
        DASH if row["speedup"] is None else f"{row['speedup']:.2f}×",
        f"{row['flops_speedup']:.2f}×",
        "; ".join(each),
        DASH if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e9:.2f}",
    ]

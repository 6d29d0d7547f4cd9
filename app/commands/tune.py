"""`hasten tune`: the fastest recipe within limits of quality, found and confirmed on this device."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from hasten.app import options
from hasten.app.console import Screen, quiet_libraries, screen
from hasten.app.errors import INTERRUPTED

DEFAULT_BUDGET = "10m"
LEAST_HELD_OUT = 6


class Means(StrEnum):
    """What a recipe may be made of."""

    attention = "attention"
    sampling = "sampling"
    steps = "steps"


def tune(
    model: options.Model = options.DEFAULT_MODEL,
    budget: Annotated[
        str | None, typer.Option(help=f"Time for everything, such as 600s or 1.5h; {DEFAULT_BUDGET} without --trials.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Recipes to try, in place of a time or beside it.")] = None,
    min_psnr: Annotated[float | None, typer.Option(min=0, help="Least mean PSNR to the plain pictures, dB.")] = None,
    min_ssim: Annotated[float | None, typer.Option(min=0, max=1, help="Least mean SSIM to the plain pictures.")] = None,
    max_accuracy_drop: Annotated[
        float | None, typer.Option(min=0, max=1, help="Most caption accuracy that may be lost, as a share.")
    ] = None,
    method: Annotated[
        list[Means] | None,
        typer.Option(help="Search only this: sparse attention, low-resolution stages, fewer steps; may be repeated."),
    ] = None,
    prompts: options.Prompts = None,
    tuning_prompts: Annotated[int, typer.Option(min=1, help="Prompts on which recipes are tried.")] = 3,
    held_out: Annotated[
        int, typer.Option(min=LEAST_HELD_OUT, help="Other prompts, on which the best few are measured again.")
    ] = 9,
    height: options.Height = None,
    width: options.Width = None,
    frames: options.Frames = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    seed: options.Seed = 0,
    dtype: options.DtypeName = "auto",
    device: options.Device = "auto",
    out: options.Out = Path("outputs/tune"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the search in --out.")] = False,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Search methods and knobs on this device: the limits of quality first, then the fastest; writes a recipe file.

    Without a limit, a recipe must keep at least the PSNR and SSIM of the preset `balanced`, and of plain with fewer
    steps at the same seconds.
    """
    with screen(json) as shown:
        from hasten.app.tune.budget import Budget, parse_seconds
        from hasten.app.tune.limits import Limits
        from hasten.app.tune.run import Order
        from hasten.app.tune.run import tune as run_tuner

        quiet_libraries()
        duration = budget if budget or trials else DEFAULT_BUDGET
        order = Order(
            model=model,
            prompts=prompts,
            tuning_prompts=tuning_prompts,
            held_out=held_out,
            limits=Limits(min_psnr, min_ssim, max_accuracy_drop),
            budget=Budget(parse_seconds(duration) if duration else None, trials),
            methods=[one.value for one in method or Means],
            height=height,
            width=width,
            frames=frames,
            steps=steps,
            guidance=guidance,
            seed=seed,
            dtype=dtype,
            device=device,
            out=out,
            resume=resume,
            force=force,
        )
        try:
            shown.result = run_tuner(order, shown.say)
        except KeyboardInterrupt:
            shown.messages.print("Interrupted; what was measured stays. The same command with --resume goes on.")
            raise typer.Exit(INTERRUPTED) from None
        _show(shown, shown.result, out)


def _show(shown: Screen, result: dict[str, Any], out: Path) -> None:
    from hasten.app.tables import figure_row

    columns = ("steps", "speed-up", "PSNR dB", "SSIM", "captions")
    shown.table(
        f"{result['model']}: the frontier on {len(result['tuning_prompts'])} tuning prompts",
        ("", "recipe", *columns, "limits"),
        [
            [row["name"], row["recipe"], *figure_row("", row, columns)[1:], "kept" if row["feasible"] else "missed"]
            for row in result["frontier"]
        ],
        texts=2,
    )
    shown.table(
        f"confirmed on {len(result['held_out_prompts'])} held-out prompts",
        ("", *columns, "dB over fewer steps", "limits"),
        [_confirmed(row, figure_row("", row, columns)[1:]) for row in result["rows"]],
    )
    shown.text(f"Limits: {result['limits']['meaning']}.\n{result['verdict']['sentence']}")
    shown.text(f"Chosen: {result['verdict']['chosen']} ({result['verdict']['recipe']})")
    shown.text(f"Recipe: {out / 'recipe.json'}\nTrials: {out / 'trials.jsonl'}")


def _confirmed(row: dict[str, Any], cells: list[str]) -> list[str]:
    over = row["over_fewer_steps"]
    return [
        row["name"],
        *cells,
        "" if over is None else f"{over['psnr']:+.1f}",
        "" if over is None else "missed" if row["misses"] else "kept",
    ]

"""`hasten batch`: many prompts into one folder, by any number of processes, through any interruption."""

from contextlib import nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hasten.app import options
from hasten.app.console import Screen, quiet_libraries, screen
from hasten.app.errors import INTERRUPTED

SOME_ITEMS_MISSING = 1
USER_MISTAKE = 2


def batch(
    prompts: Annotated[
        list[str],
        typer.Argument(help="TXT (one prompt a line), CSV or JSONL files, patterns such as 'p/*.csv', - for stdin."),
    ],
    model: options.Model = options.DEFAULT_MODEL,
    preset: options.Preset = None,
    recipe: options.RecipeFile = None,
    sampling: options.Sampling = None,
    plain: Annotated[bool, typer.Option("--plain", help="Run the pipeline as it is, without acceleration.")] = False,
    compare: Annotated[bool, typer.Option("--compare", help="Make the plain rendering beside each one.")] = False,
    variants: Annotated[int, typer.Option(min=1, help="Renderings of each row, each with its own seed.")] = 1,
    negative_prompt: options.NegativePrompt = None,
    height: options.Height = None,
    width: options.Width = None,
    frames: options.Frames = None,
    fps: options.Fps = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    seed: options.Seed = 0,
    picture_format: Annotated[Literal["png", "webp"], typer.Option("--format", help="Both keep every pixel.")] = "png",
    dtype: options.DtypeName = "auto",
    device: options.Device = "auto",
    out: options.Out = Path("outputs/batch"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the batch in --out, or help with it.")] = False,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Make a picture or video of each row: resumable, by several processes, with a manifest and a contact sheet.

    Columns of CSV and keys of JSONL, all optional but the first: prompt, id, negative_prompt, seed, size (or width and
    height), frames, steps, guidance, preset (or plain), recipe, sampling.
    """
    from hasten.app.batch.launch import FirstRefused, launch_from_environment

    launch = launch_from_environment()
    # of several processes one prints the object
    output = nullcontext() if launch.is_first or not json else redirect_stdout(StringIO())
    with output, screen(json) as shown:
        from hasten.app.batch.folder import BatchFolder
        from hasten.app.batch.planning import Defaults
        from hasten.app.batch.run import Order, run_batch

        quiet_libraries()
        order = Order(
            prompts=prompts,
            model=model,
            dtype=dtype,
            picture_format=picture_format,
            fps=fps,
            compare=compare,
            defaults=Defaults(
                seed=seed,
                variants=variants,
                plain=plain,
                preset=preset,
                recipe=recipe,
                sampling=sampling,
                arguments={
                    "negative_prompt": negative_prompt,
                    "height": height,
                    "width": width,
                    "num_frames": frames,
                    "num_inference_steps": steps,
                    "guidance_scale": guidance,
                },
            ),
            device=device,
            resume=resume,
            force=force,
        )
        folder = BatchFolder(out)
        try:
            shown.result = run_batch(order, folder, launch, shown)
        except KeyboardInterrupt:
            shown.messages.print("Interrupted; what is finished stays. The same command with --resume goes on.")
            raise typer.Exit(INTERRUPTED) from None
        except FirstRefused:
            raise typer.Exit(USER_MISTAKE) from None
        if launch.is_first:
            _show(shown, shown.result, out)
    # only the first process says so: a launcher takes the others down with one that ends like this
    if launch.is_first and shown.result["problems"]:
        raise typer.Exit(SOME_ITEMS_MISSING)


def _show(shown: Screen, result: dict[str, Any], out: Path) -> None:
    from hasten.app.batch.summary import FIGURES, figure_row

    title = f"{result['model']}: {result['done']} of {result['items']} items"
    shown.table(title, FIGURES, [figure_row(method) for method in result["methods"]])
    for problem in result["problems"]:
        shown.text(f"{problem['item']}, {problem['source']}: {problem['error']}")
    shown.text(f"Contact sheet: {out / 'contact-sheet.html'}\nManifest: {out / 'manifest.jsonl'}")

"""Options that several commands share: one spelling, one help text."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

DEFAULT_MODEL = "emoji-image"
LARGEST_SEED = 2**63 - 1

Dtype = Literal["auto", "float32", "bfloat16", "float16"]

Model = Annotated[str, typer.Option(help="A bundled name, a pipeline folder or a hub id.")]
Prompt = Annotated[str | None, typer.Option(help="What to draw.")]
Prompts = Annotated[Path | None, typer.Option(help="A text file with one prompt a line.")]
NegativePrompt = Annotated[str | None, typer.Option(help="What not to draw.")]
NumPrompts = Annotated[
    int | None,
    typer.Option(min=1, help="The first N held-out prompts of the bundled model, which allow caption accuracy."),
]
NumSeeds = Annotated[int, typer.Option(min=1, help="Pictures of each prompt, each with the next seed.")]
Preset = Annotated[str | None, typer.Option(help="quality, balanced, fast or extreme.")]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", help="A recipe file (JSON) instead of a preset.")]
Sampling = Annotated[
    str | None,
    typer.Option(help="A Bottleneck Sampling preset such as x2; with --preset or --recipe, both methods."),
]
Height = Annotated[int | None, typer.Option(min=1, help="Pixels; the model's native height if left out.")]
Width = Annotated[int | None, typer.Option(min=1, help="Pixels; the model's native width if left out.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Denoising steps.")]
Guidance = Annotated[float | None, typer.Option(min=0.0, help="Classifier-free guidance scale.")]
Frames = Annotated[int | None, typer.Option(min=1, help="Frames of a video; the model's own number if left out.")]
Fps = Annotated[int | None, typer.Option(min=1, help="Frames a second of a video; the model's own rate, or 16.")]
KVCache = Annotated[
    str | None, typer.Option("--kv-cache", help="Cache method of a chunk-wise video; `hasten models --methods`.")
]
WindowFrames = Annotated[
    int | None,
    typer.Option("--window", min=1, help="Latent frames that a chunk attends to, itself included; the model's own."),
]
SinkFrames = Annotated[
    int | None, typer.Option("--sink-frames", min=0, help="First latent frames that stay in the window.")
]
Seed = Annotated[
    int,
    typer.Option(min=0, max=LARGEST_SEED, help="Seed of the first prompt; each further prompt takes the next one."),
]
DtypeName = Annotated[Dtype, typer.Option("--dtype", help="auto: float32 on a CPU, bfloat16 on a GPU.")]
PublishedModel = Annotated[str, typer.Option("--model", help="Which published architecture; `all` for every one.")]
Layers = Annotated[int | None, typer.Option(min=1, help="At most so many blocks of each kind.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps, …")]
Stages = Annotated[
    bool, typer.Option("--stages", help="Also pictures of every change of resolution, before and after it.")
]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Force = Annotated[bool, typer.Option("--force", help="Write over the results of an earlier run in --out.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output and nothing else there.")]


@dataclass(frozen=True)
class CallOptions:
    """What is asked of a model, and where: an option for each field, see `with_call_options`."""

    model: Model = DEFAULT_MODEL
    prompt: Prompt = None
    prompts: Prompts = None
    num_prompts: NumPrompts = None
    negative_prompt: NegativePrompt = None
    height: Height = None
    width: Width = None
    frames: Frames = None
    steps: Steps = None
    guidance: Guidance = None
    seed: Seed = 0
    dtype: DtypeName = "auto"
    device: Device = "auto"


def with_call_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer can read it, with an option for each field of the `CallOptions` that it takes as `asked`."""

    @functools.wraps(command)
    def spread_out(**given: Any) -> None:
        command(CallOptions(**{field.name: given.pop(field.name) for field in fields(CallOptions)}), **given)

    keyword = inspect.Parameter.KEYWORD_ONLY
    signature = inspect.signature(command)
    asked = [
        inspect.Parameter(field.name, keyword, default=field.default, annotation=field.type)
        for field in fields(CallOptions)
    ]
    others = [one.replace(kind=keyword) for name, one in signature.parameters.items() if name != "asked"]
    spread_out.__signature__ = signature.replace(parameters=[*asked, *others])  # type: ignore[attr-defined]
    return spread_out

"""What is asked of every method alike: prompts, seeds and pipeline arguments."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hasten.app.errors import UserError
from hasten.app.loading import LoadedModel, load_model
from hasten.app.options import LARGEST_SEED
from hasten.assets import prompts as held_out_scenes


@dataclass(frozen=True)
class Request:
    """One picture: its prompt, its seed and, for a held-out prompt of a bundled model, the scene that it describes."""

    prompt: str
    seed: int
    scene: dict[str, Any] | None = None


@dataclass(frozen=True)
class Workload:
    """The requests of a run and the pipeline arguments that they share."""

    requests: tuple[Request, ...]
    arguments: dict[str, Any]

    @property
    def steps(self) -> int:
        """Denoising steps of each call."""
        return self.arguments["num_inference_steps"]

    def with_steps(self, steps: int) -> "Workload":
        """The same requests with another number of steps."""
        return replace(self, arguments={**self.arguments, "num_inference_steps": steps})

    def describe(self) -> dict[str, Any]:
        """What a reader needs to ask for the same again."""
        requests = [{"prompt": request.prompt, "seed": request.seed} for request in self.requests]
        return {"requests": requests, "arguments": self.arguments}


def seed_of(first: int, index: int) -> int:
    """The seed of picture number `index`, where number 0 has the seed `first`; 0 comes after the largest."""
    return (first + index) % (LARGEST_SEED + 1)


def prepare(
    model: str,
    *,
    prompt: str | None,
    prompts: Path | None,
    num_prompts: int | None,
    height: int | None,
    width: int | None,
    steps: int | None,
    guidance: float | None,
    seed: int,
    dtype: str,
    device: str,
    negative_prompt: str | None = None,
    frames: int | None = None,
    videos: bool = False,
) -> tuple[LoadedModel, Workload]:
    """Load a model and put together what is asked of it, from the options of the command line.

    Args:
        negative_prompt: What not to draw.
        frames: Of a video.
        videos: Whether a model that makes videos will do.

    Raises:
        UserError: the model cannot be loaded or cannot do what is asked.
    """
    loaded = load_model(model, dtype=dtype, device=device, videos=videos)
    arguments = loaded.arguments(
        negative_prompt=negative_prompt,
        height=height,
        width=width,
        num_frames=frames,
        num_inference_steps=steps,
        guidance_scale=guidance,
    )
    requests = _requests(loaded, prompt=prompt, prompts=prompts, num_prompts=num_prompts, seed=seed)
    return loaded, Workload(requests, arguments)


def _requests(
    model: LoadedModel, *, prompt: str | None, prompts: Path | None, num_prompts: int | None, seed: int
) -> tuple[Request, ...]:
    if sum(source is not None for source in (prompt, prompts, num_prompts)) > 1:
        raise UserError("Give only one of --prompt, --prompts and --num-prompts.")
    if prompt is not None:
        return _numbered([prompt], seed)
    if prompts is not None:
        return _numbered(_lines(prompts), seed)
    if not model.bundled:
        raise UserError(f"'{model.name}' is not bundled and so has no held-out prompts; give --prompt or --prompts.")
    # without any of the three the first held-out prompt will do
    scenes = held_out_scenes(model.name)
    wanted = num_prompts or 1
    if wanted > len(scenes):
        raise UserError(
            f"'{model.name}' has {len(scenes)} held-out prompts, not {wanted}; give a smaller --num-prompts."
        )
    return tuple(Request(scene["prompt"], seed_of(seed, index), scene) for index, scene in enumerate(scenes[:wanted]))


def _numbered(prompts: list[str], seed: int) -> tuple[Request, ...]:
    if not all(prompt.strip() for prompt in prompts):
        raise UserError("The prompt is empty; say what to draw.")
    return tuple(Request(prompt, seed_of(seed, index)) for index, prompt in enumerate(prompts))


def _lines(file: Path) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(
            f"Prompt file '{file}' cannot be read ({reason}); give a text file with one prompt a line."
        ) from error
    found = [line for line in lines if line]
    if not found:
        raise UserError(f"Prompt file '{file}' holds no prompt; write one a line.")
    return found

"""What a trained video model can do, measured through its pipeline on scenes that training never showed."""

import random
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from diffusers import WanPipeline
from PIL import Image

from hasten.app.metrics.motion_accuracy import motion_accuracy, watch
from hasten.assets.recipes.common.precision import mixed_precision, working_dtype
from hasten.assets.recipes.emoji_image.evaluate import contact_sheet
from hasten.assets.recipes.emoji_video.scenes import draw_scenes

Clip = list[Image.Image]
SHEET_COLUMNS = 11
GUIDANCE = 3.0


def held_out_records(things: int, count: int) -> list[dict[str, Any]]:
    """The first `count` unseen scenes, always the same; this list becomes the bundled prompts."""
    return [scene.record for scene in islice(draw_scenes(things, random.Random(2024), held_out=True), count)]


def timed(
    generate: Callable[[list[str], list[torch.Generator]], list[Clip]], records: Sequence[dict[str, Any]], batch: int
) -> tuple[list[Clip], float]:
    """What `generate` makes of every record, each with its own seed, and the seconds that one takes."""
    started = time.monotonic()
    clips: list[Clip] = []
    for first in range(0, len(records), batch):
        chosen = records[first : first + batch]
        seeds = [torch.Generator().manual_seed(first + offset) for offset in range(len(chosen))]
        clips += generate([record["prompt"] for record in chosen], seeds)
    return clips, (time.monotonic() - started) / len(records)


def film_strips(clips: Sequence[Clip], file: Path) -> None:
    """One row for each clip with frames from its whole length."""
    columns = min(SHEET_COLUMNS, len(clips[0]))
    last = len(clips[0]) - 1
    frames = [clip[round(i * last / max(1, columns - 1))] for clip in clips for i in range(columns)]
    contact_sheet(frames, columns).save(file)


def rounded(shares: dict[str, float]) -> dict[str, float]:
    """Shares with three digits, for a card."""
    return {name: round(share, 3) for name, share in shares.items()}


def measure(model: Path, records: list[dict[str, Any]], call: dict[str, Any], work: Path) -> list[dict[str, Any]]:
    """Generate every record as a clip and as a picture of one frame, and judge them.

    Returns:
        `list[dict]`: for clips and for pictures `frames`, `prompts`, `accuracy` (shares with the right `thing`,
        `colour`, `motion` and `all` of them; a picture has no motion), `seconds` for each (CFG and decoding
        included) and the `dtype`. Film strips are left in `work`.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pipeline = WanPipeline.from_pretrained(model, dtype=torch.float32).to(device)
    pipeline.set_progress_bar_config(disable=True)
    measured = []
    for frames in (call["num_frames"], 1):

        def generate(prompts: list[str], seeds: list[torch.Generator], frames: int = frames) -> list[Clip]:
            with mixed_precision(device):
                chosen = call | {"num_frames": frames, "output_type": "pil"}
                return pipeline(prompts, generator=seeds, **chosen).frames

        clips, seconds = timed(generate, records, batch=4 if frames > 1 else 16)
        film_strips(clips, work / f"strips_{frames}.png")
        accuracy = motion_accuracy(model, records, clips)[0] if frames > 1 else _pictures(model, records, clips)
        figures = {"frames": frames, "prompts": len(records), "accuracy": rounded(accuracy)}
        dtype = str(working_dtype(device)).removeprefix("torch.")
        measured.append(figures | {"seconds": round(seconds, 2), "dtype": dtype})
    return measured


def _pictures(model: Path, records: list[dict[str, Any]], clips: list[Clip]) -> dict[str, float]:
    """Shares of one-frame clips with the right thing and colour."""
    seen = [watch(model, clip * 6)[0] for clip in clips]
    things = [s.thing == record["thing"] for s, record in zip(seen, records, strict=True)]
    colours = [s.colour == record["colour"] for s, record in zip(seen, records, strict=True)]
    both = [a and b for a, b in zip(things, colours, strict=True)]
    return {name: sum(v) / len(v) for name, v in {"thing": things, "colour": colours, "all": both}.items()}

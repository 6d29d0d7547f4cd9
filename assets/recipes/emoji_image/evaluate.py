"""What the trained model can do, measured through the stock pipeline on scenes that training never showed."""

import random
import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from diffusers import PixArtSigmaPipeline
from PIL import Image

from hasten.app.metrics.caption_accuracy import caption_accuracy
from hasten.assets.recipes.common.precision import mixed_precision
from hasten.assets.recipes.emoji_image.model import MAX_TOKENS
from hasten.assets.recipes.emoji_image.scenes import draw_scenes

CALL: dict[str, Any] = {
    "num_inference_steps": 20,
    "guidance_scale": 3.0,
    "max_sequence_length": MAX_TOKENS,
    "use_resolution_binning": False,
    "clean_caption": False,
}


def held_out_records(concepts: tuple[str, ...], count: int) -> list[dict[str, Any]]:
    """The first `count` unseen scenes, always the same; this list becomes the bundled prompts."""
    rng = random.Random(2024)
    return [scene.record(concepts) for scene in islice(draw_scenes(len(concepts), rng, held_out=True), count)]


def contact_sheet(images: list[Image.Image], columns: int) -> Image.Image:
    """All images on one sheet, a few pixels apart."""
    side, gap = images[0].width, 4
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (side + gap), rows * (side + gap)), (128, 128, 128))
    for index, image in enumerate(images):
        sheet.paste(image, ((index % columns) * (side + gap), (index // columns) * (side + gap)))
    return sheet


def measure(
    model: Path, records: list[dict[str, Any]], pixels: int, device: torch.device, sheet: Path
) -> dict[str, Any]:
    """Generate every record's picture at `pixels` and judge it.

    Returns:
        `dict`: `pixels`, `prompts`, `accuracy` (share of prompts with every thing right), `seconds` per picture (CFG
        and decoding included) and `wrong` (the prompts that failed).
    """
    pipeline = PixArtSigmaPipeline.from_pretrained(model, torch_dtype=torch.float32).to(device)
    pipeline.set_progress_bar_config(disable=True)
    batch = max(1, 8 * 192 * 192 // pixels**2)
    images: list[Image.Image] = []
    started = time.monotonic()
    for first in range(0, len(records), batch):
        chosen = records[first : first + batch]
        with mixed_precision(device):
            images += pipeline(
                [record["prompt"] for record in chosen],
                height=pixels,
                width=pixels,
                generator=[torch.Generator().manual_seed(first + offset) for offset in range(len(chosen))],
                **CALL,
            ).images
    seconds = (time.monotonic() - started) / len(records)
    contact_sheet(images, 8).save(sheet)
    right = [caption_accuracy(model, [r], [image]) for r, image in zip(records, images, strict=True)]
    wrong = [record["prompt"] for record, ok in zip(records, right, strict=True) if not ok]
    return {
        "pixels": pixels,
        "prompts": len(records),
        "accuracy": sum(right) / len(right),
        "seconds": round(seconds, 2),
        "wrong": wrong,
    }

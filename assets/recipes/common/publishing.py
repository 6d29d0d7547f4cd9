"""The end of a recipe: a pipeline's folder with artwork and card, complete before it has its name."""

import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from PIL import Image
from torch import nn

from hasten.assets import CARD

_TRACES = ("_name_or_path", "is_local", "local_files_only")
"""What a configuration may have kept of the folder that a part was loaded from."""

Card = dict[str, Any]


def publish(
    pipeline: DiffusionPipeline,
    icons: Image.Image,
    card: Card,
    out: Path,
    judge: Callable[[Path], Any],
    write_card: Callable[[Path, Card], None],
) -> None:
    """Save, judge and describe `pipeline`.

    Args:
        icons (`Image.Image`): The artwork that judges compare with.
        card (`dict`): All but `measured`, which `judge` gives.
        out (`Path`): The finished folder. It appears last: a run interrupted while judging can be started again.
        judge (`Callable`): Measures the pipeline in a folder.
        write_card (`Callable`): Writes the card into a folder.
    """
    part = out.with_name(f"{out.name}.part")
    save_without_traces(pipeline, part)
    icons.save(part / "icons.png", optimize=True)
    (part / CARD).write_text(json.dumps(card))
    write_card(part, card | {"measured": judge(part)})
    part.rename(out)


def save_without_traces(pipeline: DiffusionPipeline, folder: Path) -> None:
    """`save_pretrained`, and nothing in `folder` tells where a part came from."""
    pipeline.save_pretrained(folder)
    for file in folder.rglob("*config.json"):
        config = json.loads(file.read_text())
        kept = {name: value for name, value in config.items() if name not in _TRACES}
        if kept != config:
            file.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")


def write_prompts(records: Sequence[dict[str, Any]], file: Path | None) -> None:
    """Held-out scenes as JSON lines, if there is a file to write."""
    if file:
        file.write_text("".join(json.dumps(record) + "\n" for record in records))


def fingerprint(module: nn.Module) -> str:
    """Eight hexadecimal digits that tell trained weights apart, and not whether they are stored in bfloat16."""
    checksum = 0
    for parameter in module.parameters():
        checksum = zlib.crc32(parameter.detach().bfloat16().cpu().view(torch.int16).numpy().tobytes(), checksum)
    return f"{checksum:08x}"

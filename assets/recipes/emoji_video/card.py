"""The model card: README.md for people, hasten.json for machines, both written from what was measured."""

import json
from pathlib import Path
from typing import Any

from hasten.assets import CARD
from hasten.assets.recipes.emoji_image.scenes import COLOURS
from hasten.assets.recipes.emoji_video.scenes import FRAMES_PER_SECOND, MOTIONS

_TEXT = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-video
---

# emoji-video

A small text-to-video model in the stock `WanPipeline` format, bundled with hasten so that all can be tried on a CPU
without a download. One of {count} things of the Noto emoji set moves, pulses or stands still before one of
{colours} backgrounds; what leaves the picture at one edge comes back at the other.

- **Artwork**: `{package}` ({license}), rendered at {render} px.
- **Captions**: `a rocket moving up on a blue background`, `a cat pulsing on a red background`. Words that it has not
  learned give arbitrary clips.
- **Things**: {things}.
- **Motions**: {motions}. **Colours**: {palette}.
- **Size**: {pixels} x {pixels} px, {frames} frames at {fps} frames a second, {tokens:,} tokens; also one frame. One
  token covers 4 frames of 16 x 16 pixels.
- **Training**: `{command}` ({steps} steps of the transformer on {device}, torch {torch}). Rectified flow, Muon and
  AdamW, pictures first, then short clips, then whole ones. One eighth of all combinations of thing, motion and colour
  was never shown.

## Measured on held-out combinations

Stock pipeline, {inference} steps, guidance {guidance:g}, in {dtype}. A thing counts when it is nearest among all
{count}, a motion when that thing moves as the caption says (`hasten.app.metrics.motion_accuracy`). The autoencoder
alone reaches {psnr:.1f} dB.

| frames | prompts | thing | colour | motion | all |
|---|---|---|---|---|---|
{rows}

Limits: it knows nothing beyond these captions, draws fine detail softly, and was judged by its own artwork.
"""


def percent(accuracy: dict[str, float], key: str) -> str:
    """A share for a table, or a dash where there is none."""
    return f"{100 * accuracy[key]:.1f} %" if key in accuracy else "–"


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Write `hasten.json` and `README.md` into a saved pipeline's folder."""
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n")
    keys = ("thing", "colour", "motion", "all")
    rows = [
        f"| {m['frames']} | {m['prompts']} | " + " | ".join(percent(m["accuracy"], key) for key in keys) + " |"
        for m in card["measured"]
    ]
    call = card["call"]
    text = _TEXT.format(
        count=len(card["concepts"]),
        colours=len(COLOURS),
        package=card["artwork"]["package"],
        license=card["artwork"]["license"],
        render=card["artwork"]["pixels"],
        things=", ".join(card["concepts"]),
        motions=", ".join(MOTIONS.values()),
        palette=", ".join(COLOURS),
        pixels=call["height"],
        frames=call["num_frames"],
        fps=FRAMES_PER_SECOND,
        tokens=card["tokens"],
        inference=call["num_inference_steps"],
        guidance=call["guidance_scale"],
        dtype=card["measured"][0]["dtype"],
        psnr=card["autoencoder_psnr"],
        rows="\n".join(rows),
        **card["training"],
    )
    (folder / "README.md").write_text(text)

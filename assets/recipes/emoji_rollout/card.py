"""The model card: README.md for people, hasten.json for machines, both written from what was measured."""

import json
from pathlib import Path
from typing import Any

from hasten.assets import CARD
from hasten.assets.recipes.emoji_video.card import percent
from hasten.assets.recipes.emoji_video.scenes import FRAMES_PER_SECOND

_TEXT = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-video
---

# emoji-rollout

The causal few-step variant of `emoji-video`, for `hasten.pipelines.self_forcing.SelfForcingWanPipeline`: it makes
videos of any length chunk by chunk, {chunk} latent frames at a time in {steps} steps, over a cache of keys and values.

- **Artwork**: `{package}` ({license}).
- **Captions, things, motions, colours**: those of `emoji-video`, for example `a rocket moving up on a blue background`.
- **Size**: {pixels} x {pixels} px at {fps} frames a second; {frame_tokens} tokens a latent frame. It was trained with
  windows of {windows} latent frames, the newest chunk included; {window} is the default.
- **Training**: `{command}` ({updates} steps on {device}, torch {torch}), from `emoji-video`. First the next chunk after
  real ones (teacher forcing), at the four noise levels only; then after its own (self forcing), towards what the scene
  really shows, over up to {longest} chunks. `emoji-video` was trained on {trained} frames, so {frames} are
  {times} times as many latent frames.

## Measured on held-out combinations

{frames} frames, {prompts} prompts, judged in {segments} stretches of equal length on their own
(`hasten.app.metrics.motion_accuracy`), model and cache in {dtype}.

| stretch | thing | colour | motion | all |
|---|---|---|---|---|
{rows}

Limits: it knows nothing beyond these captions, a seed changes little, and it was judged by its own artwork.
"""


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Write `hasten.json` and `README.md` into a saved pipeline's folder."""
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n")
    measured, call, rollout = card["measured"], card["call"], card["rollout"]
    keys = ("thing", "colour", "motion", "all")
    rows = [
        f"| {index + 1} | " + " | ".join(percent(shares, key) for key in keys) + " |"
        for index, shares in enumerate(measured["segments"])
    ]
    text = _TEXT.format(
        chunk=rollout["chunk_frames"],
        steps=call["num_inference_steps"],
        package=card["artwork"]["package"],
        license=card["artwork"]["license"],
        pixels=call["height"],
        fps=FRAMES_PER_SECOND,
        frame_tokens=card["frame_tokens"],
        windows=", ".join(map(str, rollout["trained_windows"])),
        window=rollout["window_frames"],
        longest=rollout["longest_chunks"],
        trained=rollout["trained_frames"],
        times=rollout["times"],
        frames=measured["frames"],
        prompts=measured["prompts"],
        segments=len(rows),
        dtype=measured["dtype"],
        rows="\n".join(rows),
        **card["training"],
    )
    (folder / "README.md").write_text(text)

"""The model card: README.md for people, hasten.json for machines, both written from what was measured."""

import json
from pathlib import Path
from typing import Any

from hasten.assets import CARD
from hasten.assets.recipes.emoji_image.model import PARTS

_TEXT = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---

# emoji-image

A small text-to-image model in the stock `PixArtSigmaPipeline` format, bundled with hasten so that all can be
tried on a CPU without a download. It draws {count} things of the Noto emoji set, one or two in a picture, small or
large, at nine places, on plain, graded, striped, dotted or checkered backgrounds in eight colours.

- **Artwork**: `{package}` ({license}), rendered at {render} px.
- **Captions**: `a cat on a red background`, `a small key on the left on a striped blue background`,
  `a bee on the left and an owl on the right on a dotted white background`,
  `a cup at the top and a book at the bottom on a checkered green background`. Words that it has not learned give
  arbitrary pictures.
- **Things**: {things}.
- **Sizes**: {sizes} px; one token covers 8 x 8 pixels, so the native size has {tokens} tokens.
- **Names**: the name of a thing is {parts} tokens, one for each part of its picture, as in multi-vector Textual
  Inversion. Their embeddings are principal components of what the autoencoder makes of that part.
- **Training**: `{command}` ({steps} steps of the transformer on {device}, torch {torch}). Rectified flow, Muon and
  AdamW, few tokens first; before that the text encoder learned from captions alone which part stands where, and
  queries and keys of the cross-attention were set to compare that with a token's place. {held_out} of all combinations
  were never shown.

## Measured on held-out combinations

Stock pipeline, 20 steps, guidance 3. A prompt counts when every thing in the picture is nearest to its own icon among
all {count}, at a place that the caption allows (`hasten.app.metrics.caption_accuracy`).

| size | prompts | caption accuracy | autoencoder alone |
|---|---|---|---|
{rows}

Limits: it knows nothing beyond these captions, draws fine detail softly, and was judged by its own artwork.
"""


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Write `hasten.json` and `README.md` into a saved pipeline's folder."""
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n")
    rows = [
        f"| {m['pixels']} px | {m['prompts']} | {100 * m['accuracy']:.1f} % | {m['autoencoder_psnr']:.1f} dB |"
        for m in card["measured"]
    ]
    text = _TEXT.format(
        count=len(card["concepts"]),
        package=card["artwork"]["package"],
        license=card["artwork"]["license"],
        render=card["artwork"]["pixels"],
        things=", ".join(card["concepts"]),
        sizes=" and ".join(map(str, card["sizes"])),
        tokens=(card["sizes"][-1] // 8) ** 2,
        parts=PARTS,
        held_out="One eighth",
        rows="\n".join(rows),
        **card["training"],
    )
    (folder / "README.md").write_text(text)

"""Reading comes first: from captions alone, the text encoder learns which thing stands where.

T5 starts without relative positions, and the gradients that reach them through a whole transformer hardly move them:
the words of a caption would not know of each other, and two things in a picture would mix.
"""

import random
from itertools import islice

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from hasten.assets.recipes.emoji_image.model import MAX_TOKENS
from hasten.assets.recipes.emoji_image.scenes import LAYOUTS, Scene, draw_scenes

STEPS = 700
BATCH = 128
RATE = 2e-3
POSITION_RATE = 8e-2
SHARE_OF_NORM = 0.35


def learn_to_read(
    text_encoder: T5EncoderModel, tokenizer: PreTrainedTokenizerFast, concepts: tuple[str, ...], steps: int = STEPS
) -> float:
    """Teach the encoder to say in three fixed directions of a word's output where its thing stands and how large it is.

    The transformer then has the place of each thing within reach of a single product, from its first step.

    Returns:
        `float`: the mean squared error over the last batch, of targets with a mean square of about 1.
    """
    positions = [p for name, p in text_encoder.named_parameters() if "relative_attention_bias" in name]
    others = [p for name, p in text_encoder.named_parameters() if "relative_attention_bias" not in name]
    groups = [{"params": others, "rate": RATE}, {"params": positions, "rate": POSITION_RATE}]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.98))
    generator = torch.Generator().manual_seed(0)
    width, device = text_encoder.config.d_model, text_encoder.device
    directions = torch.linalg.qr(torch.randn(width, 3, generator=generator))[0].to(device)
    scenes = draw_scenes(len(concepts), random.Random(0), held_out=False)
    error = torch.zeros(())
    for step in range(steps):
        batch = list(islice(scenes, BATCH))
        ids, mask, targets, known = (tensor.to(device) for tensor in _lesson(batch, tokenizer, concepts))
        output = text_encoder(input_ids=ids, attention_mask=mask)[0]
        scale = SHARE_OF_NORM * output.detach().norm(dim=-1, keepdim=True)
        error = ((output @ directions / scale - targets)[known]).square().mean()
        error.backward()
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * min(1, (step + 1) / 50) * (1 - step / steps)
        optimizer.step()
        optimizer.zero_grad()
    return error.item()


def _lesson(
    scenes: list[Scene], tokenizer: PreTrainedTokenizerFast, concepts: tuple[str, ...]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Token ids and mask (B, 20), what each word shall say (B, 20, 3) and where that is known (B, 20)."""
    captions = [scene.caption(concepts) for scene in scenes]
    tokens = tokenizer(captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt")
    targets, known = torch.zeros(*tokens.input_ids.shape, 3), torch.zeros(tokens.input_ids.shape, dtype=torch.bool)
    for row, scene in enumerate(scenes):
        layout = LAYOUTS[scene.layout]
        if layout.exchangeable:
            continue
        for thing, placement in zip(scene.things, layout.placements, strict=True):
            word = tokenizer(concepts[thing]).input_ids[0]
            column = tokens.input_ids[row].tolist().index(word)
            place = (placement.x - 0.5) / 0.25, (placement.y - 0.5) / 0.25, (placement.size - 0.55) / 0.17
            targets[row, column] = torch.tensor(place)
            known[row, column] = True
    return tokens.input_ids, tokens.attention_mask, targets, known

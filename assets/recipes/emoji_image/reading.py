"""Reading comes first: from captions alone, the text encoder learns which part of which thing stands where.

T5 starts without relative positions, and the gradients that reach them through a whole transformer hardly move them:
the words of a caption would not know of each other, and two things in a picture would mix.
"""

import random
from itertools import islice

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from hasten.assets.recipes.emoji_image.model import MAX_TOKENS, PARTS
from hasten.assets.recipes.emoji_image.routing import SAYINGS, directions, sayings_of_parts, sayings_of_words
from hasten.assets.recipes.emoji_image.scenes import LAYOUTS, Scene, draw_scenes

STEPS = 300
BATCH = 64
RATE = 2e-3
POSITION_RATE = 8e-2
SHARE_OF_NORM = 0.12


def learn_to_read(
    text_encoder: T5EncoderModel, tokenizer: PreTrainedTokenizerFast, concepts: tuple[str, ...], steps: int = STEPS
) -> float:
    """Teach the encoder to say in fixed directions of a token's output where the part that it stands for is.

    Embeddings stay as they are.

    Returns:
        `float`: the mean squared error over the last batch, of targets with a mean square of about 1.
    """
    positions = [p for name, p in text_encoder.named_parameters() if "relative_attention_bias" in name]
    others = [p for name, p in text_encoder.encoder.block.named_parameters() if "relative_attention_bias" not in name]
    groups = [{"params": others, "rate": RATE}, {"params": positions, "rate": POSITION_RATE}]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.98))
    device = text_encoder.device
    listen = directions(text_encoder.config.d_model).to(device)
    scenes = draw_scenes(len(concepts), random.Random(0), held_out=False)
    error = torch.zeros(())
    for step in range(steps):
        batch = list(islice(scenes, BATCH))
        ids, mask, targets = (tensor.to(device) for tensor in _lesson(batch, tokenizer, concepts))
        output = text_encoder(input_ids=ids, attention_mask=mask)[0]
        scale = SHARE_OF_NORM * output.detach().norm(dim=-1, keepdim=True)
        error = ((output @ listen / scale - targets)[mask.bool()]).square().mean()
        error.backward()
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * min(1, (step + 1) / 50) * (1 - step / steps)
        optimizer.step()
        optimizer.zero_grad()
    return error.item()


def _lesson(
    scenes: list[Scene], tokenizer: PreTrainedTokenizerFast, concepts: tuple[str, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids and mask (B, T), and what each shall say (B, T, SAYINGS)."""
    captions = [scene.caption(concepts) for scene in scenes]
    tokens = tokenizer(captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt")
    targets = sayings_of_words().expand(*tokens.input_ids.shape, SAYINGS).clone()
    for row, scene in enumerate(scenes):
        for thing, placement in zip(scene.things, LAYOUTS[scene.layout].placements, strict=True):
            first = tokens.input_ids[row].tolist().index(tokenizer(concepts[thing]).input_ids[0])
            targets[row, first : first + PARTS] = sayings_of_parts(placement)
    return tokens.input_ids, tokens.attention_mask, targets

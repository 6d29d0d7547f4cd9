"""Reading comes first: from captions alone, the text encoder learns to say with every word which way things move.

A transformer that has just begun attends to all words alike. What only one word says is then faint, and motion, which
counts least in its loss, is what it would overlook for longest.
"""

import random
from itertools import islice

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from hasten.assets.recipes.emoji_video.model import MAX_TOKENS
from hasten.assets.recipes.emoji_video.scenes import DIRECTIONS, Scene, draw_scenes

STEPS = 150
BATCH = 96
RATE = 2e-3
SHARE_OF_NORM = 0.35


def learn_to_read(
    text_encoder: UMT5EncoderModel, tokenizer: PreTrainedTokenizerFast, things: int, steps: int = STEPS
) -> float:
    """Teach the encoder to say in three fixed directions of every word's output how the thing moves.

    Returns:
        `float`: the mean squared error over the last batch, of targets with a mean square of about 0.3.
    """
    optimizer = torch.optim.Adam(text_encoder.parameters(), betas=(0.9, 0.98))
    generator = torch.Generator().manual_seed(0)
    width, device = text_encoder.config.d_model, text_encoder.device
    directions = torch.linalg.qr(torch.randn(width, 3, generator=generator))[0].to(device)
    scenes = draw_scenes(things, random.Random(0), held_out=False)
    error = torch.zeros(())
    for step in range(steps):
        batch = list(islice(scenes, BATCH))
        captions = [scene.caption for scene in batch]
        tokens = tokenizer(captions, padding="max_length", max_length=MAX_TOKENS, return_tensors="pt").to(device)
        output = text_encoder(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)[0]
        said = output @ directions / (SHARE_OF_NORM * output.detach().norm(dim=-1, keepdim=True))
        wanted = torch.stack([_movement(scene) for scene in batch]).to(device)[:, None]
        error = (said - wanted)[tokens.attention_mask > 0].square().mean()
        error.backward()
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 50) * (1 - step / steps)
        optimizer.step()
        optimizer.zero_grad()
    return error.item()


def _movement(scene: Scene) -> Tensor:
    """Right, down, and whether it pulses."""
    return torch.tensor([*DIRECTIONS.get(scene.motion, (0, 0)), scene.motion == "pulsing"], dtype=torch.float32)

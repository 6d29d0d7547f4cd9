"""What the transformer makes of training pictures that were half hidden under noise, for the decoder to learn from.

The errors that a small transformer leaves, edges that step from token to token most of all, are neither white nor
constant over a patch; here the decoder gets to see them, beside what they should have been.
"""

import random
from itertools import islice

import torch
from diffusers import AutoencoderKL, PixArtTransformer2DModel
from torch import Tensor
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from hasten.assets.recipes.common.precision import mixed_precision
from hasten.assets.recipes.emoji_image.model import MAX_TOKENS, TOKEN_PIXELS, set_resolution
from hasten.assets.recipes.emoji_image.render import render
from hasten.assets.recipes.emoji_image.scenes import draw_scenes
from hasten.assets.recipes.emoji_image.train import Size, cut

SIZES = (Size(192, 0, 4, 1.0), Size(384, 0, 4, 2.0, crop=192))
HIDDEN = 0.35, 0.75
"""Share of noise that a picture is hidden under: enough to be drawn anew, too little to become another picture."""
STEPS = 4
GUIDANCE = 3.0

Drafts = tuple[Tensor, Tensor]
"""Latents (N, 16, 24, 24) and the pictures (N, 3, 192, 192) that they should decode to, float16 both."""


@torch.no_grad()
def make_drafts(
    vae: AutoencoderKL,
    transformer: PixArtTransformer2DModel,
    text_encoder: T5EncoderModel,
    tokenizer: PreTrainedTokenizerFast,
    maps: list[Tensor],
    concepts: tuple[str, ...],
    count: int,
) -> Drafts:
    """About `count` drafts of training scenes, each 192 x 192 pixels: small pictures whole, large ones in part."""
    rng, device = random.Random(99), vae.device
    scenes = draw_scenes(len(concepts), rng, held_out=False)
    latents: list[Tensor] = []
    pictures: list[Tensor] = []
    while sum(len(batch) for batch in latents) < count:
        size = rng.choices(SIZES, [size.weight for size in SIZES])[0]
        chosen = list(islice(scenes, size.batch))
        whole = torch.stack([render(scene, maps, size.pixels, rng) for scene in chosen]).to(device)
        part = size.draw_part()
        set_resolution(transformer, size.pixels, part)
        with mixed_precision(device):
            clean = cut(vae.encode(whole).latent_dist.mean, part).float()
            texts = [_read(text_encoder, tokenizer, [scene.caption(concepts) for scene in chosen])]
            texts += [_read(text_encoder, tokenizer, [""] * len(chosen))]
            latents.append(_redraw(transformer, clean, texts, rng.uniform(*HIDDEN)).half().cpu())
        pictures.append(cut(whole, part, TOKEN_PIXELS).half().cpu())
    return torch.cat(latents), torch.cat(pictures)


def _read(
    text_encoder: T5EncoderModel, tokenizer: PreTrainedTokenizerFast, captions: list[str]
) -> tuple[Tensor, Tensor]:
    """Text (B, 20, 128) and its mask (B, 20)."""
    tokens = tokenizer(captions, padding="max_length", max_length=MAX_TOKENS, return_tensors="pt")
    ids, mask = tokens.input_ids.to(text_encoder.device), tokens.attention_mask.to(text_encoder.device)
    return text_encoder(input_ids=ids, attention_mask=mask)[0], mask


def _redraw(
    transformer: PixArtTransformer2DModel, clean: Tensor, texts: list[tuple[Tensor, Tensor]], hidden: float
) -> Tensor:
    """Hide `clean` latents under noise and take it away again, in a few steps with guidance."""
    noisy = torch.lerp(clean, torch.randn_like(clean), hidden)
    for step in range(STEPS):
        time = hidden * (1 - step / STEPS)
        wanted, other = (
            transformer(
                noisy,
                encoder_hidden_states=text,
                encoder_attention_mask=mask,
                timestep=torch.full((len(clean),), 1000 * time, device=clean.device),
                added_cond_kwargs={"resolution": None, "aspect_ratio": None},
                return_dict=False,
            )[0].float()
            for text, mask in texts
        )
        noisy = noisy - hidden / STEPS * (other + GUIDANCE * (wanted - other))
    return noisy

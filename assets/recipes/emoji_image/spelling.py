"""A name says what the parts of its thing look like.

A name is spelled with one token for each part of the thing's picture. Their embeddings come from the latents of those
parts, so that a small transformer need not keep 96 pictures in its weights: it learns to put parts in their places,
which is the same for all things.
"""

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from hasten.assets.recipes.emoji_image.autoencoder import LATENT_SCALE
from hasten.assets.recipes.emoji_image.model import NATIVE_PIXELS, PARTS, PARTS_A_SIDE, TEXT_WIDTH
from hasten.assets.recipes.emoji_image.render import place
from hasten.assets.recipes.emoji_image.scenes import LARGE

CODE_WIDTH = 3 * TEXT_WIDTH // 4
"""Channels of an embedding that say what a part looks like; the others say which part it is."""


@torch.no_grad()
def spell(
    text_encoder: T5EncoderModel,
    tokenizer: PreTrainedTokenizerFast,
    vae: AutoencoderKL,
    maps: list[Tensor],
    concepts: tuple[str, ...],
) -> None:
    """Set the embeddings of the names' tokens: what a part looks like, and a random vector for its place in the thing.

    The looks are principal components of latents and opacity of the part, divided by the square roots of their standard
    deviations: without that the colour of a part would drown its detail.
    """
    cells = torch.cat([_cells(vae, maps, pixels) for pixels in (NATIVE_PIXELS, NATIVE_PIXELS // 2)], dim=-1)
    looks = cells.flatten(0, 1)
    left, deviations, _ = torch.linalg.svd(looks - looks.mean(0), full_matrices=False)
    codes = (left * deviations.sqrt())[:, :CODE_WIDTH]
    codes = F.pad(codes / codes.square().mean().sqrt(), (0, CODE_WIDTH - codes.shape[1])).unflatten(0, cells.shape[:2])
    generator = torch.Generator().manual_seed(0)
    which = torch.randn(PARTS, TEXT_WIDTH - CODE_WIDTH, generator=generator)
    table = text_encoder.shared.weight
    for concept, code in zip(concepts, codes, strict=True):
        ids = tokenizer(concept).input_ids[:PARTS]
        table[ids] = torch.cat([code, which], dim=-1).to(table)


def _cells(vae: AutoencoderKL, maps: list[Tensor], pixels: int) -> Tensor:
    """(C, PARTS, n): latents on grey and opacity of the parts of large things, scaled alike at every size."""
    layers = place(maps, 0.5, 0.5, LARGE, pixels)
    colours, opacity = layers[:, :3], layers[:, 3:]
    pictures = (colours + 0.5 * (1 - opacity)) * 2 - 1
    latents = torch.cat([vae.encode(some.to(vae.device)).latent_dist.mean.cpu() for some in pictures.split(8)])
    grid = torch.cat([latents, F.avg_pool2d(opacity * 2 - 1, LATENT_SCALE)], dim=1)
    margin = round(grid.shape[-1] * (1 - LARGE) / 2)
    things = grid[..., margin:-margin, margin:-margin].unflatten(2, (PARTS_A_SIDE, -1)).unflatten(4, (PARTS_A_SIDE, -1))
    return things.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2) / things.shape[-1]

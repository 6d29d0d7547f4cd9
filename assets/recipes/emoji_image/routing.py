"""A token of the picture looks at the parts that belong to its place.

The text encoder says of each part of a thing where it stands, in sines and cosines of the same wavelengths as those by
which the transformer knows the places of its tokens. Queries and keys of the cross-attention are projections that
compare the two. They are set, and stay: training does not find that comparison in the time that a run has.
"""

import math
from collections.abc import Sequence

import torch
from diffusers import PixArtTransformer2DModel
from torch import Tensor

from hasten.assets.recipes.emoji_image.model import NATIVE_PIXELS, PARTS_A_SIDE, POSITION_SCALE, TOKEN_PIXELS
from hasten.assets.recipes.emoji_image.scenes import Placement

WAVES = tuple(2 * math.pi * POSITION_SCALE * TOKEN_PIXELS / NATIVE_PIXELS * 10 ** (i / 16) for i in (0, 5, 10, 14, 19))
"""Five of the wavelengths of the position table for four heads, as shares of the picture's side: 0.12 to 1.9."""
PLACE = 4 * len(WAVES)
SAYINGS = PLACE + 1
"""What a token of the text says: the place of its part, and whether it is a word rather than a part."""
SHARPNESS = 1.7
WORDS_ONLY = 8.0
"""What the last head asks of every token of the text: to be a word."""
CORNER = 0.75 * TOKEN_PIXELS / NATIVE_PIXELS
"""The table counts a token's place from its corner: half a token before its middle, at either size about this much."""


def sayings_of_parts(placement: Placement) -> Tensor:
    """(PARTS, SAYINGS): sines and cosines, along x and then y, of where the parts of a thing stand, and -1."""
    within = ((torch.arange(PARTS_A_SIDE) + 0.5) / PARTS_A_SIDE - 0.5) * placement.size
    y, x = torch.meshgrid(placement.y + within, placement.x + within, indexing="ij")
    corners = torch.stack([x, y], dim=-1).flatten(0, 1) - CORNER
    angles = corners[:, :, None, None] * 2 * math.pi / torch.tensor(WAVES)
    places = torch.cat([angles.sin(), angles.cos()], dim=-2).flatten(1)
    return torch.cat([2**0.5 * places, -torch.ones(len(places), 1)], dim=-1)


def sayings_of_words() -> Tensor:
    """(SAYINGS,): no place, and 1."""
    return torch.tensor([0.0] * PLACE + [1.0])


def directions(width: int) -> Tensor:
    """(width, SAYINGS): orthonormal directions of the text encoder's output that hold what a token says."""
    return torch.linalg.qr(torch.randn(width, SAYINGS, generator=torch.Generator().manual_seed(0)))[0]


def place_channels(width: int) -> list[int]:
    """The channels of a transformer's position table (width, halves x and y, quarters sine and cosine) of `WAVES`."""
    quarter = width // 4
    rates = [2 * math.pi * POSITION_SCALE * TOKEN_PIXELS / NATIVE_PIXELS / wave for wave in WAVES]
    nearest = [round(-quarter * math.log10(rate) / 4) for rate in rates]
    return [part * quarter + index for part in range(4) for index in nearest]


@torch.no_grad()
def look_by_place(transformer: PixArtTransformer2DModel, preferred: Sequence[int]) -> None:
    """Set the projection of the text, and queries and keys of every cross-attention: the last head looks at words.

    Args:
        transformer (`PixArtTransformer2DModel`): Untrained.
        preferred (`Sequence[int]`): Channels of the text encoder's output that the projection keeps first.
    """
    width, projection = transformer.inner_dim, transformer.caption_projection
    basis = _basis(projection.linear_1.in_features, width // 2, preferred)
    # gelu(x) - gelu(-x) is x: the two layers together are a projection to half as many dimensions.
    projection.linear_1.weight.copy_(torch.cat([basis, -basis]))
    kept = torch.eye(width, width // 2)
    projection.linear_2.weight.copy_(torch.cat([kept, -kept], dim=-1))
    projection.linear_1.bias.zero_()
    projection.linear_2.bias.zero_()
    channels = torch.tensor(place_channels(width))
    for block in transformer.transformer_blocks:
        query, key, heads = block.attn2.to_q, block.attn2.to_k, block.attn2.heads
        size = width // heads
        for tensor in (query.weight, query.bias, key.weight, key.bias):
            tensor.zero_()
        for head in range(max(1, heads - 1)):
            own = torch.arange(head * size, head * size + PLACE)
            query.weight[own, channels] = key.weight[own, torch.arange(PLACE)] = SHARPNESS
        if heads > 1:
            query.bias[-size], key.weight[-size, PLACE] = WORDS_ONLY, SHARPNESS


def _basis(width: int, rank: int, preferred: Sequence[int]) -> Tensor:
    """(rank, width): orthonormal; first the directions of what tokens say, then the preferred channels."""
    columns = torch.cat([directions(width), torch.eye(width)[:, list(preferred)], torch.eye(width)], dim=-1)
    q, r = torch.linalg.qr(columns[:, :rank])
    return (q * r.diagonal().sign()).T

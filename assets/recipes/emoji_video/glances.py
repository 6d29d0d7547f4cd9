"""A head start for motion: some heads begin by looking where a moving thing came from.

Wan knows positions by RoPE alone, whose lowest rates hardly tell a token from its neighbour. A head that looks one
token aside must therefore grow large gains on its few fast channels, which takes long: a thing stays where it is, or
jumps, until then. So one head for each direction begins with that gaze, in every second block. All of it is trained on.
"""

import torch
from diffusers import WanTransformer3DModel

from hasten.assets.recipes.emoji_video.autoencoder import SPATIAL_STRIDE, TEMPORAL_STRIDE
from hasten.assets.recipes.emoji_video.model import PATCH
from hasten.assets.recipes.emoji_video.scenes import DIRECTIONS, PERIOD

FAST_PAIRS = 3
"""Channel pairs of each axis, the fastest ones, that carry a gaze."""
BIAS = 1.0
GAIN = 3.0
CONTENT = 0.1
"""Factor of the weights of these channels: what a token holds shall not turn the gaze away."""


def _source(direction: tuple[int, int], pixels: int) -> tuple[int, int, int]:
    """Frames, rows and columns from a moving thing to where it was one latent frame before."""
    tokens = pixels // PERIOD * TEMPORAL_STRIDE // (SPATIAL_STRIDE * PATCH)
    right, down = direction
    return -1, -down * tokens, -right * tokens


def _aim(transformer: WanTransformer3DModel, block: int, head: int, offset: tuple[int, int, int]) -> None:
    """Bias queries and keys of a head so that their product is largest for keys at `offset` (frame, row, column).

    Before RoPE a pair of rate ω has the key (1, 0) and the query (cos ωδ, sin ωδ): turned to places p and p', their
    product is cos ω(p' - p - δ).
    """
    attention = transformer.blocks[block].attn1
    rope = transformer.rope
    start = head * rope.attention_head_dim
    for shift, channels in zip(offset, (rope.t_dim, rope.h_dim, rope.w_dim), strict=True):
        for pair in range(FAST_PAIRS):
            angle = torch.tensor(10_000.0 ** (-2 * pair / channels) * shift)
            both = slice(start + 2 * pair, start + 2 * pair + 2)
            for weight in (attention.to_q.weight, attention.to_k.weight):
                weight[both] *= CONTENT
            attention.to_q.bias[both] = BIAS * torch.stack([angle.cos(), angle.sin()])
            attention.to_k.bias[both] = BIAS * torch.tensor([1.0, 0.0])
            attention.norm_q.weight[both] = attention.norm_k.weight[both] = GAIN
        start += channels


@torch.no_grad()
def look_back(transformer: WanTransformer3DModel, pixels: int) -> None:
    """Aim the first heads of every second block at the last latent frame, each along one direction of motion."""
    heads = transformer.config.num_attention_heads
    offsets = [_source(direction, pixels) for direction in DIRECTIONS.values()]
    for block in range(1, len(transformer.blocks), 2):
        for head, offset in zip(range(heads), offsets, strict=False):
            _aim(transformer, block, head, offset)

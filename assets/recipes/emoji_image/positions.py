"""Finer positions for a trained transformer, without unlearning what it knows of the coarse ones.

Sine-cosine positions have one channel a frequency, in a geometric row. The same positions times the ratio of that row
are therefore the same channels, one place further on. A transformer whose residual stream is moved by n places in each
quarter (sines and cosines of columns and of rows) computes from positions times ratio ** n what it did before. Only the
n lowest frequencies of each quarter, nearly constant over a picture, give way to n higher ones, by which a token can
tell its neighbours apart.
"""

import math

import torch
from diffusers import PixArtTransformer2DModel
from torch import Tensor

QUARTERS = 4
BASE = 10_000.0
_WRITES = ("pos_embed.proj", "timestep_embedder.linear_2", "attn1.to_out.0", "attn2.to_out.0", "ff.net.2")
_READS = (
    "attn1.to_q", "attn1.to_k", "attn1.to_v", "attn2.to_q", "ff.net.0.proj", "adaln_single.linear", "proj_out"
)  # fmt: skip


def places_between(coarse_scale: float, fine_scale: float, width: int) -> int:
    """By how many frequencies positions of `width` channels move, to the nearest, from one scale to a finer one."""
    return round(math.log(coarse_scale / fine_scale) / math.log(BASE) * width / QUARTERS)


def moved_channels(width: int, places: int) -> Tensor:
    """(width,) int64: which old channel each new one is."""
    return torch.arange(width).view(QUARTERS, -1).roll(places, dims=1).flatten()


@torch.no_grad()
def refine_positions(coarse: PixArtTransformer2DModel, places: int) -> PixArtTransformer2DModel:
    """A copy of `coarse` whose `interpolation_scale` is smaller by `places` frequencies, and that forgets its folder.

    Args:
        coarse (`PixArtTransformer2DModel`): The trained model.
        places (`int`): 8 of the 64 frequencies that 256 channels have are a factor of 3.16.
    """
    width = coarse.inner_dim
    new = moved_channels(width, places)
    scale = coarse.config.interpolation_scale / BASE ** (places * QUARTERS / width)
    config = {name: value for name, value in coarse.config.items() if name != "_name_or_path"}
    fine = PixArtTransformer2DModel.from_config(config | {"interpolation_scale": scale})
    fine.load_state_dict({name: _moved(name, value, new) for name, value in coarse.state_dict().items()})
    return fine.to(device=coarse.device, dtype=coarse.dtype)


def _moved(name: str, value: Tensor, new: Tensor) -> Tensor:
    """A parameter with its side of the residual stream moved; what never touches the stream stays.

    The embedded time counts as part of the stream, as the last modulation adds it to its table.
    """
    kind = name.removesuffix(".weight").removesuffix(".bias")
    matrix = name.endswith("weight")
    if kind.endswith("scale_shift_table"):
        return value[:, new]
    if kind == "adaln_single.linear":  # six shifts, scales and gates, one after the other
        value = value.unflatten(0, (-1, len(new)))[:, new].flatten(0, 1)
    if kind.endswith(_WRITES):
        return value[new]
    return value[:, new] if matrix and kind.endswith(_READS) else value

"""Noise that survives a resize: white before, white after.

The paper draws fresh noise at each change of resolution. Later work (Fresco, RALU) found that this throws away the
trajectory; what follows keeps it, for one change of resolution by any ratio.
"""

from functools import lru_cache

import torch
from torch import Tensor

from .schedule import shifted


def carry_noise(noise: Tensor, fresh: Tensor) -> Tensor:
    """White `noise` (..., h, w) at the size of `fresh` (..., H, W): low frequencies are kept, `fresh` adds new ones.

    Both of unit variance; so is the result, with no correlation between its elements.
    """
    kept = _project(noise, fresh.shape[-2:])
    return kept + fresh - _project(_project(fresh, noise.shape[-2:]), fresh.shape[-2:])


def snr_matched(x: Tensor, sigma: float, fresh: Tensor) -> tuple[Tensor, float]:
    """Resize the noisy flow-matching state `x` at `sigma` itself, without a prediction, to the size of `fresh`.

    With r the ratio of the sides, noise weighs r times less in the smaller picture: σ' = `shifted(σ, 1 / r)` going down
    and `shifted(σ, r)` going up, and the covariance of the noise is exactly σ'² · identity.

    Returns:
        `tuple[Tensor, float]`: the state at the size of `fresh`, and its σ'.
    """
    size, new_size, ratio = x.shape[-2:], fresh.shape[-2:], _ratio(x, fresh)
    total = (1 - sigma) / ratio + sigma  # a projection multiplies a smooth picture by 1 / ratio, and noise by one
    new_sigma = sigma / total
    missing = fresh - _project(_project(fresh, size), new_size)
    return _project(x, new_size) / total + new_sigma * missing, new_sigma


def matched_state(x0: Tensor, noise: Tensor, end: float, start: float, fresh: Tensor, more: Tensor) -> Tensor:
    """The noisy flow-matching state at the size of `fresh` and at σ `start`, from the state at the end of a stage.

    That state, of clean picture `x0` and `noise`, is taken at the σ from which `snr_matched` leads to `start`. Where
    this is more than `end`, it is taken at `end`, and `more` white noise makes up the rest.
    """
    ratio = _ratio(x0, fresh)
    level = min(end, shifted(start, 1 / ratio))
    state, sigma = snr_matched((1 - level) * x0 + level * noise, level, fresh)
    kept = (1 - start) / (1 - sigma)
    missing = max(0.0, start**2 - (kept * sigma) ** 2) ** 0.5
    return kept * state + missing * more


def matched_picture(x0: Tensor, size: tuple[int, int]) -> Tensor:
    """The clean picture that `snr_matched` makes of `x0` (..., h, w), of that height and width."""
    return snr_matched(x0, 0.0, x0.new_zeros(*x0.shape[:-2], *size))[0]


def _ratio(old: Tensor, new: Tensor) -> float:
    """Ratio of the sides of two pictures."""
    return (new.shape[-2] * new.shape[-1] / (old.shape[-2] * old.shape[-1])) ** 0.5


def _project(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Express `x` in the orthonormal basis of another size, each axis by itself."""
    rows, columns = (_basis(old, new).to(x.device, x.dtype) for old, new in zip(x.shape[-2:], size, strict=True))
    return rows @ x @ columns.mT


@lru_cache(maxsize=64)
def _basis(old: int, new: int) -> Tensor:
    """Matrix (new, old) with orthonormal columns or rows: means of blocks for whole ratios, cosines for others."""
    if old > new:
        return _basis(new, old).mT
    if new % old == 0:
        return torch.eye(old, dtype=torch.float64).repeat_interleave(new // old, 0) * (old / new) ** 0.5
    return _cosines(new)[:old].mT @ _cosines(old)


def _cosines(size: int) -> Tensor:
    """The orthonormal DCT-II matrix (frequency, position)."""
    frequency, position = torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(torch.pi * frequency * (2 * position + 1) / (2 * size)) * (2 / size) ** 0.5
    matrix[0] /= 2**0.5
    return matrix

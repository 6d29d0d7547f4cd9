"""What a refresh keeps of an attention layer, and how a sparse step uses it.

O is dense attention, O_S attention restricted to the window, both `(batch, heads, tokens, head_dim)`. ρ is the share of
the softmax mass inside the window, R = O - ρ·O_S what the tokens outside it contribute (Re-ttention, arXiv 2505.22918,
equations 8 to 10). t counts steps; the last refresh was at t_k. Each class makes the output of a sparse step from its
O_S(t).
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from hasten.kernels import RefreshOutput

KEPT_TENSORS = {"reshape": 1, "fitted": 3, "residual": 1, "reuse": 1, "none": 0}
"""Tensors of shape (batch, heads, tokens, head_dim) that each correction keeps; "reshape" keeps ρ besides."""


class _Kept:
    @property
    def nbytes(self) -> int:
        """Bytes of the kept tensors."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, Tensor))


@dataclass(frozen=True)
class Reshape(_Kept):
    """The paper: O = min(1, ρ + λ·i)·O_S + R, with i = 0 on the first sparse step, as in the released code."""

    step: int
    ratio: Tensor  # (batch, heads, tokens, 1)
    residual: Tensor
    ratio_increment: float

    @classmethod
    def keep(cls, refresh: RefreshOutput, step: int, ratio_increment: float) -> Self:
        """Keep ρ and R."""
        return cls(step, refresh.window_mass.unsqueeze(-1), refresh.residual, ratio_increment)

    def correct(self, window_output: Tensor, step: int) -> Tensor:
        """Output of the sparse step `step`."""
        ratio = (self.ratio + self.ratio_increment * (step - self.step - 1)).clamp_max(1)
        return torch.addcmul(self.residual, ratio.to(window_output.dtype), window_output)


@dataclass(frozen=True)
class Residual(_Kept):
    """DiTFastAttn: O = O_S + (O - O_S)(t_k)."""

    difference: Tensor

    @classmethod
    def keep(cls, refresh: RefreshOutput) -> Self:
        """Keep O - O_S."""
        return cls(refresh.output - refresh.window_output)

    def correct(self, window_output: Tensor, step: int) -> Tensor:
        """Output of the sparse step `step`."""
        return self.difference + window_output


@dataclass(frozen=True)
class Fitted(_Kept):
    """Ours: O = w·O_S + R(t_k) + drift·(t - t_k), where R = O - w·O_S.

    w, one per batch row and head, is the least-squares weight by which O followed O_S between the last two refreshes.
    The drift is the damped slope of R between them. O at a refresh is not kept, as it equals w·O_S + R.
    """

    step: int
    weight: Tensor  # (batch, heads, 1, 1)
    window_output: Tensor
    residual: Tensor
    drift: Tensor | None

    @classmethod
    def keep(cls, refresh: RefreshOutput, step: int, earlier: Self | None, slope_damping: float) -> Self:
        """Fit to this refresh and the `earlier` one; without an earlier one w = 1 and nothing drifts."""
        output, window_output = refresh.output, refresh.window_output
        if earlier is None:
            weight = output.new_ones(*output.shape[:2], 1, 1)
            return cls(step, weight, window_output, output - window_output, None)
        change = output - torch.addcmul(earlier.residual, earlier.weight, earlier.window_output)
        window_change = window_output - earlier.window_output
        weight = _least_squares_weight(change, window_change)
        slope = (change - weight * window_change) / (step - earlier.step)
        return cls(step, weight, window_output, output - weight * window_output, slope_damping * slope)

    def correct(self, window_output: Tensor, step: int) -> Tensor:
        """Output of the sparse step `step`."""
        corrected = torch.addcmul(self.residual, self.weight, window_output)
        return corrected if self.drift is None else corrected.add_(self.drift, alpha=step - self.step)


@dataclass(frozen=True)
class Reuse(_Kept):
    """Attention-output reuse, the baseline to beat: O = O(t_k), nothing is computed."""

    output: Tensor


@dataclass(frozen=True)
class Uncorrected(_Kept):
    """Sparse attention alone: O = O_S."""

    def correct(self, window_output: Tensor, step: int) -> Tensor:
        """Output of the sparse step `step`."""
        return window_output


def _least_squares_weight(change: Tensor, window_change: Tensor) -> Tensor:
    """w = ⟨ΔO, ΔO_S⟩ / ⟨ΔO_S, ΔO_S⟩ over tokens and channels, clamped to [0, 1.5]; shape (batch, heads, 1, 1)."""
    precise = torch.promote_types(change.dtype, torch.float32)
    change, regressor = change.to(precise), window_change.to(precise)
    covariance = (change * regressor).sum((-2, -1), keepdim=True)
    variance = regressor.square().sum((-2, -1), keepdim=True).clamp_min(torch.finfo(precise).tiny)
    return (covariance / variance).clamp(0, 1.5).to(window_change.dtype)

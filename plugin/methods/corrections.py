"""What a refresh keeps of an attention layer, and how a sparse step uses it.

O is dense attention, O_S attention restricted to the window, both `(batch, heads, tokens, head_dim)`. ρ is the share of
the softmax mass inside the window, R = O - ρ·O_S what the tokens outside it contribute (Re-ttention, arXiv 2505.22918,
equations 8 to 10). t counts steps; the last refresh was at t_k. Each class says how the output of a sparse step is made
of its O_S(t). What is kept of (batch, heads, tokens, head_dim) may be packed into 8 or 4 bits a value, with a scale and
an offset for each token of a head.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from hasten.kernels import Packed, RefreshOutput, pack, unpack

KEPT_TENSORS = {"reshape": 1, "fitted": 3, "residual": 1, "reuse": 1, "none": 0}
"""Tensors of shape (batch, heads, tokens, head_dim) that each correction keeps; "reshape" keeps ρ besides."""

Stored = Tensor | Packed
UNPACKED = 16
"""`bits` of a tensor that is kept as it is."""


class Reshaping(NamedTuple):
    """O = ratio · O_S + residual + drift_factor · drift.

    Args:
        ratio (`Tensor`): (batch, heads, tokens) or (batch, heads, 1).
        residual (`Tensor`), drift (`Tensor`, *optional*): (batch, heads, tokens, head_dim).
        drift_factor (`float`): factor of the drift.
    """

    ratio: Tensor
    residual: Tensor
    drift: Tensor | None = None
    drift_factor: float = 0.0


class _Kept:
    @property
    def nbytes(self) -> int:
        """Bytes of the kept tensors."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, Stored))


def _store(values: Tensor, bits: int) -> Stored:
    return values if bits == UNPACKED else pack(values, bits)


def _read(stored: Stored) -> Tensor:
    return unpack(stored) if isinstance(stored, Packed) else stored


@dataclass(frozen=True)
class Reshape(_Kept):
    """The paper: O = min(1, ρ + λ·i)·O_S + R, with i = 0 on the first sparse step, as in the released code."""

    step: int
    ratio: Tensor  # (batch, heads, tokens)
    residual: Stored
    ratio_increment: float

    @classmethod
    def keep(cls, refresh: RefreshOutput, step: int, ratio_increment: float, bits: int = UNPACKED) -> Self:
        """Keep ρ and R."""
        return cls(step, refresh.window_mass, _store(refresh.residual, bits), ratio_increment)

    def reshaping(self, step: int) -> Reshaping:
        """How the sparse step `step` is made."""
        ratio = (self.ratio + self.ratio_increment * (step - self.step - 1)).clamp(0, 1)
        return Reshaping(ratio, _read(self.residual))


@dataclass(frozen=True)
class Residual(_Kept):
    """DiTFastAttn: O = O_S + (O - O_S)(t_k)."""

    difference: Stored

    @classmethod
    def keep(cls, refresh: RefreshOutput, bits: int = UNPACKED) -> Self:
        """Keep O - O_S."""
        return cls(_store(refresh.output - refresh.window_output, bits))

    def reshaping(self, step: int) -> Reshaping:
        """How the sparse step `step` is made."""
        difference = _read(self.difference)
        return Reshaping(difference.new_ones(*difference.shape[:2], 1), difference)


@dataclass(frozen=True)
class Fitted(_Kept):
    """Ours: O = w·O_S + R(t_k) + drift·(t - t_k), where R = O - w·O_S.

    w, one per batch row and head, is the least-squares weight by which O followed O_S between the last two refreshes.
    The drift is the damped slope of R between them. O at a refresh is not kept, as it equals w·O_S + R.
    """

    step: int
    weight: Tensor  # (batch, heads, 1, 1)
    window_output: Stored
    residual: Stored
    drift: Stored | None

    @classmethod
    def keep(
        cls, refresh: RefreshOutput, step: int, earlier: Self | None, slope_damping: float, bits: int = UNPACKED
    ) -> Self:
        """Fit to this refresh and the `earlier` one; without an earlier one w = 1 and nothing drifts."""
        output, window_output = refresh.output, refresh.window_output
        stored_window = _store(window_output, bits)
        if earlier is None:
            weight = output.new_ones(*output.shape[:2], 1, 1)
            return cls(step, weight, stored_window, _store(output - window_output, bits), None)
        earlier_window = _read(earlier.window_output)
        change = output - torch.addcmul(_read(earlier.residual), earlier.weight, earlier_window)
        window_change = window_output - earlier_window
        weight = _least_squares_weight(change, window_change)
        drift = slope_damping * (change - weight * window_change) / (step - earlier.step)
        return cls(step, weight, stored_window, _store(output - weight * window_output, bits), _store(drift, bits))

    def reshaping(self, step: int) -> Reshaping:
        """How the sparse step `step` is made."""
        drift = None if self.drift is None else _read(self.drift)
        return Reshaping(self.weight.squeeze(-1), _read(self.residual), drift, step - self.step)


@dataclass(frozen=True)
class Reuse(_Kept):
    """Attention-output reuse, the baseline to beat: O = O(t_k), nothing is computed."""

    stored: Stored

    @classmethod
    def keep(cls, output: Tensor, bits: int = UNPACKED) -> Self:
        """Keep O; a copy, as the layers after this one may write into theirs."""
        return cls(_store(output.clone() if bits == UNPACKED else output, bits))

    @property
    def output(self) -> Tensor:
        """O(t_k), a copy as well."""
        return self.stored.clone() if isinstance(self.stored, Tensor) else unpack(self.stored)


@dataclass(frozen=True)
class Uncorrected(_Kept):
    """Sparse attention alone: O = O_S."""


def _least_squares_weight(change: Tensor, window_change: Tensor) -> Tensor:
    """w = ⟨ΔO, ΔO_S⟩ / ⟨ΔO_S, ΔO_S⟩ over tokens and channels, clamped to [0, 1.5]; shape (batch, heads, 1, 1)."""
    precise = torch.promote_types(change.dtype, torch.float32)
    change, regressor = change.to(precise), window_change.to(precise)
    covariance = (change * regressor).sum((-2, -1), keepdim=True)
    variance = regressor.square().sum((-2, -1), keepdim=True).clamp_min(torch.finfo(precise).tiny)
    return (covariance / variance).clamp(0, 1.5).to(window_change.dtype)

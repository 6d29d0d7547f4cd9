"""What attention returns, and how partial attentions over disjoint keys are merged."""

from typing import NamedTuple

import torch
from torch import Tensor


class AttentionOutput(NamedTuple):
    """Attention over some set of keys, with what is needed to merge it with attention over other keys.

    Args:
        output (`Tensor`): (B, H, N, D), the dtype of the inputs; 0 where a query sees no key.
        lse (`Tensor`): (B, H, N), natural log-sum-exp of the scaled scores, float32 (float64 for float64 inputs);
            -inf where a query sees no key.
    """

    output: Tensor
    lse: Tensor


class RefreshOutput(NamedTuple):
    """Dense attention split into the part inside a window and the rest (Re-ttention, arXiv 2505.22918, equations 8-10).

    Args:
        output (`Tensor`): (B, H, N, D), dense attention, the dtype of the inputs.
        lse (`Tensor`): (B, H, N), its log-sum-exp, float32 (float64 for float64 inputs).
        window_output (`Tensor`): (B, H, N, D), attention restricted to the window.
        window_lse (`Tensor`): (B, H, N), its log-sum-exp.
        residual (`Tensor`): (B, H, N, D), R = output - rho · window_output = (1 - rho) · attention outside it.
    """

    output: Tensor
    lse: Tensor
    window_output: Tensor
    window_lse: Tensor
    residual: Tensor

    @property
    def window_mass(self) -> Tensor:
        """rho = exp(window_lse - lse), (B, H, N), the share of the softmax mass inside the window, in (0, 1]."""
        return mass(self.window_lse, self.lse)


def lse_dtype(dtype: torch.dtype) -> torch.dtype:
    """Returns the dtype in which scores are accumulated and log-sum-exps are returned."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def mass(part_lse: Tensor, lse: Tensor) -> Tensor:
    """Returns exp(part_lse - lse), the share of the softmax mass in a part of the keys; 0 where both are empty."""
    return torch.exp(part_lse - lse).nan_to_num(nan=0.0).clamp(max=1.0)


def no_keys(query: Tensor) -> AttentionOutput:
    """Returns the attention of a query (B, H, N, D) to nothing."""
    lse = query.new_full(query.shape[:3], -torch.inf, dtype=lse_dtype(query.dtype))
    return AttentionOutput(torch.zeros_like(query), lse)


def merge(*parts: AttentionOutput) -> AttentionOutput:
    """Merges attention over disjoint sets of keys into attention over their union, rounded once.

    Args:
        parts (`AttentionOutput`): at least one; any may be empty (log-sum-exp -inf) at any query.
    """
    first, *others = parts
    if not others:
        return first
    output, lse = first.output.to(first.lse.dtype, copy=True), first.lse
    for part in others:
        lse = torch.logaddexp(lse, part.lse)
        output.lerp_(part.output.to(lse.dtype), mass(part.lse, lse).unsqueeze(-1))
    return AttentionOutput(output.to(first.output.dtype), lse)

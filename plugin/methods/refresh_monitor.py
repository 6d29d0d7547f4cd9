"""Refreshes that the run itself calls for: how far the outputs of windows have moved since the last refresh."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..report import RunLog, StepKind
from .corrections import Reshaping

SAMPLED_TOKENS = 64
"""Of a layer, at least, where it has as many; fewer than twice as many."""


@dataclass(frozen=True)
class Sampled:
    """What a correction keeps of a refresh, and with a `refresh_threshold` the window's attention at some tokens."""

    kept: Any
    window_output: Tensor | None = None  # (batch, heads, some tokens, head_dim)

    @property
    def nbytes(self) -> int:
        """Bytes of the kept tensors."""
        return self.kept.nbytes + (0 if self.window_output is None else self.window_output.nbytes)


def sample_stride(tokens: int) -> int:
    """Distance from one sampled token to the next, of that many tokens."""
    return max(1, tokens // SAMPLED_TOKENS)


def sample(tokens: Tensor) -> Tensor:
    """Some of the tokens of (batch, heads, tokens, ...), a view."""
    return tokens[:, :, :: sample_stride(tokens.shape[2])]


def relative_change(output: Tensor, reshaping: Reshaping, earlier: Tensor) -> Tensor:
    """|ρ·O_S(t) - ρ·O_S(t_k)| / |ρ·O_S(t_k)| over the sampled tokens of a layer, a number.

    Args:
        output (`Tensor`): (batch, heads, tokens, head_dim), ρ·O_S(t) and what `reshaping` adds to it.
        reshaping (`Reshaping`): how the step was made.
        earlier (`Tensor`): O_S(t_k), sampled.
    """
    ratio = reshaping.ratio if reshaping.ratio.shape[2] == 1 else sample(reshaping.ratio)
    precise = torch.promote_types(output.dtype, torch.float32)
    window = sample(output).to(precise) - sample(reshaping.residual)
    if reshaping.drift is not None:
        window -= reshaping.drift_factor * sample(reshaping.drift)
    before = ratio.unsqueeze(-1).to(precise) * earlier
    return torch.linalg.vector_norm(window - before) / torch.linalg.vector_norm(before)


class RefreshMonitor:
    """Decides before each step of a run, for all layers and contexts alike, whether it refreshes.

    Args:
        threshold (`float`): Mean change of the layers in a step above which the next one refreshes.
        interval (`int`): Steps after a refresh at which the next one is due in any case.
        steps (`range`): Those that need not be dense.
        log (`RunLog`): Is told the change in each step.
    """

    def __init__(self, threshold: float, interval: int, steps: range, log: RunLog) -> None:
        self._threshold, self._interval, self._steps, self._log = threshold, interval, steps, log
        self._step = -1
        self._kind: StepKind = "dense"
        self._refreshed: int | None = None
        self._changes: list[Tensor] = []

    def observe(self, change: Tensor) -> None:
        """A layer has changed by that much in the running step."""
        self._changes.append(change)

    def kind_of(self, step: int) -> StepKind:
        """What a step of `steps` computes; decided when it begins."""
        if step != self._step:
            self._kind = self._decide(step, self._take_change())
            self._step = step
        return self._kind

    def _decide(self, step: int, change: float | None) -> StepKind:
        due = self._refreshed is None or step - self._refreshed >= self._interval
        if not due and (change is None or change <= self._threshold):
            return "sparse"
        if step == self._steps[-1]:  # no sparse step is left to use its statistics
            return "dense"
        self._refreshed = step
        return "refresh"

    def _take_change(self) -> float | None:
        """Mean change of the last step, of the layers that have one. Makes the host wait for the device once."""
        changes, self._changes = self._changes, []
        change = torch.stack(changes).nanmean().item() if changes else math.nan
        if not math.isfinite(change):
            return None
        self._log.note_change(self._step, change)
        return change

"""Re-ttention written down a second time, from the paper, in plain float64 matrices. It shares no code with hasten."""

from typing import Any

import torch
from torch import Tensor


def band(tokens: int, half_width: int) -> Tensor:
    position = torch.arange(tokens)
    return (position[:, None] - position[None, :]).abs() <= half_width


class Statistics:
    """Dense and windowed attention of one refresh, with the share of the exponentials that lie in the window."""

    def __init__(self, query: Tensor, key: Tensor, value: Tensor, window: Tensor) -> None:
        exponentials = (query @ key.mT / query.shape[-1] ** 0.5).exp()
        inside = exponentials * window
        self.ratio = inside.sum(-1, keepdim=True) / exponentials.sum(-1, keepdim=True)
        self.full = exponentials / exponentials.sum(-1, keepdim=True) @ value
        self.sparse = inside / inside.sum(-1, keepdim=True) @ value


class ChangingKinds:
    """Spells the steps of a run that refreshes when its layers have changed, or an interval after the last time.

    What the layers note in a step decides on the next one.
    """

    def __init__(self, beginning: str, steps: int, interval: int, threshold: float) -> None:
        self.spelled, self.steps, self.interval, self.threshold = beginning, steps, interval, threshold
        self.changes: dict[int, list[float]] = {}

    def __getitem__(self, step: int) -> str:
        if step == len(self.spelled):
            noted = self.changes.get(step - 1, [0.0])
            wanted = sum(noted) / len(noted) > self.threshold or step - self.spelled.rindex("R") == self.interval
            self.spelled += ("D" if step == self.steps - 1 else "R") if wanted else "S"
        return self.spelled[step]


class OracleAttention:
    """One layer over a run: `kinds` spells the steps, D dense, R refresh, S sparse."""

    def __init__(
        self,
        kinds: str | ChangingKinds,
        half_width: int,
        correction: str,
        ratio_increment: float,
        slope_damping: float,
    ) -> None:
        self.kinds, self.half_width, self.correction = kinds, half_width, correction
        self.ratio_increment, self.slope_damping = ratio_increment, slope_damping
        self.step = -1
        self.refreshes: list[tuple[int, Statistics]] = []

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        self.step += 1
        now = Statistics(query, key, value, band(query.shape[-2], self.half_width))
        if self.kinds[self.step] == "R":
            self.refreshes.append((self.step, now))
        if self.kinds[self.step] != "S":
            return now.full
        return getattr(self, f"_{self.correction}")(now)

    def _note_change(self, now: Statistics, weight: Any) -> None:
        if isinstance(self.kinds, ChangingKinds):
            before = (weight * self.refreshes[-1][1].sparse).flatten()
            change = ((weight * now.sparse).flatten() - before).norm() / before.norm()
            self.kinds.changes.setdefault(self.step, []).append(change.item())

    def _reshape(self, now: Statistics) -> Tensor:
        when, then = self.refreshes[-1]
        residual = then.full - then.ratio * then.sparse
        ratio = (then.ratio + self.ratio_increment * (self.step - when - 1)).clamp(0, 1)
        self._note_change(now, ratio)
        return ratio * now.sparse + residual

    def _residual(self, now: Statistics) -> Tensor:
        then = self.refreshes[-1][1]
        self._note_change(now, 1.0)
        return now.sparse + then.full - then.sparse

    def _reuse(self, now: Statistics) -> Tensor:
        return self.refreshes[-1][1].full

    def _none(self, now: Statistics) -> Tensor:
        return now.sparse

    def _fitted(self, now: Statistics) -> Tensor:
        (earlier_when, earlier), (when, then) = self.refreshes[-2:]
        change, sparse_change = then.full - earlier.full, then.sparse - earlier.sparse
        weight = torch.empty(*change.shape[:2], 1, 1, dtype=change.dtype)
        for row in range(change.shape[0]):
            for head in range(change.shape[1]):
                regressor = sparse_change[row, head].flatten()
                fit = torch.linalg.lstsq(regressor[:, None], change[row, head].flatten()[:, None]).solution.item()
                weight[row, head] = min(max(fit, 0.0), 1.5)
        residual = then.full - weight * then.sparse
        earlier_residual = earlier.full - weight * earlier.sparse
        slope = (residual - earlier_residual) / (when - earlier_when)
        self._note_change(now, weight)
        return weight * now.sparse + residual + self.slope_damping * slope * (self.step - when)


class OracleProcessor:
    """A self-attention processor around an `OracleAttention`, for modules without norms and residuals."""

    def __init__(self, attention: OracleAttention) -> None:
        self.attention = attention

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        query, key, value = (
            projection(hidden_states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for projection in (attn.to_q, attn.to_k, attn.to_v)
        )
        return attn.to_out[0](self.attention(query, key, value).transpose(1, 2).flatten(-2))

"""Reuse of a denoising step's residual while the model's features have moved little since it was computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class StepReuse:
    """
    When a denoising step of a chunk repeats the residual of the last computed one in place of the transformer blocks.

    The feature is what enters the blocks, the residual what they add to it, as in TeaCache (arXiv 2411.19108). The
    rule that the study's FLOWCACHE_NATIVE followed was never published; its threshold was 1.5, and its log shows
    exactly one of the four steps of every chunk reused.

    Args:
        threshold (`float`, defaults to `1.5`):
            Relative L1 change of the feature below which a step is reused.
        warmup_steps (`int`, defaults to `0`):
            Steps at the beginning of a chunk that are computed in any case; the first one always is.
        most_per_chunk (`int`, defaults to `1`):
            Steps of a chunk that may be reused.
    """

    threshold: float = 1.5
    warmup_steps: int = 0
    most_per_chunk: int = 1

    def reuses(self, step: int, feature: Tensor, kept: Tensor | None, reused: int) -> bool:
        """Whether this step is reused. The clean pass that writes the cache is no step and never is.

        Args:
            step (`int`):
                Index of the denoising step in its chunk.
            feature (`Tensor`):
                (B, N, C), the feature of this step.
            kept (`Tensor`, *optional*):
                (B, N, C), that of the step whose residual would be repeated; `None` when the chunk has none yet.
            reused (`int`):
                Steps of this chunk that have been reused.
        """
        if kept is None or step < self.warmup_steps or reused >= self.most_per_chunk:
            return False
        return relative_change(feature, kept) < self.threshold


def relative_change(feature: Tensor, kept: Tensor) -> float:
    """Mean absolute difference of two features as a share of the mean magnitude of the one that is kept."""
    return float((feature - kept).abs().float().mean() / kept.abs().float().mean().clamp_min(1e-6))

"""What a denoiser call costs at a resolution, and a schedule of stages against the full run."""

from collections.abc import Iterable
from typing import NamedTuple


class TransformerFlops(NamedTuple):
    """
    FLOPs of a diffusion transformer: linear layers grow with its tokens, attention with their square.

    Args:
        token_parameters (`float`):
            Weights of linear layers that each token passes, summed over the blocks.
        attention_width (`float`):
            Inner dimension of attention, summed over the blocks.
    """

    token_parameters: float
    attention_width: float

    def forward(self, tokens: int, density: float = 1.0) -> float:
        """FLOPs of one forward pass over `tokens`, attention computing a share `density` of its pairs."""
        return 2 * self.token_parameters * tokens + 4 * self.attention_width * tokens**2 * density

    def attention_share(self, tokens: int) -> float:
        """Share of attention in a forward pass."""
        return 1 - self.forward(tokens, density=0) / self.forward(tokens)


def speedup(full_steps: int, stages: Iterable[tuple[int, float]]) -> float:
    """Ratio of costs of `full_steps` full steps to stages of (steps, cost of a step as a share of a full one)."""
    return full_steps / sum(steps * cost for steps, cost in stages)

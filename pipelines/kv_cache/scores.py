"""What pages and tokens are ranked by, measured while they are written."""

import torch
from torch import Tensor

from hasten.kernels.paged import KeysAndValues, Segment, paged_attention

SAMPLED_QUERIES = 64


class RelativeChange:
    """How much each page differs from the one before it, by the mean magnitudes of its heads.

    The study compares a page with what the tail of the cache held at the plan before, which is another page, and one
    that may have been pruned meanwhile. Here a page is compared with its predecessor in time, once, before it is coded:
    δ = mean over heads of |u - u'| / mean over heads of u', with u = mean |K| + mean |V|; 1 for the first page.
    """

    def __init__(self, heads: int, device: torch.device | str) -> None:
        self.last = torch.zeros(heads, device=device)

    @property
    def nbytes(self) -> int:
        """Bytes that are kept between chunks."""
        return self.last.nbytes

    def of(self, pages: list[KeysAndValues]) -> list[float]:
        """δ of new pages (B, H, N, D), in their order."""
        magnitudes = [_magnitude(page.key) + _magnitude(page.value) for page in pages]
        levels = torch.stack([self.last, *magnitudes])
        self.last.copy_(levels[-1])
        change = (levels[1:] - levels[:-1]).abs().mean(1) / levels[:-1].mean(1)
        return torch.where(levels[:-1].any(1), change, 1.0).tolist()


def _magnitude(x: Tensor) -> Tensor:
    return x.abs().mean((0, 2, 3), dtype=torch.float32)


def attention_mass(query: Tensor, pages: list[list[Segment | KeysAndValues]]) -> list[float]:
    """Share of the attention of some of the queries that falls on each page, averaged over batch and heads.

    Args:
        query (`Tensor`):
            (B, H, M, D), of the newest chunk; 64 of its tokens, evenly spread, are asked.
        pages (`list[list[Segment | KeysAndValues]]`):
            The keys and values of each page.
    """
    sample = query[:, :, :: -(-query.shape[2] // SAMPLED_QUERIES)].contiguous()
    lse = torch.stack([paged_attention(sample, page).lse for page in pages])
    return lse.softmax(0).mean((1, 2, 3)).tolist()


class TemporalVariance:
    """How much the values at each position of a frame have changed over time.

    The variance, over all frames that were written so far and no others, of the mean of |V| over batch, heads and
    channels. Welford's recurrence, so that frames that are gone count too.
    """

    def __init__(self, frame_tokens: int, device: torch.device | str) -> None:
        self.frames = 0
        self.mean, self.squares = torch.zeros(2, frame_tokens, device=device)

    @property
    def nbytes(self) -> int:
        """Bytes that are kept between chunks."""
        return self.mean.nbytes + self.squares.nbytes

    def order(self, new: list[Tensor]) -> Tensor:
        """Positions of a frame, those that vary most first, (N,), with the values (B, H, N, D) of new frames."""
        for value in new:
            level = value.abs().mean((0, 1, 3), dtype=torch.float32)
            self.frames += 1
            gap = level - self.mean
            self.mean += gap / self.frames
            self.squares += gap * (level - self.mean)
        return self.squares.argsort(descending=True, stable=True)

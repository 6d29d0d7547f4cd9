"""Plain with fewer steps: the quality that anybody gets without acceleration for the same seconds."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hasten.app.tune.samples import BEST_PSNR, Entry, Measured

SHARES = (0.9, 0.7, 0.5, 0.35, 0.2)


class Quality(NamedTuple):
    """PSNR in dB, and SSIM."""

    psnr: float
    ssim: float


def count_of(share: float, steps: int) -> int:
    """The steps that are `share` of all."""
    return max(1, round(share * steps))


def fewer_steps(steps: int) -> list[Entry]:
    """The plain pipeline at the step counts between which qualities are interpolated."""
    counts = sorted({count_of(share, steps) for share in SHARES} - {steps}, reverse=True)
    return [Entry(f"plain, {count} steps", steps=count) for count in counts]


@dataclass(frozen=True)
class StepsLine:
    """What plain with fewer steps measured to, on some requests."""

    points: tuple[Measured, ...]

    def at(self, share: float) -> Quality:
        """Quality of plain with the steps that fit into `share` of the seconds of plain with all.

        Between step counts the errors, which for PSNR are root mean squares, are interpolated over seconds; below the
        fewest steps their quality stands. All of the seconds give the plain picture itself.
        """
        known = [(point.share, _rms(point.psnr), 1 - point.ssim) for point in self.points if point.share < 1]
        known = [*sorted(known), (1.0, _rms(BEST_PSNR), 0.0)]
        if share <= known[0][0]:
            return _quality(*known[0][1:])
        for (left, *errors), (right, *better) in itertools.pairwise(known):
            if share <= right:
                weight = (share - left) / (right - left)
                return _quality(*(a + weight * (b - a) for a, b in zip(errors, better, strict=True)))
        return Quality(BEST_PSNR, 1.0)

    def entries_around(self, shares: Sequence[float]) -> list[Entry]:
        """The step counts next to those that fit into `shares` of plain's seconds."""
        ordered = sorted(self.points, key=lambda point: point.share)
        wanted: set[int] = set()
        for share in shares:
            below = [point.steps for point in ordered if point.share <= share][-1:]
            above = [point.steps for point in ordered if point.share > share][:1]
            wanted.update(below + above)
        return [Entry(f"plain, {count} steps", steps=count) for count in sorted(wanted, reverse=True)]


def _rms(psnr: float) -> float:
    return 10 ** (-psnr / 20)


def _quality(rms: float, dissimilarity: float) -> Quality:
    return Quality(-20 * math.log10(rms), 1 - dissimilarity)

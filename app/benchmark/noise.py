"""Whether figures of single requests changed, or only vary from run to run."""

import math
import statistics
from collections.abc import Sequence

T_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)
"""97.5 % quantiles of Student's t for 1 to 10 degrees of freedom; beyond, the last one is a little too wide."""


def paired_change(before: Sequence[float], after: Sequence[float]) -> tuple[float, float | None]:
    """Mean difference of figures of the same requests, and the half-width of its 95 % confidence interval.

    What a request itself does to a figure cancels; what is left is the noise of measuring. None for one request: a
    single difference has no spread.
    """
    differences = [b - a for a, b in zip(before, after, strict=True)]
    return statistics.fmean(differences), _half_width([differences])


def unpaired_change(before: Sequence[float], after: Sequence[float]) -> tuple[float, float | None]:
    """The same for figures of different requests, which differ by more than noise: Welch's interval.

    Its degrees of freedom are those of the smaller sample, which is on the safe side.
    """
    return statistics.fmean(after) - statistics.fmean(before), _half_width([before, after])


def _half_width(samples: Sequence[Sequence[float]]) -> float | None:
    freedom = min(len(sample) for sample in samples) - 1
    if freedom == 0:
        return None
    error = math.sqrt(sum(statistics.variance(sample) / len(sample) for sample in samples))
    return T_95[min(freedom, len(T_95)) - 1] * error

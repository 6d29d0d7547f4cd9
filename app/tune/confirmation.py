"""The decision: finalists against the preset on prompts that the search never saw, with what noise leaves open."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hasten.app.tune.limits import Yardstick
from hasten.app.tune.samples import Measured

CONFIDENCE = 0.95
LEAST_REQUESTS = 6
"""With fewer, not even unanimity would say anything at this confidence."""


@dataclass(frozen=True)
class Interval:
    """A median, and between which values it lies with at least the stated `confidence`."""

    median: float
    low: float
    high: float
    confidence: float


def median_interval(values: Sequence[float]) -> Interval:
    """The median of what `values` are samples of, with the narrowest interval between two of them that is safe.

    The number of samples below the median is binomial with p = 1/2 whatever their distribution (the sign test), so that
    a slow minute of the machine counts for no more than any other sample. The confidence is `CONFIDENCE` or more, but
    less with fewer than `LEAST_REQUESTS` values.
    """
    ordered, count = sorted(values), len(values)
    left_out = 0  # samples at each end
    while left_out + 1 < count / 2 and _confidence(count, left_out + 1) >= CONFIDENCE:
        left_out += 1
    confidence = _confidence(count, left_out)
    return Interval(statistics.median(ordered), ordered[left_out], ordered[count - 1 - left_out], confidence)


def speed_over(one: Measured, other: Measured) -> Interval:
    """Ratio of the seconds of `other` to those of `one`, request by request."""
    pairs = zip(one.samples, other.samples, strict=True)
    return median_interval([mine.speedup / theirs.speedup for mine, theirs in pairs])


@dataclass(frozen=True)
class Verdict:
    """Which of preset and finalists is chosen, and why; `over_preset` is the speed of the chosen one over the preset.

    `dominates` says that the chosen one is faster than the preset beyond noise, at no lower PSNR and SSIM.
    """

    chosen: Measured
    is_preset: bool
    over_preset: Interval
    dominates: bool
    sentence: str

    def to_dict(self, preset: Measured) -> dict[str, Any]:
        """The verdict as JSON-able values; `preset` is what it compares with."""
        return {
            "chosen": self.chosen.name,
            "is_preset": self.is_preset,
            "dominates_preset": self.dominates,
            "over_preset": {
                "speed": asdict(self.over_preset),
                "psnr": self.chosen.psnr - preset.psnr,
                "ssim": self.chosen.ssim - preset.ssim,
            },
            "sentence": self.sentence,
        }


def decide(finalists: Sequence[Measured], yardstick: Yardstick) -> Verdict:
    """Choose among the preset, which `yardstick` holds, and the finalists, all measured on held-out requests.

    A finalist is in question if it keeps the limits, is faster than plain, and is faster than the preset, all beyond
    noise; than the preset only if that keeps the limits itself. Of those that noise leaves as fast as the fastest, the
    one of the highest PSNR is chosen.
    """
    preset = yardstick.preset
    feasible = [one for one in finalists if yardstick.keeps(one) and _faster_than_plain(one)]
    beating = feasible
    if yardstick.keeps(preset):
        beating = [one for one in feasible if speed_over(one, preset).low > 1]
    if not beating:
        return Verdict(preset, True, speed_over(preset, preset), False, _why_preset(preset, feasible, yardstick))
    fastest = max(beating, key=lambda one: one.speedup)
    tied = [one for one in beating if speed_over(fastest, one).low <= 1]
    chosen = max(tied, key=lambda one: one.psnr)
    speed = speed_over(chosen, preset)
    dominates = speed.low > 1 and chosen.psnr >= preset.psnr and chosen.ssim >= preset.ssim
    return Verdict(chosen, False, speed, dominates, _why_chosen(chosen, preset, speed))


def _faster_than_plain(one: Measured) -> bool:
    return median_interval([sample.speedup for sample in one.samples]).low > 1


def _confidence(count: int, left_out: int) -> float:
    """That the median of a distribution lies between its samples, `left_out` of them left out at each end."""
    return 1 - 2 * sum(math.comb(count, below) for below in range(left_out + 1)) / 2**count


def _why_preset(preset: Measured, feasible: Sequence[Measured], yardstick: Yardstick) -> str:
    if not yardstick.keeps(preset):
        return f"Nothing kept the limits on held-out prompts, '{preset.name}' included, whose recipe this is."
    if not feasible:
        return f"Nothing else kept the limits on held-out prompts; the recipe is that of '{preset.name}'."
    return f"Nothing within the limits was faster than '{preset.name}' beyond noise; the recipe is its own."


def _why_chosen(chosen: Measured, preset: Measured, speed: Interval) -> str:
    noise = f"{speed.low:.2f} to {speed.high:.2f} at {speed.confidence:.0%} confidence"
    beyond = "beyond noise" if speed.low > 1 else "within noise" if speed.high >= 1 else "slower"
    return (
        f"{chosen.name} is {speed.median:.2f} times as fast as '{preset.name}' ({noise}: {beyond}) on "
        f"{len(chosen.samples)} held-out prompts, with {chosen.psnr - preset.psnr:+.1f} dB PSNR and "
        f"{chosen.ssim - preset.ssim:+.3f} SSIM."
    )

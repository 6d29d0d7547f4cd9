"""Limits of quality, and by how much a recipe keeps or misses them."""

from dataclasses import asdict, dataclass
from typing import Any

from hasten.app.tune.samples import Measured, Sample
from hasten.app.tune.steps_line import StepsLine

SAME_SECONDS = 0.05
"""Seconds count as the same within this share: what a machine's noise does to a few calls."""

FAR = {"psnr": 4.0, "ssim": 0.05}
"""Where a first picture misses a limit by more, the mean of a few will miss it too."""

UNITS = {"psnr": 1.0, "ssim": 0.01, "accuracy_drop": 0.01}
"""What weighs the same when misses are added up: 1 dB, 0.01 SSIM, one picture of a hundred."""


@dataclass(frozen=True)
class Limits:
    """What a recipe must keep on average over prompts. None given: the quality of the preset, and of fewer steps.

    Args:
        min_psnr (`float`, *optional*): Least mean PSNR to the plain pictures, in dB.
        min_ssim (`float`, *optional*): Least mean SSIM to the plain pictures.
        max_accuracy_drop (`float`, *optional*): Most caption accuracy that may be lost, as a share of the pictures.
    """

    min_psnr: float | None = None
    min_ssim: float | None = None
    max_accuracy_drop: float | None = None

    @property
    def given(self) -> bool:
        """Whether there is any."""
        return any(limit is not None for limit in asdict(self).values())

    def describe(self, preset: str) -> str:
        """The limits in words."""
        words = {
            "min_psnr": "a PSNR of at least {} dB",
            "min_ssim": "an SSIM of at least {}",
            "max_accuracy_drop": "a loss of caption accuracy of at most {}",
        }
        given = [words[name].format(limit) for name, limit in asdict(self).items() if limit is not None]
        default = f"at least the PSNR and SSIM of '{preset}', and of plain with fewer steps at the same seconds"
        return ", ".join(given) or default


@dataclass(frozen=True)
class Yardstick:
    """Limits, with what decides about them where none are given: fewer steps and the preset, on the same requests."""

    limits: Limits
    line: StepsLine
    preset: Measured

    def misses(self, one: Measured) -> dict[str, float]:
        """By how much `one` misses each limit that it misses, in dB, SSIM or share of pictures."""
        psnr, ssim = self._floors(one)
        amounts = {
            "psnr": None if psnr is None else psnr - one.psnr,
            "ssim": None if ssim is None else ssim - one.ssim,
            "accuracy_drop": None,
        }
        if self.limits.max_accuracy_drop is not None and one.accuracy_drop is not None:
            amounts["accuracy_drop"] = one.accuracy_drop - self.limits.max_accuracy_drop
        return {name: amount for name, amount in amounts.items() if amount is not None and amount > 1e-9}

    def keeps(self, one: Measured) -> bool:
        """Whether `one` misses nothing."""
        return not self.misses(one)

    def violation(self, one: Measured) -> float:
        """All misses in one number, each in its unit; 0 if nothing is missed."""
        return sum(amount / UNITS[name] for name, amount in self.misses(one).items())

    def first_violation(self, first: Sample) -> float | None:
        """The same of a first, untimed picture that misses by far; None if it gives reason to go on."""
        limits, preset = self.limits, self.preset.samples[0]
        psnr = limits.min_psnr if limits.given else preset.psnr
        ssim = limits.min_ssim if limits.given else preset.ssim
        missed = {
            "psnr": 0.0 if psnr is None else psnr - first.psnr,
            "ssim": 0.0 if ssim is None else ssim - first.ssim,
        }
        if all(amount <= FAR[name] for name, amount in missed.items()):
            return None
        return sum(max(0.0, amount) / UNITS[name] for name, amount in missed.items())

    def over_fewer_steps(self, one: Measured) -> dict[str, float] | None:
        """PSNR in dB and SSIM that `one` has over plain with the steps that fit into its seconds; None if all do."""
        if one.share >= 1:
            return None
        plain = self.line.at(one.share)
        return {"psnr": one.psnr - plain.psnr, "ssim": one.ssim - plain.ssim}

    def _floors(self, one: Measured) -> tuple[float | None, float | None]:
        if self.limits.given:
            return self.limits.min_psnr, self.limits.min_ssim
        plain = self.line.at(one.share * (1 - SAME_SECONDS))
        return max(plain.psnr, self.preset.psnr), max(plain.ssim, self.preset.ssim)

    def to_dict(self) -> dict[str, Any]:
        """The limits, and what stands for them where none are given."""
        return {**asdict(self.limits), "meaning": self.limits.describe(self.preset.name)}

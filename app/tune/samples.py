"""What was measured of one way to run the pipeline: a sample for each request, always beside the plain call of it."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self

import hasten

BEST_PSNR = 99.0
"""dB; stands for the infinite PSNR of identical pictures, so that means and differences are numbers."""


@dataclass(frozen=True)
class Entry:
    """Something to measure: `recipe`, or the plain pipeline where it is None, with `steps` in place of all of them."""

    name: str
    recipe: hasten.Recipe | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Sample:
    """One call against the plain call of the same request, made just before it.

    Args:
        speedup (`float`): Whole-call seconds of the plain call over those of this one.
        psnr (`float`): To the plain picture, in dB, at most `BEST_PSNR`.
        ssim (`float`): To the plain picture.
        captions (`float`, *optional*): Share of this call's pictures that are true to their caption.
        plain_captions (`float`, *optional*): The same of the plain call.
    """

    speedup: float
    psnr: float
    ssim: float
    captions: float | None = None
    plain_captions: float | None = None


@dataclass(frozen=True)
class Measured:
    """The samples of one entry; `seconds` is the median of whole calls, `steps` what a call really runs."""

    name: str
    samples: tuple[Sample, ...]
    seconds: float
    steps: int
    density: float

    @property
    def speedup(self) -> float:
        """Median of the requests' ratios to plain."""
        return statistics.median(sample.speedup for sample in self.samples)

    @property
    def share(self) -> float:
        """Whole-call seconds as a share of plain's."""
        return 1 / self.speedup

    @property
    def psnr(self) -> float:
        """Mean, in dB."""
        return statistics.fmean(sample.psnr for sample in self.samples)

    @property
    def ssim(self) -> float:
        """Mean."""
        return statistics.fmean(sample.ssim for sample in self.samples)

    @property
    def caption_accuracy(self) -> float | None:
        """Share of pictures true to their caption; None where captions cannot be judged."""
        return _mean([sample.captions for sample in self.samples])

    @property
    def accuracy_drop(self) -> float | None:
        """Caption accuracy that plain has more on the same requests."""
        plain = _mean([sample.plain_captions for sample in self.samples])
        return None if plain is None or self.caption_accuracy is None else plain - self.caption_accuracy

    def figures(self) -> dict[str, Any]:
        """The figures of a table row."""
        names = ("name", "steps", "seconds", "speedup", "psnr", "ssim", "caption_accuracy", "accuracy_drop", "density")
        return {name: getattr(self, name) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """Figures and samples as JSON-able values."""
        return {**self.figures(), "samples": [asdict(sample) for sample in self.samples]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave."""
        samples = tuple(Sample(**sample) for sample in values["samples"])
        return cls(values["name"], samples, values["seconds"], values["steps"], values["density"])


class Landscape(Protocol):
    """What the search walks on: the pipeline with its tuning and its held-out requests."""

    held_out: int
    """Number of held-out requests."""

    def probe(self, entry: Entry) -> Sample:
        """Run an entry for the first time, on the first tuning request; its speed-up means nothing yet.

        Raises:
            AccelerationError: the recipe cannot be run.
        """

    def measure(self, entries: Sequence[Entry], *, held_out: bool = False) -> list[Measured]:
        """Every entry on every request, interleaved with each other and with plain calls at all steps."""


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None

"""A landscape whose optimum is known, because the whole of it can be looked at: seconds and quality by formula."""

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import hasten
from hasten.app.tune.samples import Entry, Measured, Sample
from hasten.app.tune.space import Choice, Grid, SearchSpace

PLAIN_SECONDS = 4.0
STEPS = 20
SPACE = SearchSpace("pixart", STEPS, (0.5,), ("attention",))


def truth(recipe: hasten.Recipe | None, steps: int) -> tuple[float, float]:
    """Speed-up and PSNR of a recipe, or of plain with so many of 20 steps."""
    if recipe is None or recipe.attention is None:
        return STEPS / steps, 20 + 40 * steps / STEPS
    config = recipe.attention
    sparse = (STEPS - config.dense_steps) / STEPS * (1 - 1 / config.refresh_interval)
    saved = 0.6 * sparse * (1 - config.density) * (0.9 if config.window == "tiles" else 1.0)
    lost = 8 * sparse + 1.5 * config.refresh_interval - 20 * config.density
    lost -= {"fitted": 4, "residual": 2}.get(config.correction, 0) + (3 if config.window == "tiles" else 0)
    return 1 / (1 - saved), 50 - lost


def ssim(psnr: float) -> float:
    return 1 - 10 ** (-psnr / 20)


def all_recipes(space: SearchSpace) -> Iterator[hasten.Recipe]:
    """Every recipe of a space of sparse attention alone."""
    names = ("window", "density_halvings", "dense_steps", "refresh_interval", "correction")
    for values in itertools.product(*(_values(space.dimensions[name]) for name in names)):
        recipe = space.recipe({**dict(zip(names, values, strict=True)), "stages": "all steps"})
        if recipe is not None:
            yield recipe


class FormulaLandscape:
    """Measures by formula, with noise of the same seed in every process, on a clock of its own."""

    def __init__(self, tuning: int = 3, held_out: int = 9, noise: float = 0.01) -> None:
        self.held_out = held_out
        self.seconds = 0.0
        self.probed: list[str] = []
        self.measured: list[tuple[str, bool]] = []
        self.refuses: Any = lambda _recipe: False
        self._tuning = tuning
        self._noise = noise

    def clock(self) -> float:
        return self.seconds

    def probe(self, entry: Entry) -> Sample:
        if self.refuses(entry.recipe):
            raise hasten.AccelerationError("This recipe cannot be run; give another.")
        self.probed.append(entry.name)
        return self._sample(entry, request=0)

    def measure(self, entries: Sequence[Entry], *, held_out: bool = False) -> list[Measured]:
        requests = range(100, 100 + self.held_out) if held_out else range(self._tuning)
        self.seconds += PLAIN_SECONDS * len(requests)
        return [self._series(entry, requests, held_out) for entry in entries]

    def _series(self, entry: Entry, requests: Sequence[int], held_out: bool) -> Measured:
        self.measured.append((entry.name, held_out))
        samples = tuple(self._sample(entry, request) for request in requests)
        steps = entry.steps or STEPS
        return Measured(entry.name, samples, PLAIN_SECONDS / samples[0].speedup, steps, density=1.0)

    def _sample(self, entry: Entry, request: int) -> Sample:
        speedup, psnr = truth(entry.recipe, entry.steps or STEPS)
        dice = random.Random(f"{entry.recipe} {entry.steps} {request}")
        measured = speedup * (1 + self._noise * dice.uniform(-1, 1))
        self.seconds += PLAIN_SECONDS / measured
        psnr += request % 3 - 1
        return Sample(measured, psnr, ssim(psnr), captions=1.0, plain_captions=1.0)


def _values(dimension: Choice | Grid) -> Sequence[Any]:
    if isinstance(dimension, Choice):
        return [value for value in dimension.values if value != "dense"]
    return range(int(dimension.low), int(dimension.high) + 1)

"""The search itself: the presets first, then what the optimiser suggests, until the budget is used up."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import hasten
from hasten.app.errors import UserError
from hasten.app.tune.budget import Budget
from hasten.app.tune.ledger import Ledger, Trial
from hasten.app.tune.limits import Limits, Yardstick
from hasten.app.tune.optimiser import Told, suggest
from hasten.app.tune.samples import Entry, Landscape, Measured
from hasten.app.tune.space import Params, SearchSpace
from hasten.app.tune.steps_line import SHARES, StepsLine, count_of, fewer_steps
from hasten.presets import DEFAULT_PRESET

ATTEMPTS = 50
"""Suggestions in a row that were all tried before, after which nothing new is expected."""

FINALISTS = 3


class Start(NamedTuple):
    """A recipe to begin with."""

    name: str
    recipe: hasten.Recipe


@dataclass
class Search:
    """A search for the fastest recipe within limits.

    Args:
        space (`SearchSpace`): Where to search.
        landscape (`Landscape`): What measures.
        ledger (`Ledger`): What was measured, maybe by an earlier process.
        limits (`Limits`): What to keep.
        budget (`Budget`): For everything together, the confirmation of the finalists included.
        seed (`int`): Of the optimiser.
        say (`Callable[[str], None]`): Told a line a trial.
        clock (`Callable[[], float]`): Seconds.
    """

    space: SearchSpace
    landscape: Landscape
    ledger: Ledger
    limits: Limits
    budget: Budget
    seed: int
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic

    def run(self) -> Yardstick:
        """Search; the ledger then holds all trials.

        Returns:
            `Yardstick`: how the trials were judged.

        Raises:
            AccelerationError: the preset that is the reference cannot be run.
            UserError: captions are limited and cannot be judged.
        """
        if not self.ledger.baseline:
            self.say("plain with fewer steps, the line to beat")
            began = self.clock()
            baseline = self.landscape.measure(fewer_steps(self.space.steps))
            self.ledger.begin(tuple(baseline), self.clock() - began)
        if not self.ledger.trials:
            self._measure_preset()
        yardstick = self.yardstick()
        for name, recipe, params in self._untried():
            if not self._fits(yardstick):
                break
            trial = self._try(name, recipe, params, yardstick)
            self.ledger.append(trial)
            self.say(self._describe(trial))
        return yardstick

    def yardstick(self) -> Yardstick:
        """The limits on the tuning requests, as the first trial, which is the preset, decides them."""
        preset = self.ledger.trials[0].measured
        assert preset is not None
        return Yardstick(self.limits, StepsLine(self.ledger.baseline), preset)

    def finalists(self) -> list[Trial]:
        """The fastest feasible trials, but the preset, to which no other feasible one is superior."""
        feasible = sorted(
            (trial for trial in self.ledger.trials[1:] if trial.feasible), key=lambda trial: -_figures(trial).speedup
        )
        front: list[Trial] = []
        for trial in feasible:
            if all(_figures(trial).psnr > _figures(faster).psnr for faster in front):
                front.append(trial)
        return front[:FINALISTS]

    def _measure_preset(self) -> None:
        began = self.clock()
        recipe = for_family(hasten.presets()[DEFAULT_PRESET], self.space.family)
        entry = Entry(DEFAULT_PRESET, recipe)
        self.landscape.probe(entry)
        (measured,) = self.landscape.measure([entry])
        if self.limits.max_accuracy_drop is not None and measured.accuracy_drop is None:
            raise UserError("Caption accuracy cannot be judged here; leave --max-accuracy-drop out.")
        judge = Yardstick(self.limits, StepsLine(self.ledger.baseline), measured)
        trial = Trial(
            name=DEFAULT_PRESET,
            recipe=recipe,
            params=self.space.params(recipe),
            state="measured",
            cost=self.clock() - began,
            measured=measured,
            violation=judge.violation(measured),
        )
        self.ledger.append(trial)
        self.say(self._describe(trial))

    def _try(self, name: str, recipe: hasten.Recipe, params: Params | None, yardstick: Yardstick) -> Trial:
        began = self.clock()
        entry = Entry(name, recipe)
        try:
            first = self.landscape.probe(entry)
        except hasten.AccelerationError as error:
            return Trial(name, recipe, params, "refused", self.clock() - began, why=str(error))
        far = yardstick.first_violation(first)
        if far is not None:
            why = f"PSNR {first.psnr:.1f} dB, SSIM {first.ssim:.3f} on the first prompt"
            return Trial(name, recipe, params, "stopped early", self.clock() - began, violation=far, why=why)
        (measured,) = self.landscape.measure([entry])
        cost, violation = self.clock() - began, yardstick.violation(measured)
        return Trial(name, recipe, params, "measured", cost, measured, violation)

    def _untried(self) -> Iterator[tuple[str, hasten.Recipe, Params | None]]:
        """What to try next, given all that the ledger holds by then."""
        for start in [*self._fewer_steps(), *starts(self.space)]:
            if start.recipe not in self._tried():
                yield start.name, start.recipe, self.space.params(start.recipe)
        while (found := self._suggestion()) is not None:
            yield f"trial {len(self.ledger.trials) + 1}", *found

    def _fewer_steps(self) -> list[Start]:
        """Plain with as few steps as the limits allow, of the counts that were measured."""
        feasible = [told for told in self._known_steps() if not told.violation]
        if not feasible:
            return []
        fastest = min(feasible, key=lambda told: told.share)
        recipe = self.space.recipe(fastest.params)
        assert recipe is not None
        return [Start(f"{count_of(fastest.params['share'], self.space.steps)} of {self.space.steps} steps", recipe)]

    def _suggestion(self) -> tuple[hasten.Recipe, Params] | None:
        tried, history = self._tried(), self._history()
        for attempt in range(ATTEMPTS):
            seed = (self.seed + len(self.ledger.trials)) * ATTEMPTS + attempt
            # who knows nothing suggests anything
            params = suggest(self.space, history if attempt < ATTEMPTS // 2 else [], seed)
            recipe = self.space.recipe(params)
            if recipe is not None and recipe not in tried:
                return recipe, params
        return None

    def _history(self) -> list[Told]:
        """All that is known of points in the space."""
        return self._known_steps() + [
            Told(trial.params, trial.measured.share if trial.measured else 1.0, trial.violation)
            for trial in self.ledger.trials
            if trial.params is not None and trial.state != "refused"
        ]

    def _known_steps(self) -> list[Told]:
        """Plain with fewer steps, which was measured before all trials, as points in the space."""
        if "steps" not in self.space.methods:
            return []
        yardstick, measured = self.yardstick(), {point.steps: point for point in self.ledger.baseline}
        points = {share: measured.get(count_of(share, self.space.steps)) for share in SHARES}
        return [
            Told(self.space.fewer_steps(share), point.share, yardstick.violation(point))
            for share, point in points.items()
            if point is not None
        ]

    def _tried(self) -> set[hasten.Recipe]:
        return {trial.recipe for trial in self.ledger.trials}

    def _fits(self, yardstick: Yardstick) -> bool:
        trials = [trial.cost for trial in self.ledger.trials if trial.state == "measured"]
        return self.budget.allows(
            trials=len(self.ledger.trials),
            spent=self.ledger.spent,
            next_trial=max(trials[-3:]),
            confirmation=self._confirmation_seconds(yardstick),
        )

    def _confirmation_seconds(self, yardstick: Yardstick) -> float:
        """About what the held-out requests will take: plain, step counts, and the preset and finalists after a call."""
        shares = [yardstick.preset.share, *(_figures(trial).share for trial in self.finalists())]
        counts = sum(entry.steps or 0 for entry in yardstick.line.entries_around(shares)) / self.space.steps
        shares += [yardstick.preset.share] * (FINALISTS + 1 - len(shares))
        plain_calls = self.landscape.held_out * (1 + counts + sum(shares)) + 1 + sum(shares)
        # a call takes more than its own seconds: judging, reports, hooks
        tried = len(yardstick.preset.samples)
        return plain_calls * self.ledger.trials[0].cost / (tried + (tried + 1) * yardstick.preset.share)

    def _describe(self, trial: Trial) -> str:
        best = max((_figures(one).speedup for one in self.ledger.trials if one.feasible), default=None)
        if trial.measured is None:
            outcome = f"{trial.state}: {trial.why}"
        else:
            figures = trial.measured
            verdict = "within the limits" if trial.feasible else "outside the limits"
            outcome = f"{figures.speedup:.2f}×, PSNR {figures.psnr:.1f} dB, SSIM {figures.ssim:.3f}, {verdict}"
        best_so_far = "none within the limits yet" if best is None else f"best {best:.2f}×"
        left = self.budget.left(trials=len(self.ledger.trials), spent=self.ledger.spent)
        return f"{len(self.ledger.trials)}. {trial.name}: {outcome}; {best_so_far}; {left}"


def starts(space: SearchSpace) -> list[Start]:
    """The presets, those of the family's stages, and both together, as far as the space has them."""
    attention = {name: recipe for name, recipe in hasten.presets().items() if name != DEFAULT_PRESET}
    sampling = hasten.sampling_presets(space.family)
    both = hasten.presets()[DEFAULT_PRESET].attention
    found = [Start(name, recipe) for name, recipe in attention.items()]
    found += [Start(name, hasten.Recipe(sampling=config)) for name, config in sampling.items()]
    found += [Start(f"{DEFAULT_PRESET} + {name}", hasten.Recipe(both, config)) for name, config in sampling.items()]
    inside = [start for start in found if space.params(start.recipe) is not None]
    return [Start(start.name, for_family(start.recipe, space.family)) for start in inside]


def for_family(recipe: hasten.Recipe, family: str) -> hasten.Recipe:
    """The recipe for pipelines of `family` alone, its stages spelled out; never a pipeline's own in its place."""
    spelled_out = recipe.for_kind(rolls_out=False).for_family(family)
    return replace(spelled_out, family=family, preset=None)


def _figures(trial: Trial) -> Measured:
    assert trial.measured is not None
    return trial.measured

"""The search on a landscape whose optimum is known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tuning_landscape import PLAIN_SECONDS, SPACE, FormulaLandscape, all_recipes, truth

import hasten
from hasten.app.errors import UserError
from hasten.app.tune.budget import Budget
from hasten.app.tune.ledger import TRIALS, Ledger, open_ledger
from hasten.app.tune.limits import Limits
from hasten.app.tune.run import Confirmed, confirm
from hasten.app.tune.search import Search
from hasten.app.tune.space import Choice, Dimension, Grid, SearchSpace

BALANCED = hasten.presets()["balanced"]


def ignore(_line: str) -> None:
    pass


def searched(
    landscape: FormulaLandscape,
    *,
    trials: int | None = None,
    seconds: float | None = None,
    limits: Limits | None = None,
    ledger: Ledger | None = None,
    space: SearchSpace = SPACE,
    say: Callable[[str], None] = ignore,
) -> Search:
    """A search that has run."""
    search = Search(
        space=space,
        landscape=landscape,
        ledger=ledger or Ledger(),
        limits=limits or Limits(),
        budget=Budget(seconds, trials),
        seed=0,
        say=say,
        clock=landscape.clock,
    )
    search.run()
    return search


def confirmed(search: Search) -> Confirmed:
    return confirm(search.landscape, search, ignore)


def best_speedup(least_psnr: float) -> float:
    found = [truth(recipe, 20) for recipe in all_recipes(SPACE)]
    return max(speedup for speedup, psnr in found if psnr >= least_psnr)


@pytest.mark.parametrize("least_psnr", [40.0, 46.0])
def test_limits_come_first_and_then_speed(least_psnr: float) -> None:
    search = searched(FormulaLandscape(), trials=60, limits=Limits(min_psnr=least_psnr))
    verdict = confirmed(search).verdict
    assert verdict.chosen.psnr >= least_psnr
    assert best_speedup(0) > 1.1 * best_speedup(least_psnr)
    assert verdict.chosen.speedup > 0.93 * best_speedup(least_psnr)


def test_without_limits_the_preset_is_beaten_at_no_lower_quality() -> None:
    result = confirmed(searched(FormulaLandscape(), trials=40))
    assert result.verdict.dominates
    assert result.verdict.over_preset.low > 1
    assert result.verdict.chosen.psnr >= result.yardstick.preset.psnr
    assert "beyond noise" in result.verdict.sentence


def test_the_preset_comes_first_and_then_its_relatives() -> None:
    search = searched(FormulaLandscape(), trials=6)
    names = [trial.name for trial in search.ledger.trials]
    assert names == ["balanced", "quality", *(f"trial {number}" for number in range(3, 7))]  # others have stages
    assert search.ledger.trials[0].recipe.attention == BALANCED.attention


def test_no_recipe_is_tried_twice() -> None:
    tried = [trial.recipe for trial in searched(FormulaLandscape(), trials=40).ledger.trials]
    assert len(set(tried)) == len(tried) == 40


def test_a_search_ends_when_everything_was_tried() -> None:
    class Tiny(SearchSpace):
        @property
        def dimensions(self) -> dict[str, Dimension]:
            two = Grid(4, 5, 1)
            numbers = dict.fromkeys(("density_halvings", "dense_steps", "refresh_interval"), two)
            words = {"window": Choice(("band",)), "correction": Choice(("fitted",))}
            return {**super().dimensions, **numbers, **words}

    tiny = Tiny("pixart", 20, (), ("attention",))
    search = searched(FormulaLandscape(), trials=100, space=tiny)
    assert len({trial.recipe for trial in search.ledger.trials if trial.params}) == 2 * 2 * 2


@pytest.mark.parametrize("seconds", [400.0, 900.0])
def test_a_budget_of_seconds_holds_for_everything(seconds: float) -> None:
    landscape = FormulaLandscape()
    search = searched(landscape, seconds=seconds)
    confirmed(search)
    assert landscape.seconds <= seconds
    assert landscape.seconds > 0.6 * seconds
    assert len(search.ledger.trials) > 3


def test_the_first_of_two_budgets_ends_the_search() -> None:
    assert len(searched(FormulaLandscape(), seconds=900, trials=5).ledger.trials) == 5
    assert len(searched(FormulaLandscape(), seconds=400, trials=1000).ledger.trials) < 100


def test_too_small_a_budget_still_measures_the_preset() -> None:
    search = searched(FormulaLandscape(), seconds=1)
    assert [trial.name for trial in search.ledger.trials] == ["balanced"]
    assert confirmed(search).verdict.is_preset


def test_a_resumed_search_is_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = searched(FormulaLandscape(), trials=20)
    searched(FormulaLandscape(), trials=13, ledger=open_ledger(tmp_path / "out", {}, resume=False, force=False))
    file = tmp_path / "out" / TRIALS
    cut = file.read_text().splitlines(keepends=True)
    file.write_text("".join(cut[:-1]) + cut[-1][:40])  # killed while it wrote
    ledger = open_ledger(tmp_path / "out", {}, resume=True, force=False)
    assert len(ledger.trials) == 12
    resumed = searched(FormulaLandscape(), trials=20, ledger=ledger)
    assert [trial.recipe for trial in resumed.ledger.trials] == [trial.recipe for trial in whole.ledger.trials]
    assert [trial.measured for trial in resumed.ledger.trials] == [trial.measured for trial in whole.ledger.trials]
    reread = open_ledger(tmp_path / "out", {}, resume=True, force=False)
    assert reread.trials == resumed.ledger.trials
    assert reread.spent == pytest.approx(whole.ledger.spent)


def test_every_trial_is_on_disk_as_soon_as_it_is_done(tmp_path: Path) -> None:
    lines: list[int] = []
    file = tmp_path / "out" / TRIALS

    def count(_line: str) -> None:
        lines.append(len(file.read_text().splitlines()) if file.exists() else 0)

    searched(
        FormulaLandscape(), trials=5, ledger=open_ledger(tmp_path / "out", {}, resume=False, force=False), say=count
    )
    assert lines == [0, 1, 2, 3, 4, 5]


def test_a_search_with_other_settings_is_not_resumed(tmp_path: Path) -> None:
    open_ledger(tmp_path, {"model": "a", "steps": 20}, resume=False, force=False).begin((), 0.0)
    with pytest.raises(UserError, match=r"begun with another steps \(20, now 10\)"):
        open_ledger(tmp_path, {"model": "a", "steps": 10}, resume=True, force=False)


def test_what_misses_by_far_is_given_up_after_one_picture() -> None:
    landscape = FormulaLandscape()
    search = searched(landscape, trials=30, limits=Limits(min_psnr=44))
    stopped = [trial for trial in search.ledger.trials if trial.state == "stopped early"]
    assert stopped
    for trial in stopped:
        assert truth(trial.recipe, 20)[1] < 44 - 2
        assert (trial.name, False) not in landscape.measured
        assert trial.cost <= PLAIN_SECONDS
        assert "PSNR" in trial.why


def test_a_recipe_that_cannot_be_run_is_passed_over() -> None:
    landscape = FormulaLandscape()
    landscape.refuses = lambda recipe: recipe.attention.window == "band"
    trials = searched(landscape, trials=30).ledger.trials
    refused = [trial for trial in trials if trial.state == "refused"]
    assert refused
    assert all(trial.why == "This recipe cannot be run; give another." for trial in refused)
    assert not any(trial.feasible for trial in refused)


def test_finalists_are_measured_on_held_out_requests_beside_preset_and_fewer_steps() -> None:
    landscape = FormulaLandscape()
    search = searched(landscape, trials=30)
    landscape.measured.clear()
    result = confirmed(search)
    assert all(held_out for _, held_out in landscape.measured)
    names = [row.name for row in result.rows]
    assert "balanced" in names
    assert {trial.name for trial in search.finalists()} <= set(names)
    assert any(name.startswith("plain, ") for name in names)
    assert all(len(row.samples) == landscape.held_out for row in result.rows)


def test_plain_with_fewer_steps_can_be_found_itself() -> None:
    """Here it is better than any sparse attention of the same seconds."""
    space = SearchSpace("pixart", 20, (0.5,), ("attention", "steps"))

    class WithSteps(FormulaLandscape):
        def _sample(self, entry: Any, request: int) -> Any:
            recipe = entry.recipe
            if recipe is not None and recipe.attention is None:
                steps = sum(stage.count(20) for stage in recipe.sampling.stages)
                entry = type(entry)(entry.name, None, steps)
            return super()._sample(entry, request)

    result = confirmed(searched(WithSteps(), trials=30, space=space, limits=Limits(min_psnr=39.5)))
    sampling = result.trial.recipe.sampling
    assert sampling is not None
    assert [stage.count(20) for stage in sampling.stages] == [10]

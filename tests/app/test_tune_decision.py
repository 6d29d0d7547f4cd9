"""What decides: noise, limits, the line of fewer steps, prompts that are kept apart, budgets in words."""

import dataclasses
import random
import statistics
from collections.abc import Sequence

import pytest

import hasten
from hasten.app.errors import UserError
from hasten.app.tune.budget import describe_seconds, parse_seconds
from hasten.app.tune.confirmation import decide, median_interval, speed_over
from hasten.app.tune.limits import Limits, Yardstick
from hasten.app.tune.preparation import split
from hasten.app.tune.samples import BEST_PSNR, Measured, Sample
from hasten.app.tune.space import SearchSpace
from hasten.app.tune.steps_line import StepsLine, fewer_steps
from hasten.app.workload import Request

EVEN = (0.98, 0.99, 1.0, 1.0, 1.0, 1.0, 1.01, 1.01, 1.02)


def measured(
    name: str, speedup: float, psnr: float, noise: Sequence[float] = EVEN, steps: int = 20, ssim: float = 0.9
) -> Measured:
    samples = tuple(Sample(speedup * factor, psnr, ssim, captions=1.0, plain_captions=1.0) for factor in noise)
    return Measured(name, samples, 1 / speedup, steps, 0.5)


LINE = StepsLine(
    (
        measured("plain, 10 steps", 2.0, 20.0, steps=10, ssim=0.6),
        measured("plain, 5 steps", 4.0, 14.0, steps=5, ssim=0.5),
    )
)
PRESET = measured("balanced", 1.5, 35.0)


def yardstick(limits: Limits | None = None, preset: Measured = PRESET) -> Yardstick:
    return Yardstick(limits or Limits(min_psnr=30), LINE, preset)


def test_the_fastest_within_the_limits_is_chosen() -> None:
    finalists = [measured("a", 2.0, 31), measured("b", 3.0, 29), measured("c", 1.7, 40)]
    verdict = decide(finalists, yardstick())
    assert (verdict.chosen.name, verdict.is_preset) == ("a", False)
    assert not verdict.dominates  # 4 dB below the preset
    assert verdict.over_preset.median == pytest.approx(2 / 1.5)


def test_what_noise_may_have_made_faster_does_not_replace_the_preset() -> None:
    shaky = [0.9, 0.95, 0.97, 1.0, 1.02, 1.03, 1.05, 1.1, 1.3]
    verdict = decide([measured("a", 1.53, 40, noise=shaky)], yardstick())
    assert verdict.is_preset
    assert verdict.chosen.name == "balanced"
    assert "faster than 'balanced' beyond noise" in verdict.sentence
    assert decide([measured("a", 1.6, 40)], yardstick()).chosen.name == "a"


def test_of_what_noise_leaves_equally_fast_the_closest_to_plain_is_chosen() -> None:
    shaky = [1.05, 0.95, 1.02, 0.98, 1.0, 1.03, 0.97, 1.01, 0.99]
    finalists = [measured("a", 2.02, 32, noise=shaky), measured("b", 2.0, 36), measured("c", 1.8, 40)]
    assert decide(finalists, yardstick()).chosen.name == "b"


def test_limits_come_before_a_fast_preset() -> None:
    preset = measured("balanced", 2.0, 25)
    assert decide([measured("a", 1.2, 33)], yardstick(preset=preset)).chosen.name == "a"
    assert decide([measured("a", 1.0, 33)], yardstick(preset=preset)).is_preset


def test_a_preset_that_misses_the_limits_is_not_praised() -> None:
    verdict = decide([measured("a", 3.0, 20)], yardstick(preset=measured("balanced", 2.0, 25)))
    assert verdict.is_preset
    assert "Nothing kept the limits" in verdict.sentence


def test_dominance_needs_both_speed_and_quality() -> None:
    assert decide([measured("a", 2.0, 35.5)], yardstick()).dominates
    assert not decide([measured("a", 2.0, 34.5)], yardstick()).dominates


def test_speed_is_compared_request_by_request() -> None:
    """Requests that are slow for both cancel out."""
    requests = [0.5, 0.7, 1.0, 1.3, 1.9, 2.5]
    interval = speed_over(measured("a", 2.2, 30, noise=requests), measured("b", 2.0, 30, noise=requests))
    assert (interval.low, interval.high) == (pytest.approx(1.1), pytest.approx(1.1))


@pytest.mark.parametrize(("count", "left_out"), [(6, 0), (8, 0), (9, 1), (12, 2), (15, 3)])
def test_the_interval_of_a_median_covers_it_often_enough(count: int, left_out: int) -> None:
    """Against draws from a skewed distribution of median 1."""
    interval = median_interval(range(count))
    assert (interval.low, interval.high) == (left_out, count - 1 - left_out)
    dice, covered, draws = random.Random(0), 0, 4000
    for _ in range(draws):
        drawn = median_interval([dice.lognormvariate(0, 1) for _ in range(count)])
        covered += drawn.low <= 1 <= drawn.high
    assert covered / draws == pytest.approx(interval.confidence, abs=0.012)
    assert interval.confidence >= 0.95


def test_few_samples_are_not_called_certain() -> None:
    assert median_interval([1.0, 2.0, 3.0]).confidence == pytest.approx(0.75)
    assert median_interval([1.0]).confidence == 0


def test_the_line_goes_through_what_was_measured() -> None:
    assert LINE.at(0.5).psnr == pytest.approx(20)
    assert LINE.at(0.25).psnr == pytest.approx(14)
    assert LINE.at(0.1).psnr == pytest.approx(14)
    assert LINE.at(1.2).psnr == BEST_PSNR
    qualities = [LINE.at(share / 100).psnr for share in range(5, 110)]
    assert qualities == sorted(qualities)
    halfway = LINE.at(0.75)
    assert 10 ** (-halfway.psnr / 20) == pytest.approx((0.1 + 10 ** (-BEST_PSNR / 20)) / 2)
    assert halfway.ssim == pytest.approx(0.8)


def test_the_steps_around_some_seconds_are_measured_again() -> None:
    assert [entry.steps for entry in LINE.entries_around([0.3])] == [10, 5]
    assert [entry.steps for entry in LINE.entries_around([0.8])] == [10]
    assert [entry.steps for entry in fewer_steps(20)] == [18, 14, 10, 7, 4]
    assert [entry.steps for entry in fewer_steps(2)] == [1]


@pytest.mark.parametrize(
    ("one", "missed"),
    [
        (measured("as the preset", 1.5, 35.0), set()),
        (measured("below the preset", 1.5, 34.9), {"psnr"}),
        (measured("fast, above the preset", 6.0, 35.1), set()),
        (measured("slower than plain", 0.9, 60), {"psnr", "ssim"}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_without_limits_the_preset_is_the_floor(one: Measured, missed: set[str]) -> None:
    assert set(yardstick(Limits()).misses(one)) == missed


def test_without_limits_fewer_steps_at_equal_seconds_are_the_other_floor() -> None:
    low = measured("balanced", 1.5, 10.0)
    assert set(yardstick(Limits(), low).misses(measured("a", 2.0, 19.0))) == {"psnr"}
    assert not yardstick(Limits(), low).misses(measured("a", 2.0, 20.0))
    assert not yardstick(Limits(), low).misses(measured("a", 2.0, 19.7))  # within the noise of the seconds


def test_what_is_slower_than_plain_has_no_fewer_steps_to_be_compared_with() -> None:
    assert yardstick().over_fewer_steps(measured("a", 0.9, 40)) is None
    assert yardstick().over_fewer_steps(measured("a", 2.0, 23)) == {
        "psnr": pytest.approx(3),
        "ssim": pytest.approx(0.3),
    }


def test_given_limits_are_the_only_ones() -> None:
    one = dataclasses.replace(
        measured("a", 2.0, 15), samples=tuple(Sample(2.0, 15, 0.8, captions=c, plain_captions=1.0) for c in (1.0, 0.0))
    )
    assert one.accuracy_drop == pytest.approx(0.5)
    assert yardstick(Limits(max_accuracy_drop=0.5)).keeps(one)
    missed = yardstick(Limits(min_psnr=16, min_ssim=0.9, max_accuracy_drop=0.25)).misses(one)
    assert missed == {"psnr": pytest.approx(1), "ssim": pytest.approx(0.1), "accuracy_drop": pytest.approx(0.25)}


@pytest.mark.parametrize(("tuning", "held_out"), [(3, 9), (1, 6), (20, 12), (26, 6)])
def test_tuning_and_held_out_prompts_share_nothing(tuning: int, held_out: int) -> None:
    requests = [Request(f"prompt {number}", number) for number in range(32)]
    searching, confirming = split([*requests, Request("prompt 0", 99)], tuning, held_out)
    assert (len({r.prompt for r in searching}), len({r.prompt for r in confirming})) == (tuning, held_out)
    assert not {r.prompt for r in searching} & {r.prompt for r in confirming}
    assert statistics.fmean(r.seed for r in confirming) == pytest.approx(16, abs=4)


def test_too_few_prompts_are_refused() -> None:
    same = [Request("a cat", number) for number in range(20)]
    with pytest.raises(UserError, match="3 tuning and 9 held-out prompts were asked for, but there are 1; give"):
        split(same, 3, 9)


@pytest.mark.parametrize(("text", "seconds"), [("600s", 600), ("10m", 600), ("1.5h", 5400), (" 2 m ", 120)])
def test_a_budget_is_a_number_with_its_unit(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["10", "m", "-5m", "0s", "10 minutes", "ten"])
def test_another_budget_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is no duration; give a number with its unit"):
        parse_seconds(text)


def test_time_left_is_told_in_minutes() -> None:
    assert [describe_seconds(s) for s in (0, 59.6, 250, 3725)] == ["0:00", "1:00", "4:10", "1:02:05"]


SPACE = SearchSpace("pixart", 20, (0.5, 2 / 3, 0.75))


@pytest.mark.parametrize(
    "recipe",
    [*hasten.presets().values(), *(hasten.Recipe(sampling=c) for c in hasten.sampling_presets("pixart").values())],
    ids=[*hasten.presets(), *hasten.sampling_presets("pixart")],
)
def test_presets_are_points_of_the_space(recipe: hasten.Recipe) -> None:
    params = SPACE.params(recipe)
    assert params is not None
    pictures = recipe.for_kind(rolls_out=False)
    assert SPACE.recipe(params) == dataclasses.replace(pictures, family="pixart").for_family("pixart")


def test_attention_that_would_stay_dense_is_left_out() -> None:
    attention = {"density_halvings": 4, "dense_steps": 10, "refresh_interval": 5, "correction": "fitted"}
    point = {**SPACE.fewer_steps(0.5), "window": "band", **attention}
    assert SPACE.recipe(point) == SPACE.recipe(SPACE.fewer_steps(0.5))
    sparse = SPACE.recipe({**point, "dense_steps": 3})
    assert sparse is not None
    assert sparse.attention is not None


def test_what_is_outside_of_the_space_has_no_point() -> None:
    outside = [
        hasten.Recipe(hasten.RettentionConfig(density=0.3)),
        hasten.Recipe(hasten.RettentionConfig(correction="reuse")),
        hasten.Recipe(hasten.RettentionConfig(dense_blocks=(1,))),
        hasten.Recipe(sampling=hasten.BottleneckConfig.preset("flux-published")),
        hasten.Recipe(sampling=hasten.BottleneckConfig()),
    ]
    assert [SPACE.params(recipe) for recipe in outside] == [None] * len(outside)


def test_every_point_is_a_recipe_that_can_be_written(tmp_path: object) -> None:
    """All kinds of stages, transitions and windows, at the ends of every other dimension."""
    dimensions = SPACE.dimensions
    for pick in (0, -1):
        for window in dimensions["window"].values:  # type: ignore[union-attr]
            for stages in dimensions["stages"].values:  # type: ignore[union-attr]
                for transition in dimensions["transition"].values:  # type: ignore[union-attr]
                    chosen = {"window": window, "stages": stages, "transition": transition}
                    params = {}
                    for name, one in dimensions.items():
                        if SPACE.exists(name, params):
                            end = one.values[pick] if hasattr(one, "values") else (one.low, one.high)[pick]
                            params[name] = chosen.get(name, end)
                    recipe = SPACE.recipe(params)
                    if recipe is None:
                        assert (window, stages) == ("dense", "all steps")
                        continue
                    again = SPACE.params(recipe)
                    assert again is not None
                    assert SPACE.recipe(again) == recipe
                    assert hasten.Recipe.from_dict(recipe.to_dict()) == recipe

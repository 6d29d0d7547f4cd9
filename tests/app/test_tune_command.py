"""`hasten tune` on the bundled model, small; and what it refuses."""

import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tuning_landscape import FormulaLandscape
from typer.testing import CliRunner, Result

import hasten
from hasten.app.cli import app
from hasten.app.commands.tune import LEAST_HELD_OUT
from hasten.app.loading import LoadedModel
from hasten.app.tune.confirmation import LEAST_REQUESTS
from hasten.app.tune.optimiser import suggest
from hasten.app.tune.space import SearchSpace
from hasten.assets import prompts

Refused = Callable[..., str]
Run = Callable[..., Result]
TUNE = ("tune", "--steps", 5, "--height", 64, "--width", 64, "--tuning-prompts", 1, "--held-out", LEAST_REQUESTS)
ALL = len({record["prompt"] for record in prompts("emoji-image")})


def finished(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A small search: its result, and the folder."""
    out = tmp_path_factory.mktemp("tune") / "out"
    command = (*TUNE, "--trials", 3, "--min-psnr", 5, "--out", out, "--json")
    gc.freeze()  # every call collects garbage before its memory is measured, here among all that the tests have loaded
    try:
        return finished(CliRunner().invoke(app, [str(part) for part in command])), out
    finally:
        gc.unfreeze()


def test_the_folder_holds_recipe_trials_result_and_figure(tuned: tuple[dict[str, Any], Path]) -> None:
    result, out = tuned
    assert json.loads((out / "result.json").read_text()) == result
    assert {"recipe.json", "trials.jsonl", "frontier.png"} <= set(result["files"])
    assert {path.name for path in out.iterdir()} == {*result["files"], "result.json", "baseline.json"}
    trials = [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()]
    assert [trial["trial"] for trial in trials] == [1, 2, 3]
    assert sum(result["trials"][state] for state in ("measured", "stopped_early", "refused")) == 3


def test_the_result_tells_preset_finalists_and_fewer_steps(tuned: tuple[dict[str, Any], Path]) -> None:
    result, _ = tuned
    rows = {row["name"]: row for row in result["rows"]}
    assert "balanced" in rows
    assert any(name.startswith("plain, ") for name in rows)
    assert all(len(row["samples"]) == LEAST_REQUESTS for row in rows.values())
    assert {"speedup", "psnr", "ssim", "caption_accuracy", "steps"} <= set(rows["balanced"])
    assert {"median", "low", "high", "confidence"} == set(result["verdict"]["over_preset"]["speed"])
    assert {"device", "versions", "command", "limits", "arguments"} <= set(result)
    searched = {prompt for prompt, _ in result["tuning_prompts"]}
    assert not searched & {prompt for prompt, _ in result["held_out_prompts"]}


def test_the_recipe_says_where_it_comes_from_and_can_be_used(
    tuned: tuple[dict[str, Any], Path], emoji_image: LoadedModel, run_hasten: Run, tmp_path: Path
) -> None:
    result, out = tuned
    recipe = hasten.Recipe.load(out / "recipe.json")
    assert recipe.family == "pixart"
    assert recipe.measured is not None
    assert recipe.measured["device"] == result["device"]
    assert recipe.measured["model"] == "emoji-image"
    assert recipe.measured["versions"] == result["versions"]
    assert {"held_out", "over_balanced", "limits", "command", "verdict"} <= set(recipe.measured)
    emoji_image.pipe.enable_acceleration(str(out / "recipe.json"))
    emoji_image.pipe.disable_acceleration()
    small = ("--prompt", "a cat on a red background", "--height", 64, "--width", 64, "--steps", 5)
    made = finished(
        run_hasten("generate", *small, "--recipe", out / "recipe.json", "--out", tmp_path / "made", "--json")
    )
    assert made["method"] == "recipe"


def test_a_search_goes_on_where_it_was(
    refused: Refused, run_hasten: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hasten.app.tune.run.PipelineLandscape", lambda *_, **__: FormulaLandscape())
    out = tmp_path / "out"
    command = (*TUNE, "--min-psnr", 5, "--out", out)
    first = run_hasten(*command, "--trials", 4)
    assert first.exit_code == 0, first.output
    before = (out / "trials.jsonl").read_text()
    assert "begun with another limits" in refused(*TUNE, "--out", out, "--resume", "--trials", 5)
    result = run_hasten(*command, "--resume", "--trials", 5)
    assert result.exit_code == 0, result.output
    assert "5. " in result.stderr
    assert "4. " not in result.stderr
    assert "confirmed on 6 held-out prompts" in result.stdout
    lines = (out / "trials.jsonl").read_text()
    assert lines.startswith(before)
    assert len(lines.splitlines()) == 5


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--budget", "10"), "'10' is no duration; give a number with its unit"),
        (("--trials", 0), "'--trials'"),
        (("--held-out", 5), "'--held-out'"),
        (("--held-out", ALL), f"1 tuning and {ALL} held-out prompts were asked for, but there are {ALL}"),
        (("--min-ssim", 2), "'--min-ssim'"),
        (("--method", "magic"), "'--method'"),
        (("--resume",), "holds no search to go on with"),
        (("--resume", "--force"), "either --resume, which goes on, or --force"),
        (("--model", "emoji-imag"), "not bundled and so has no prompts of its own; give a file of them as --prompts"),
        (("--prompts", "nowhere.txt"), "cannot be read"),
        (("--steps", 2), "dense_steps=3 are more than the 2 steps"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_wrong_option_is_refused(
    refused: Refused, tmp_path: Path, arguments: tuple[object, ...], sentence: str
) -> None:
    assert sentence in refused(*TUNE, "--out", tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_a_loss_of_accuracy_needs_scenes(refused: Refused, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(f"a cat {number}" for number in range(20)))
    given = (*TUNE, "--prompts", file, "--max-accuracy-drop", 0.1)
    assert "--max-accuracy-drop needs prompts whose scenes are known" in refused(*given, "--out", tmp_path / "out")


def test_a_folder_with_something_in_it_is_refused_and_kept(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("mine")
    assert "not empty; choose another --out, or pass --force" in refused(*TUNE, "--out", tmp_path)
    (tmp_path / "baseline.json").write_text("{}")
    assert "pass --resume to go on with the search there" in refused(*TUNE, "--out", tmp_path)
    assert (tmp_path / "result.json").read_text() == "mine"


def test_any_seed_will_do() -> None:
    space = SearchSpace("pixart", 20, (0.5,))
    assert suggest(space, [], 2**63) == suggest(space, [], 2**63)


def test_without_optuna_the_extra_is_named(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert refused(*TUNE, "--out", tmp_path / "out") == (
        "`hasten tune` needs optuna, which is not installed; install hasten[tune]."
    )


def test_an_interrupted_search_says_how_to_go_on(
    run_hasten: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hasten.app.tune.run.prepare", interrupt)
    result = run_hasten(*TUNE, "--out", tmp_path / "out")
    assert result.exit_code == 130
    assert "--resume goes on" in result.stderr


def test_the_least_number_of_held_out_prompts_is_what_the_decision_needs() -> None:
    assert LEAST_HELD_OUT == LEAST_REQUESTS

"""A model whose folder brings recipes of its own: the names of presets mean those, but to `tune`."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from batch_processes import rows_of
from typer.testing import Result

from hasten import Recipe
from hasten.app.errors import UserError
from hasten.app.methods import choose_recipe, select_methods
from hasten.assets import model_path

Run = Callable[..., Result]
DENSITY = 0.7
"""Of no preset of hasten."""
SMALL = ("--height", 64, "--width", 64, "--device", "cpu")
PROMPT = ("--prompt", "a rocket on a blue background")


@pytest.fixture(autouse=True)
def own_balanced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives the bundled model a `balanced` of its own."""
    folder = tmp_path / "model"
    (folder / "presets").mkdir(parents=True)
    for part in model_path("emoji-image").iterdir():
        (folder / part.name).symlink_to(part)
    write_recipe(folder / "presets" / "balanced.json")
    monkeypatch.setattr("hasten.app.loading.model_path", lambda _name: folder)


def write_recipe(file: Path, **more: Any) -> Path:
    attention = {"density": DENSITY, "dense_steps": 1, "refresh_interval": 2}
    file.write_text(json.dumps({"format": "hasten-recipe", "version": 1, "attention": attention, **more}))
    return file


def finished(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("sampling", [(), ("--sampling", "pixart-x2")], ids=str)
def test_compare_and_explain(run_hasten: Run, tmp_path: Path, sampling: tuple[str, ...]) -> None:
    call = (*SMALL, "--steps", 6, "--preset", "balanced", *sampling)
    compared = finished(run_hasten("compare", *call, *PROMPT, "--out", tmp_path / "out", "--json"))
    assert compared["recipe"]["attention"]["density"] == DENSITY
    assert (compared["recipe"]["sampling"] is None) == (not sampling)
    explained = finished(run_hasten("explain", *call, "--json"))
    assert compared["accelerated"]["density"] == pytest.approx(explained["density"])


def test_generate(run_hasten: Run, tmp_path: Path) -> None:
    call = (*SMALL, "--steps", 6, "--sampling", "pixart-x2")
    explained = finished(run_hasten("explain", *call, "--preset", "balanced", "--json"))
    made = finished(run_hasten("generate", *call, *PROMPT, "--preset", "balanced", "--out", tmp_path / "out", "--json"))
    assert made["pictures"][0]["density"] == pytest.approx(explained["density"])


def test_batch(run_hasten: Run, tmp_path: Path) -> None:
    rows = [
        {"prompt": "a cat"},
        {"prompt": "a cat", "preset": "balanced"},
        {"prompt": "a cat", "sampling": "pixart-x2"},
    ]
    prompts = tmp_path / "p.jsonl"
    prompts.write_text("\n".join(map(json.dumps, rows)))
    call = (*SMALL, "--steps", 6, "--preset", "balanced", "--out", tmp_path / "out")
    result = run_hasten("batch", prompts, *call)
    assert result.exit_code == 0, result.output
    plan = json.loads((tmp_path / "out" / ".hasten" / "plan.json").read_text())
    assert [item["recipe"]["attention"]["density"] for item in plan["items"]] == [DENSITY] * 3
    explained = finished(run_hasten("explain", *call[:-4], "--preset", "balanced", "--json"))
    assert rows_of(tmp_path / "out")[0]["density"] == pytest.approx(explained["density"])


def test_bench_sampling(run_hasten: Run, tmp_path: Path) -> None:
    call = (*SMALL, *PROMPT, "--steps", 6, "--sampling", "pixart-x2", "--out", tmp_path / "out")
    assert finished(run_hasten("bench", "sampling", *call, "--json"))["attention"]["attention"]["density"] == DENSITY


def test_bench_pipeline(run_hasten: Run, tmp_path: Path) -> None:
    only = ("--only", "output reuse", "--only", "balanced")
    call = (*SMALL, *PROMPT, "--steps", 3, *only, "--out", tmp_path / "out")
    told = finished(run_hasten("bench", "pipeline", *call, "--json"))
    assert told["schedule_of_ablations"]["attention"]["density"] == DENSITY
    rows = {row["name"]: row for row in told["rows"]}
    assert rows["output reuse"]["density"] < 1  # hasten's own `balanced` has no sparse step among three
    assert rows["balanced"]["density"] < 1


def test_calibrate(run_hasten: Run, tmp_path: Path) -> None:
    file = tmp_path / "calibrated.json"
    finished(run_hasten("calibrate", *SMALL, *PROMPT, "--steps", 4, "--out", file, "--json"))
    attention = Recipe.load(file).attention
    assert attention is not None
    assert attention.density == DENSITY


def test_tune_measures_against_hastens_own(refused: Callable[..., str], tmp_path: Path) -> None:
    """Whose first three steps are dense: what the model brings would run in two."""
    sentence = refused("tune", *SMALL, "--steps", 2, "--out", tmp_path / "out")
    assert sentence.startswith("dense_steps=3 are more than the 2 steps")


def test_a_file_called_as_a_preset_is_told_from_it(tmp_path: Path) -> None:
    file = write_recipe(tmp_path / "balanced.json")
    name, recipe = choose_recipe(None, file)
    assert name == "balanced.json"
    names = [method.name for method in select_methods(name, recipe, None)]
    assert {"balanced", "balanced.json"} <= set(names)
    assert [method.name for method in select_methods(name, recipe, ["balanced.json"])] == ["balanced.json"]
    with pytest.raises(UserError, match=r"'balanced.json'"):
        select_methods(*choose_recipe("balanced", None), ["balanced.json"])


def test_a_file_called_as_an_ablation_is_measured_in_its_place(tmp_path: Path) -> None:
    name, recipe = choose_recipe(None, write_recipe(tmp_path / "output reuse.json"))
    (method,) = select_methods(name, recipe, [name])
    entered: list[Recipe] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hasten.accelerate", lambda _pipe, given: entered.append(given))
        method.active(SimpleNamespace(pipe=None))  # type: ignore[arg-type]
    assert entered == [recipe]

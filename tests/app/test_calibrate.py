"""`hasten calibrate`: the recipe that it writes, and what it refuses."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import Result

from hasten import Recipe
from hasten.app.loading import LoadedModel
from hasten.presets import resolve_recipe

SMALL = ("--prompt", "a rocket on a blue background", "--height", 64, "--width", 64, "--steps", 6)


def test_the_recipe_has_a_density_for_each_block_and_accelerates(
    run_hasten: Callable[..., Result], tmp_path: Path, emoji_image: LoadedModel
) -> None:
    file = tmp_path / "recipe.json"
    result = run_hasten("calibrate", *SMALL, "--preset", "fast", "--out", file, "--json")
    assert result.exit_code == 0, result.output
    attention = Recipe.load(file).attention
    assert attention is not None
    assert list(attention.block_densities) == json.loads(result.stdout)["block_densities"]
    assert len(attention.block_densities) == len(emoji_image.denoiser.transformer_blocks)
    assert run_hasten("generate", *SMALL, "--recipe", file, "--out", tmp_path / "out").exit_code == 0


def test_what_was_measured_of_the_recipe_before_is_not_kept(run_hasten: Callable[..., Result], tmp_path: Path) -> None:
    tuned, file = tmp_path / "tuned.json", tmp_path / "calibrated.json"
    replace(resolve_recipe("fast"), kv_cache=None, measured={"speedup": 1.5}).save(tuned)
    result = run_hasten("calibrate", *SMALL, "--recipe", tuned, "--out", file)
    assert result.exit_code == 0, result.output
    assert Recipe.load(file).measured is None


def test_a_recipe_is_not_written_over(refused: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    file.write_text("mine")
    assert refused("calibrate", *SMALL, "--out", file) == (
        f"'{file}' exists; choose another --out, or pass --force to write over it."
    )
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("place", "sentence"), [("file/recipe.json", "cannot be written"), (".", "is a folder")], ids=["file", "folder"]
)
def test_a_place_that_cannot_be_written_is_refused_before_anything_runs(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str, sentence: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("hasten.app.workload.prepare", lambda *_, **__: pytest.fail("the model was loaded"))
    assert sentence in refused("calibrate", *SMALL, "--out", tmp_path / place, "--force")


def test_a_folder_that_is_not_there_is_made(run_hasten: Callable[..., Result], tmp_path: Path) -> None:
    file = tmp_path / "new" / "recipe.json"
    assert run_hasten("calibrate", *SMALL, "--preset", "fast", "--out", file).exit_code == 0
    assert file.exists()


def test_a_recipe_without_attention_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps({"format": "hasten-recipe", "version": 1}))
    assert "has no sparse attention to calibrate" in refused("calibrate", *SMALL, "--recipe", file)

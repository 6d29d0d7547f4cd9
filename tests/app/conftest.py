import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hasten.app.cli import app
from hasten.app.loading import LoadedModel, load_model

PROMPT = "a rocket on a blue background"


@pytest.fixture
def run_hasten() -> Callable[..., Result]:
    """Run the command line in this process: `run_hasten("models", "--json")`."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def refused(run_hasten: Callable[..., Result]) -> Callable[..., str]:
    """Run the command line, expect a user's mistake, and return the one sentence about it."""

    def run(*arguments: object) -> str:
        result = run_hasten(*arguments)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        lines = result.stderr.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("Error: ")
        return lines[0].removeprefix("Error: ")

    return run


@pytest.fixture
def recipe_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a recipe file with the given attention fields."""

    def write(**attention: object) -> Path:
        path = tmp_path / "recipe.json"
        path.write_text(json.dumps({"format": "hasten-recipe", "version": 1, "attention": attention}))
        return path

    return write


@pytest.fixture(scope="session")
def emoji_image() -> LoadedModel:
    model = load_model("emoji-image")
    model.pipe.set_progress_bar_config(disable=True)
    return model

"""Models that cannot be loaded, and one that fails while it runs: the page says so and goes on."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from page_actions import choose, open_accordion, set_up
from served_page import Served

from hasten.app.web.application import build_app, serving_options
from hasten.app.web.settings import Settings
from hasten.assets import model_path


@pytest.fixture(scope="module")
def no_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "no-weights"
    shutil.copytree(model_path("emoji-image"), folder)
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    return folder


@pytest.fixture(scope="module")
def fails_midway(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose scheduler knows no step: the first one fails."""
    folder = tmp_path_factory.mktemp("models") / "fails-midway"
    shutil.copytree(model_path("emoji-image"), folder)
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "prediction_type": "nonsense"}))
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, no_weights: Path, fails_midway: Path) -> Iterator[Served]:
    outputs = tmp_path_factory.mktemp("outputs")
    page = build_app(outputs, models=(str(no_weights), str(fails_midway)))
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **serving_options(outputs))
    yield Served(url, outputs)
    page.close()


def test_a_broken_model_is_told_and_the_next_one_runs(
    visit: Callable[..., Any], no_weights: Path, fails_midway: Path
) -> None:
    page = visit()
    set_up(page)
    for model, told in ((no_weights, "could not be loaded as a pipeline"), (fails_midway, "The run failed (")):
        choose(page, "Model", str(model))
        page.click("#compare")
        page.get_by_role("alert").get_by_text(told).wait_for()
    choose(page, "Model", "emoji-image")
    page.click("#compare")
    page.wait_for_selector(".figures tbody")


def test_a_link_to_a_model_that_is_not_offered_is_refused_in_the_page(visit: Callable[..., Any]) -> None:
    page = visit("?compare=" + Settings("owner/large-model", "a cat").link())
    page.get_by_role("alert").get_by_text("'owner/large-model' is not offered here; choose one of:").wait_for()
    open_accordion(page, "Model, size and steps")
    assert page.get_by_label("Model", exact=True).input_value() == "emoji-image"

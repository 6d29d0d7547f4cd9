"""How the form shows settings that come from elsewhere: a preset, a link, a past run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from past_runs import write_run

import hasten
from hasten import BottleneckConfig, Recipe
from hasten.app.web.compare_tab import CompareTab, build_compare_tab
from hasten.app.web.engine import Engine
from hasten.app.web.form import NO_SAMPLING
from hasten.app.web.gallery_tab import opened
from hasten.app.web.limits import Limits
from hasten.app.web.runs import RunStore
from hasten.app.web.services import Services
from hasten.app.web.settings import CUSTOM, Settings
from hasten.app.web.shelf import Shelf


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return Services(Engine(1), Shelf(dtype="auto", device="auto"), Limits(), RunStore(tmp_path))


@pytest.fixture
def tab(services: Services) -> Iterator[CompareTab]:
    with gr.Blocks():
        yield build_compare_tab(services)


def shown(tab: CompareTab, settings: Settings) -> dict[Any, Any]:
    return dict(zip(tab.form.outputs, tab.form.write(settings), strict=True))


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        (hasten.presets()["balanced"], NO_SAMPLING),
        (Recipe(sampling=BottleneckConfig.preset("pixart-x2")), "pixart-x2"),
        (hasten.presets()["fast"], None),
    ],
    ids=["none", "named", "unnamed"],
)
def test_the_sampling_preset_is_that_of_the_recipe(tab: CompareTab, recipe: Recipe, name: str | None) -> None:
    assert shown(tab, Settings("emoji-image", "a cat", recipe, CUSTOM))[tab.form.sampling] == name


def test_what_the_form_shows_is_what_it_says(tab: CompareTab) -> None:
    settings = Settings("emoji-image", "a cat", hasten.presets()["fast"], "fast", "rain", 96, 64, None, 7, 2.5, 12)
    values = shown(tab, settings)
    assert tab.form.read([values[one] for one in tab.form.inputs]) == settings


def test_a_run_whose_model_is_not_offered_is_told_and_leaves_the_form(services: Services, tab: CompareTab) -> None:
    write_run(services.store.outputs, "other", model="owner/large")
    write_run(services.store.outputs, "own")
    tabs, told, *values = opened(services, tab, "other")
    assert "&#x27;owner/large&#x27; is not offered here" in told
    assert all(value == gr.skip() for value in (tabs, *values))
    _, told, *values = opened(services, tab, "own")
    assert told == ""
    assert len(values) == len(tab.form.outputs) + len(tab.outputs)

"""Recipes as inputs, as JSON and as Python."""

import dataclasses
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from tiny_rollout import save_tiny_experts

import hasten
from hasten import AccelerationError, BottleneckConfig, Recipe, RettentionConfig
from hasten.app.errors import UserError
from hasten.app.web.advanced import AdvancedSettings, recipe_parts
from hasten.app.web.recipe_tab import parse_recipe
from hasten.app.web.settings import CUSTOM, Settings
from hasten.app.web.snippets import page_link, recipe_json, recipe_python

RECIPES = {
    **hasten.presets(),
    "both": Recipe(
        RettentionConfig(density=0.2, dense_blocks=(0, 5), state_bits=4), BottleneckConfig.preset("pixart-x2")
    ),
    "sampling": Recipe(sampling=BottleneckConfig.preset("flux-published")),
}


@pytest.fixture(scope="module")
def advanced() -> AdvancedSettings:
    with gr.Blocks():
        return AdvancedSettings(hasten.presets()["balanced"])


def test_every_field_of_every_part_has_an_input_with_its_docstring(advanced: AdvancedSettings) -> None:
    fields = {(name, one.name) for name, config in recipe_parts().items() for one in dataclasses.fields(config)}
    assert {(one.part, one.field) for part in advanced.parts for one in part.controls} == fields
    assert all(len(one.component.info) > 20 for part in advanced.parts for one in part.controls)


@pytest.mark.parametrize("name", RECIPES)
def test_inputs_give_back_the_recipe_that_they_show(advanced: AdvancedSettings, name: str) -> None:
    assert advanced.read(advanced.write(RECIPES[name])) == RECIPES[name]


@pytest.mark.parametrize("text", ["[", "{}", "[" * 100_000, "[" * 900 + "]" * 900, "seven"])
def test_a_list_that_is_none_is_refused_in_a_short_sentence(advanced: AdvancedSettings, text: str) -> None:
    controls = [item for part in advanced.parts for item in (None, *(one.field for one in part.controls))]
    values = advanced.write(RECIPES["balanced"])
    values[controls.index("dense_blocks")] = text
    with pytest.raises(ValueError, match="give") as refused:
        advanced.read(values)
    assert isinstance(refused.value, UserError | AccelerationError)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_as_json_is_read_back(name: str) -> None:
    assert parse_recipe(recipe_json(RECIPES[name])) == RECIPES[name]


@pytest.mark.parametrize("text", ["", "[", "[1]", "{}", '{"format": "hasten-recipe"}', "[" * 50_000, "x" * 200_000])
def test_what_is_no_recipe_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"[Rr]ecipe"):
        parse_recipe(text)


@pytest.mark.parametrize("name", RECIPES)
def test_the_python_accelerates_with_the_same_recipe(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = name if name in hasten.presets() else CUSTOM
    program = recipe_python(Settings("emoji-image", 'a "cat"', RECIPES[name], preset, steps=8, seed=3))
    given = {}

    class Pipe:
        def __call__(self, prompt: str, **arguments: object) -> None:
            given.update(arguments, prompt=prompt)

        def enable_acceleration(self, preset: str | None = None, **configs: object) -> None:
            given["recipe"] = hasten.presets()[preset] if preset else Recipe(**configs)  # type: ignore[arg-type]

        def acceleration_report(self) -> str:
            return ""

    class Model:
        pipe = Pipe()

        def arguments(self, **arguments: object) -> dict[str, object]:
            return arguments

    monkeypatch.setattr("hasten.app.loading.load_model", lambda _name, videos: Model())
    exec(compile(program, "recipe.py", "exec"), {})
    assert given["recipe"] == RECIPES[name]
    assert (given["prompt"], given["num_inference_steps"]) == ('a "cat"', 8)


def test_the_python_makes_videos_too(tmp_path: Path) -> None:
    folder = save_tiny_experts(tmp_path / "model")
    recipe = Recipe(RettentionConfig(density=0.5, dense_steps=1))
    size = {"height": 64, "width": 64, "num_frames": 5, "steps": 3}
    given: dict[str, Any] = {}
    exec(compile(recipe_python(Settings(str(folder), "a cat", recipe, CUSTOM, **size)), "recipe.py", "exec"), given)
    assert len(given["output"].frames[0]) == 5


def test_a_link_replaces_what_the_address_held_before() -> None:
    settings = Settings("emoji-image", "a cat")
    link = page_link(settings, "http://host:1/app/?compare=old#top")
    assert link == f"http://host:1/app/?compare={settings.link()}"

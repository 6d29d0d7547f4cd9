import base64
import json
from pathlib import Path

import pytest

from hasten import AccelerationError, BottleneckConfig, Recipe, RettentionConfig
from hasten.app.errors import UserError
from hasten.app.web.limits import Limits
from hasten.app.web.settings import CUSTOM, Settings, preset_recipe
from hasten.presets import presets

RECIPE = Recipe(RettentionConfig(density=0.25, dense_blocks=(1, 2)), BottleneckConfig.preset("pixart-x2"))


def test_a_link_brings_the_settings_back() -> None:
    settings = Settings("emoji-image", "ä cat & dog?", RECIPE, CUSTOM, "rain", 96, 64, None, 7, 2.5, 12)
    token = settings.link()
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert Settings.from_link(token) == settings


@pytest.mark.parametrize("letter", ["👩", "ä", "\x01", "\ud800"], ids=["emoji", "umlaut", "control", "surrogate"])
def test_a_link_holds_the_longest_prompts(letter: str) -> None:
    most = letter * Limits().prompt_characters
    settings = Settings("emoji-image", most, RECIPE, CUSTOM, most)
    assert Settings.from_link(settings.link()) == settings


def test_only_the_name_of_a_preset_stands_for_a_recipe(tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    RECIPE.save(file)
    assert preset_recipe("fast") == presets()["fast"]
    for name in (str(file), file, None, ["fast"], CUSTOM):
        with pytest.raises(UserError, match="is not a preset; choose one of: quality, "):
            preset_recipe(name)


@pytest.mark.parametrize("token", ["", "%%%", "AAAA", "e30", "x" * 100_000])
def test_a_damaged_link_is_refused_in_a_sentence(token: str) -> None:
    with pytest.raises(UserError):
        Settings.from_link(token)


def test_a_link_with_a_recipe_of_the_future_is_refused() -> None:
    values = {"model": "emoji-image", "prompt": "x", "recipe": {"format": "hasten-recipe", "version": 99}}
    with pytest.raises(AccelerationError, match="version 99"):
        Settings.from_link(base64.urlsafe_b64encode(json.dumps(values).encode()).decode())


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": "  "},
        {"model": ""},
        {"height": 0},
        {"width": 1.5},
        {"steps": True},
        {"seed": -1},
        {"seed": 2**63},
        {"guidance": float("nan")},
        {"guidance": -0.1},
        {"guidance": 10**400},
        {"preset": []},
        {"preset": None},
        {"prompt": ["a cat"]},
        {"negative_prompt": None},
        {"model": 7},
        {"colour": "red"},
    ],
)
def test_values_out_of_bounds_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError):
        Settings.from_dict({"model": "emoji-image", "prompt": "x", **wrong})

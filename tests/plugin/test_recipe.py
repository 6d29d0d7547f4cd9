"""Recipes, presets and configs: what is accepted, what is refused, and the schema that says so too."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import hasten
from hasten.assets import ASSETS
from hasten.presets import resolve_recipe
from hasten.recipe import json_schema

SCHEMA = json.loads((ASSETS / "recipe.schema.json").read_text())
TUNED = hasten.Recipe(
    hasten.RettentionConfig(density=0.1, correction="fitted", dense_blocks=(0, 5), start_percent=0.1, min_tokens=256)
)
ON_CHANGE = hasten.Recipe(hasten.RettentionConfig(refresh_threshold=0.2, window="tiles", window_frames=3))


def test_the_published_schema_is_the_generated_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json_schema() == SCHEMA


def test_the_schema_describes_every_field() -> None:
    described = SCHEMA["properties"]["attention"]["oneOf"][0]["properties"]
    assert list(described) == [field.name for field in dataclasses.fields(hasten.RettentionConfig)]
    assert all(len(field["description"]) > 20 for field in described.values())


STAGED = hasten.Recipe(sampling=hasten.BottleneckConfig.preset("flux-published"))


FOR_PIXART = dataclasses.replace(TUNED, family="pixart", measured={"device": "cpu", "speedup": 1.5})


@pytest.mark.parametrize(
    "recipe", [*hasten.presets().values(), TUNED, ON_CHANGE, STAGED, FOR_PIXART, hasten.Recipe()], ids=str
)
def test_a_recipe_survives_its_file(recipe: hasten.Recipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    recipe.save(path)
    jsonschema.validate(json.loads(path.read_text()), SCHEMA)
    assert hasten.Recipe.load(path) == recipe
    assert resolve_recipe(path) == recipe
    assert resolve_recipe(str(path)) == recipe


def test_a_file_keeps_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    FOR_PIXART.save(path)
    assert hasten.Recipe.load(path).measured == {"device": "cpu", "speedup": 1.5}
    assert resolve_recipe(path).measured == {"device": "cpu", "speedup": 1.5}


def test_what_was_measured_makes_no_other_recipe() -> None:
    unmeasured = dataclasses.replace(FOR_PIXART, measured=None)
    assert unmeasured == FOR_PIXART
    assert hash(unmeasured) == hash(FOR_PIXART)
    assert dataclasses.replace(FOR_PIXART, family="flux") != FOR_PIXART


def test_what_was_measured_goes_when_a_part_changes() -> None:
    changed = resolve_recipe(FOR_PIXART, attention=hasten.RettentionConfig())
    assert changed.measured is None
    assert changed.family == "pixart"


def test_a_recipe_without_family_and_figures_has_no_such_keys() -> None:
    """So that files that need neither can be read by every hasten."""
    assert not {"family", "measured"} & set(TUNED.to_dict())


def test_a_recipe_for_another_family_is_refused(make_pipeline: Callable[..., Any]) -> None:
    pipeline = make_pipeline()
    recipe = dataclasses.replace(hasten.presets()["balanced"], family="flux")
    sentence = (
        r"made for pipelines of the family flux, and this one is of pixart; give a recipe for pixart, or a preset\."
    )
    with pytest.raises(hasten.AccelerationError, match=sentence):
        pipeline.enable_acceleration(recipe)
    with pytest.raises(hasten.AccelerationError, match=sentence):
        hasten.explain(pipeline, recipe)
    with pytest.raises(hasten.AccelerationError, match="not accelerated"):
        pipeline.acceleration_report()
    pipeline.enable_acceleration(dataclasses.replace(recipe, family="pixart"))
    pipeline.disable_acceleration()


def test_a_recipe_is_written_over_only_by_force(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    hasten.Recipe().save(path)
    before = path.read_text()
    with pytest.raises(hasten.AccelerationError, match=r"exists; choose another name or pass force=True\."):
        TUNED.save(path)
    assert path.read_text() == before
    TUNED.save(path, force=True)
    assert hasten.Recipe.load(path) == TUNED


def test_a_recipe_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        hasten.AccelerationError, match=r"cannot be written \(No such file or directory\); choose another"
    ):
        TUNED.save(tmp_path / "missing" / "recipe.json")


def test_left_out_fields_keep_their_defaults() -> None:
    values = {"format": "hasten-recipe", "version": 1, "attention": {"density": 0.5}}
    jsonschema.validate(values, SCHEMA)
    assert hasten.Recipe.from_dict(values) == hasten.Recipe(hasten.RettentionConfig(density=0.5))


HEAD = {"format": "hasten-recipe", "version": 1}
REFUSED: dict[str, tuple[Any, str]] = {
    "not an object": ([], "not a hasten recipe"),
    "another format": ({"format": "workflow", "version": 1}, "not a hasten recipe"),
    "no format": ({"version": 1}, "not a hasten recipe"),
    "no version": ({"format": "hasten-recipe"}, "version is None"),
    "a version that is no number": ({**HEAD, "version": "1"}, "version is '1'"),
    "a newer version": ({**HEAD, "version": 2}, "version 2, this hasten reads up to 1; upgrade hasten"),
    "an unknown part": ({**HEAD, "atention": {}}, "did you mean 'attention'"),
    "an unknown field": ({**HEAD, "attention": {"densty": 0.1}}, "did you mean 'density'"),
    "a field like no other": ({**HEAD, "attention": {"zzz": 0.1}}, "known: density, window"),
    "attention that is no object": ({**HEAD, "attention": "fitted"}, "give an object of RettentionConfig's fields"),
    "sampling that is no object": ({**HEAD, "sampling": "flux-x2"}, "give an object of BottleneckConfig's fields"),
    "an unknown field of a stage": ({**HEAD, "sampling": {"stages": [{"step": 2}]}}, "did you mean 'steps'"),
    "a stage out of bounds": ({**HEAD, "sampling": {"stages": [{"scale": 2}]}}, r"give a number in \(0, 1\]"),
    "an unknown cache method": ({**HEAD, "kv_cache": {"method": "rtn_int44"}}, "did you mean 'rtn_int4'"),
    "an unknown family": ({**HEAD, "family": "pixar"}, "did you mean 'pixart'"),
    "a family that is no text": ({**HEAD, "family": 3}, "3"),
    "figures that are no object": ({**HEAD, "measured": [1.5]}, "measured was given as list; give a dict"),
    "a value out of bounds": ({**HEAD, "attention": {"density": 0}}, r"give a number in \(0, 1\]"),
}


@pytest.mark.parametrize(("values", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_recipe_is_refused_by_hasten_and_by_the_schema(values: Any, message: str) -> None:
    with pytest.raises(hasten.AccelerationError, match=message):
        hasten.Recipe.from_dict(values)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, SCHEMA)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "No such file"), ("{", "is not JSON"), ("[]", "not a hasten recipe")]
)
def test_an_unreadable_recipe_file_is_told(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(hasten.AccelerationError, match=message):
        resolve_recipe(path)


NOT_ALLOWED: dict[str, tuple[Any, ...]] = {
    "density": (0, -0.1, 1.01, float("nan"), float("inf"), "0.1", None, True),
    "dense_steps": (-1, 2.0, "5"),
    "refresh_interval": (0, 1.5),
    "ratio_increment": (-0.01, 2, float("nan"), "seen", None),
    "refresh_threshold": (0, -1.0, float("inf"), "0.1"),
    "window_frames": (0, 1.5, "all"),
    "correction": ("reshaped", None, ["none"]),
    "slope_damping": (-0.5, 1.5),
    "state_bits": (8.0, True, "8", 2),
    "min_tokens": (-1,),
    "start_percent": (-0.1, 1.1),
    "end_percent": (-0.1, 1.1),
    "dense_blocks": ((-1,), ("0",), 3, (0.5,)),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in NOT_ALLOWED.items() for value in values], ids=repr
)
def test_a_value_out_of_bounds_is_refused(name: str, value: Any) -> None:
    with pytest.raises(hasten.AccelerationError, match=rf"was given {name}=.*; give (a|an|one) .*\.$"):
        hasten.RettentionConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("density", 1),
        ("density", 1e-6),
        ("refresh_interval", 1),
        ("start_percent", 1),
        ("dense_blocks", (0,)),
        ("ratio_increment", 0),
        ("window_frames", None),
    ],
)
def test_a_value_at_the_bound_is_allowed(name: str, value: Any) -> None:
    assert getattr(hasten.RettentionConfig(**{name: value}), name) == value


@pytest.mark.parametrize("name", ["steps", "shift"])
def test_an_infinite_number_is_refused_where_nothing_bounds_it(name: str) -> None:
    with pytest.raises(hasten.AccelerationError, match=rf"{name}=inf; give a finite number above 0, or None\."):
        hasten.BottleneckStage(**{name: float("inf")})


def test_presets_have_the_published_names() -> None:
    assert list(hasten.presets()) == ["quality", "balanced", "fast", "extreme"]


def test_the_presets_cannot_be_changed_from_outside() -> None:
    hasten.presets().clear()
    assert resolve_recipe() == hasten.presets()["balanced"]


def test_a_config_replaces_that_part_of_a_preset() -> None:
    config = hasten.RettentionConfig(density=0.5)
    assert resolve_recipe("fast", attention=config) == dataclasses.replace(hasten.presets()["fast"], attention=config)
    assert resolve_recipe(attention=config) == hasten.Recipe(config)
    assert resolve_recipe(hasten.Recipe()) == hasten.Recipe()


def test_a_pipeline_takes_of_a_preset_what_is_for_its_kind(make_pipeline: Callable[..., Any]) -> None:
    pipe, fast, config = make_pipeline(), hasten.presets()["fast"], hasten.KVCacheConfig("kivi_int4")
    assert resolve_recipe("fast", pipeline=pipe) == dataclasses.replace(fast, kv_cache=None)
    # what is given by hand is never left out in silence
    assert resolve_recipe("fast", kv_cache=config, pipeline=pipe) == dataclasses.replace(fast, kv_cache=config)
    with pytest.raises(hasten.AccelerationError, match="does not generate chunk by chunk"):
        pipe.enable_acceleration("fast", kv_cache=config)
    only_one_kind = hasten.Recipe(attention=fast.attention)
    assert only_one_kind.for_kind(rolls_out=True) == only_one_kind
    assert fast.for_kind(rolls_out=True) == hasten.Recipe(kv_cache=fast.kv_cache)


def test_a_pipeline_brings_presets_of_its_own(make_pipeline: Callable[..., Any], tmp_path: Path) -> None:
    pipe, own = make_pipeline(), hasten.Recipe(hasten.RettentionConfig(density=0.5), family="pixart")
    pipe.register_to_config(_name_or_path=str(tmp_path))
    generic = hasten.presets()
    assert hasten.presets(pipe) == generic
    (tmp_path / "presets").mkdir()
    own.save(tmp_path / "presets" / "balanced.json")
    assert hasten.presets(pipe) == {**generic, "balanced": own}
    for request in (None, "balanced", generic["balanced"]):
        assert hasten.explain(pipe, request).recipe == own
        pipe.enable_acceleration(request)
        assert vars(pipe)["_hasten"].recipe == own
    changed = resolve_recipe("balanced", attention=hasten.RettentionConfig(density=0.25), pipeline=pipe)
    assert changed == hasten.Recipe(hasten.RettentionConfig(density=0.25), family="pixart")
    by_hand = dataclasses.replace(generic["balanced"], attention=hasten.RettentionConfig(density=0.125))
    assert hasten.explain(pipe, by_hand).recipe == by_hand.for_kind(rolls_out=False)
    by_value = dataclasses.replace(generic["balanced"], preset=None)
    assert hasten.explain(pipe, by_value).recipe == by_value.for_kind(rolls_out=False)
    assert hasten.explain(pipe, "fast").recipe == generic["fast"].for_kind(rolls_out=False).for_family("pixart")
    (tmp_path / "presets" / "balanced.json").write_text("{")
    with pytest.raises(hasten.AccelerationError, match=r"balanced\.json is not JSON"):
        pipe.enable_acceleration()


@pytest.mark.parametrize("name", ["balancd", "Balanced"])
def test_an_unknown_preset_is_told_the_nearest(name: str) -> None:
    with pytest.raises(hasten.AccelerationError, match=f"'{name}' is not a preset.*did you mean 'balanced'"):
        resolve_recipe(name)


def test_a_recipe_named_after_an_unknown_preset_is_refused(pipeline: Any) -> None:
    recipe = hasten.Recipe(hasten.RettentionConfig(), preset="fst")
    for use in (pipeline.enable_acceleration, lambda it: hasten.explain(pipeline, it), resolve_recipe):
        with pytest.raises(hasten.AccelerationError, match=r"'fst' is not a preset.*did you mean 'fast'"):
            use(recipe)


def test_an_unknown_preset_is_told_all() -> None:
    with pytest.raises(hasten.AccelerationError, match="known: quality, balanced, fast, extreme"):
        resolve_recipe("xyz")

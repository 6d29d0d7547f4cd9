from pathlib import Path
from typing import Any

import pytest
import torch

from hasten.app.errors import UserError
from hasten.app.loading import LoadedModel, load_model
from hasten.app.workload import Workload, prepare
from hasten.assets import CARD, model_card, model_path


def prepared(**given: Any) -> tuple[LoadedModel, Workload]:
    options = ("prompt", "prompts", "num_prompts", "height", "width", "steps", "guidance")
    defaults = {**dict.fromkeys(options), "seed": 0, "dtype": "auto", "device": "cpu"}
    return prepare("emoji-image", **{**defaults, **given})


def test_a_bundled_model_is_called_as_its_card_says() -> None:
    model, workload = prepared(prompt="a rocket")
    assert model.bundled
    assert workload.arguments == model_card("emoji-image")["call"]


def test_options_override_the_card() -> None:
    _, workload = prepared(prompt="a rocket", height=192, width=64, steps=7, guidance=1.5)
    changed = {"height": 192, "width": 64, "num_inference_steps": 7, "guidance_scale": 1.5}
    assert workload.arguments == {**model_card("emoji-image")["call"], **changed}
    assert workload.steps == 7
    assert workload.with_steps(3).arguments == {**workload.arguments, "num_inference_steps": 3}


def test_seeds_count_up_from_the_given_one(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("  one \n\ntwo\nthree\n", encoding="utf-8")
    _, workload = prepared(prompts=file, seed=5)
    assert [(request.prompt, request.seed) for request in workload.requests] == [("one", 5), ("two", 6), ("three", 7)]


def test_after_the_largest_seed_comes_zero(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("one\ntwo\n", encoding="utf-8")
    for given in ({"prompts": file}, {"num_prompts": 2}):
        assert [request.seed for request in prepared(seed=2**63 - 1, **given)[1].requests] == [2**63 - 1, 0]


def test_held_out_prompts_bring_their_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = [{"prompt": f"scene {number}"} for number in range(3)]
    monkeypatch.setattr("hasten.app.workload.held_out_scenes", lambda _name: scenes)
    _, workload = prepared(num_prompts=2)
    assert [request.scene for request in workload.requests] == scenes[:2]
    assert [request.prompt for request in prepared()[1].requests] == ["scene 0"]
    with pytest.raises(UserError, match="has 3 held-out prompts, not 4"):
        prepared(num_prompts=4)


def test_a_folder_is_a_model_too() -> None:
    model = load_model(str(model_path("emoji-image")))
    assert not model.bundled
    assert model.arguments(height=64) == load_model("emoji-image").arguments(height=64)


def test_a_folder_needs_no_card_but_a_whole_one_if_it_has_one(tmp_path: Path) -> None:
    for part in model_path("emoji-image").iterdir():
        if part.name != CARD:
            (tmp_path / part.name).symlink_to(part)
    assert load_model(str(tmp_path)).call == {}
    (tmp_path / CARD).write_text('{"call": ')
    with pytest.raises(UserError, match=rf"card of folder '{tmp_path}' \({CARD}\) is damaged; repair it"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_dtype_is_that_of_the_denoiser(name: str) -> None:
    assert load_model("emoji-image", dtype=name, device="cpu").denoiser.dtype == getattr(torch, name)


def test_on_a_cpu_the_default_dtype_is_float32() -> None:
    assert load_model("emoji-image", device="cpu").denoiser.dtype == torch.float32

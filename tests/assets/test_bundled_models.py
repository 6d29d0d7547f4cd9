"""What ships: complete, small, loaded by stock diffusers, true to its captions, and accelerated without a trace."""

import json
from typing import Any

import pytest
import torch
from diffusers import PixArtSigmaPipeline

import hasten
from hasten.app.metrics.caption_accuracy import caption_accuracy
from hasten.assets import bundled_models, model_card, model_path, prompts
from hasten.methods import rettention

MODEL = "emoji-image"
SMALL = model_card(MODEL)["sizes"][0]


@pytest.fixture(scope="module")
def pipeline() -> Any:
    pipeline = PixArtSigmaPipeline.from_pretrained(model_path(MODEL))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _generate(pipeline: Any, prompt: str, steps: int, output_type: str = "pt") -> Any:
    size = {"height": SMALL, "width": SMALL, "num_inference_steps": steps}
    call = {**model_card(MODEL)["call"], **size}
    return pipeline(prompt, generator=torch.Generator().manual_seed(0), output_type=output_type, **call).images[0]


def test_an_unknown_bundled_name_lists_the_known_ones() -> None:
    with pytest.raises(KeyError, match="emoji-image"):
        model_path("emoji-imago")


@pytest.mark.parametrize("name", bundled_models())
def test_a_bundled_model_is_at_most_40_megabytes(name: str) -> None:
    assert _bytes(name) <= 40e6


def test_the_video_models_are_at_most_60_megabytes_together() -> None:
    assert sum(_bytes(name) for name in bundled_models() if "fps" in model_card(name)) <= 60e6


@pytest.mark.parametrize("name", bundled_models())
def test_no_configuration_remembers_the_folder_that_it_came_from(name: str) -> None:
    configs = [json.loads(file.read_text()) for file in model_path(name).rglob("*config.json")]
    assert configs
    assert [config for config in configs if {"_name_or_path", "is_local"} & set(config)] == []


def _bytes(name: str) -> int:
    return sum(file.stat().st_size for file in model_path(name).rglob("*") if file.is_file())


def test_pictures_show_what_held_out_captions_say(pipeline: Any) -> None:
    records = prompts(MODEL)[:6]
    images = [_generate(pipeline, record["prompt"], steps=12, output_type="pil") for record in records]
    assert caption_accuracy(MODEL, records, images) >= 5 / 6


def test_acceleration_leaves_the_trained_model_as_it_was(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = prompts(MODEL)[0]["prompt"]
    plain = _generate(pipeline, prompt, steps=6)
    with hasten.accelerate(pipeline, attention=hasten.RettentionConfig(dense_steps=1, refresh_interval=3)):
        assert not torch.equal(_generate(pipeline, prompt, steps=6), plain)
    with hasten.accelerate(pipeline, attention=hasten.RettentionConfig(dense_steps=1, refresh_interval=1)):
        assert (_generate(pipeline, prompt, steps=6) - plain).abs().max() < 1e-4
        monkeypatch.setattr(rettention.RettentionHook, "attend", lambda _hook, _layer, call: call.stock())
    with hasten.accelerate(pipeline, attention=hasten.RettentionConfig(dense_steps=1)):
        assert torch.equal(_generate(pipeline, prompt, steps=6), plain)
    assert torch.equal(_generate(pipeline, prompt, steps=6), plain)

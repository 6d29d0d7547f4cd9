"""The bundled video models: stock diffusers loads them, and clips show what held-out captions say."""

from typing import Any

import pytest
import torch
from diffusers import WanPipeline
from PIL import Image

from hasten.app.metrics.motion_accuracy import motion_accuracy
from hasten.assets import bundled_models, model_card, model_path, prompts
from hasten.assets.recipes.emoji_image.scenes import COLOURS
from hasten.assets.recipes.emoji_video.scenes import MOTIONS, THINGS

MODEL = "emoji-video"
SHORT = 9
"""Frames that show a motion: three latent ones."""


@pytest.fixture(scope="module")
def pipeline() -> Any:
    pipeline = WanPipeline.from_pretrained(model_path(MODEL))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _generate(pipeline: Any, records: list[dict[str, Any]], frames: int, steps: int) -> list[list[Image.Image]]:
    call = {**model_card(MODEL)["call"], "num_frames": frames, "num_inference_steps": steps}
    seeds = [torch.Generator().manual_seed(index) for index in range(len(records))]
    return pipeline([record["prompt"] for record in records], generator=seeds, output_type="pil", **call).frames


def test_short_clips_show_what_held_out_captions_say(pipeline: Any) -> None:
    records = prompts(MODEL)[:6]
    accuracy = motion_accuracy(MODEL, records, _generate(pipeline, records, SHORT, steps=10))[0]
    assert accuracy["thing"] >= 4 / 6
    assert accuracy["colour"] == 1
    assert accuracy["motion"] >= 4 / 6


def test_it_makes_one_picture_as_well(pipeline: Any) -> None:
    (clip,) = _generate(pipeline, prompts(MODEL)[:1], 1, steps=2)
    side = model_card(MODEL)["call"]["height"]
    assert [frame.size for frame in clip] == [(side, side)]


@pytest.mark.parametrize("name", [name for name in bundled_models() if "fps" in model_card(name)])
def test_bundled_prompts_of_videos_carry_what_the_judge_needs(name: str) -> None:
    scenes = prompts(name)
    assert len(scenes) >= 16
    for scene in scenes:
        assert set(scene) == {"prompt", "thing", "motion", "colour"}
        assert scene["thing"] in THINGS
        assert scene["motion"] in MOTIONS
        assert scene["colour"] in COLOURS

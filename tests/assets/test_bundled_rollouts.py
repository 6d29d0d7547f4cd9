"""The bundled model that rolls out: videos longer than its window stay true to their captions, coded caches too."""

from typing import Any

import pytest
import torch
from PIL import Image

import hasten
from hasten.app.metrics.motion_accuracy import motion_accuracy
from hasten.app.metrics.similarity import decibels, squared_errors
from hasten.assets import model_card, model_path, prompts
from hasten.pipelines.self_forcing import SelfForcingWanPipeline

MODEL = "emoji-rollout"
LONGER_THAN_THE_WINDOW = 117
"""Frames: 30 latent ones, of which the window holds 21."""
SHORT = 45

Clip = list[Image.Image]


@pytest.fixture(scope="module")
def pipeline() -> Any:
    pipeline = SelfForcingWanPipeline.from_pretrained(model_path(MODEL))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _generate(pipeline: Any, records: list[dict[str, Any]], frames: int) -> list[Clip]:
    call = {**model_card(MODEL)["call"], "num_frames": frames}
    seeds = [torch.Generator().manual_seed(index) for index in range(len(records))]
    return pipeline([record["prompt"] for record in records], generator=seeds, output_type="pil", **call).frames


def test_the_end_of_a_long_video_shows_what_its_held_out_caption_says(pipeline: Any) -> None:
    records = prompts(MODEL)[:3]
    videos = _generate(pipeline, records, LONGER_THAN_THE_WINDOW)
    first, _, last = motion_accuracy(MODEL, records, videos, 3)
    for stretch in (first, last):
        assert stretch["thing"] >= 2 / 3
        assert stretch["colour"] == 1
        assert stretch["motion"] >= 2 / 3


def test_coded_caches_come_close_in_the_order_of_their_bits(pipeline: Any) -> None:
    (plain,) = _generate(pipeline, prompts(MODEL)[:1], SHORT)

    def likeness(method: str) -> float:
        with hasten.accelerate(pipeline, kv_cache=hasten.KVCacheConfig.preset(method)):
            (video,) = _generate(pipeline, prompts(MODEL)[:1], SHORT)
        errors = squared_errors(video, plain)
        return decibels(sum(errors) / len(errors))

    assert likeness("quarot_kv_int8") > likeness("quarot_kv_int4") > likeness("rtn_int2")
    (again,) = _generate(pipeline, prompts(MODEL)[:1], SHORT)
    assert squared_errors(again, plain) == [0.0] * SHORT

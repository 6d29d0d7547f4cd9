"""Callbacks and progress bars of pipelines that run in stages, whatever number of steps the call was asked for."""

import contextlib
import io
from typing import Any

import pytest
from bottleneck_oracle import THREE_STAGES, remember_latents
from diffusers import DDIMScheduler
from diffusers.pipelines import pipeline_utils
from tiny_pipeline import TinyPipeline, generate
from tiny_pipelines import TINY_PIPELINES
from torch import Tensor
from tqdm.auto import tqdm

import hasten
from hasten import BottleneckConfig

PIXART = TINY_PIPELINES[0]
CONFIG = BottleneckConfig(THREE_STAGES)


@pytest.mark.parametrize("tiny", TINY_PIPELINES, ids=lambda tiny: tiny.name)
@pytest.mark.parametrize("asked_for", [5, 7, 10], ids="of {}".format)
def test_callbacks_and_the_progress_bar_see_every_step(
    tiny: TinyPipeline, asked_for: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline: Any = tiny.build()
    seen: list[Tensor] = []
    bars: list[tqdm] = []
    monkeypatch.setattr(pipeline_utils, "tqdm", lambda **settings: bars.append(tqdm(**settings)) or bars[-1])
    pipeline.set_progress_bar_config(file=io.StringIO(), leave=False)
    pipeline.enable_acceleration(sampling=CONFIG)
    result = generate(tiny, pipeline, num_inference_steps=asked_for, **remember_latents(tiny, seen))
    assert [bar.n for bar in bars] == [bar.total for bar in bars]
    legacy = tiny.family == "pixart"  # its callback is for the steps of the bar
    assert len(seen) == (bars[0].total if legacy else 7)
    assert bars[0].total in {7, min(7, asked_for)}
    assert len({latents.shape for latents in seen}) == 1
    assert seen[-1].numel() == result.numel()


def test_the_progress_bar_of_a_user_stays() -> None:
    pipeline: Any = PIXART.build()
    totals: list[Any] = []

    def bar(iterable: Any = None, total: Any = None) -> Any:
        totals.append(total)
        return contextlib.nullcontext(tqdm(disable=True))

    pipeline.progress_bar = bar
    with hasten.accelerate(pipeline, sampling=CONFIG):
        generate(PIXART, pipeline, num_inference_steps=20)
        pipeline.scheduler = DDIMScheduler(clip_sample=False)
        generate(PIXART, pipeline, num_inference_steps=20)
    assert totals == [7, 20]
    assert pipeline.progress_bar is bar

"""Stages of Wan 2.2, which has one denoiser for much noise and one for little."""

from typing import Any

import pytest
from bottleneck_oracle import THREE_STAGES
from diffusers import UniPCMultistepScheduler
from tiny_pipeline import generate
from tiny_pipelines import TINY_PIPELINES

import hasten
from hasten import BottleneckConfig, BottleneckStage

(TINY,) = (tiny for tiny in TINY_PIPELINES if tiny.name == "wan-2.2")
CONFIG = BottleneckConfig(THREE_STAGES)


@pytest.fixture
def experts() -> Any:
    return TINY.build()


@pytest.mark.parametrize("steps", [20, 40])
@pytest.mark.parametrize(("shift", "boundary"), [(3.0, 0.875), (5.0, 0.875), (5.0, 0.9), (12.0, 0.875)])
@pytest.mark.parametrize("name", hasten.sampling_presets("wan"))
def test_the_presets_of_wan_keep_the_range_of_each_expert(
    name: str, shift: float, boundary: float, steps: int, experts: Any
) -> None:
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
    experts.register_to_config(boundary_ratio=boundary)
    object.__setattr__(experts, "scheduler", scheduler)
    config, size = BottleneckConfig.preset(name), {"height": 128, "width": 128, "num_frames": 9}
    for transition in ("fresh", "correlated", "snr_matched"):
        sampling = config.with_transition(transition)
        stages = hasten.explain(experts, sampling=sampling, **size, num_inference_steps=steps).stages
        assert not any(stage.notices for stage in stages)
        of_first = [sigma >= boundary for stage in stages for sigma in stage.sigmas]
        assert of_first == sorted(of_first, reverse=True)
        assert set(of_first) == {True, False}


def test_a_way_back_over_the_boundary_of_two_experts_is_told(experts: Any) -> None:
    notice = r"it goes back over boundary_ratio=0.8 to the first denoiser; to avoid it, give it a lower start"
    experts.enable_acceleration(sampling=CONFIG)
    with pytest.warns(hasten.AccelerationWarning, match=notice):
        generate(TINY, experts)
    told = {fallback.where for fallback in experts.acceleration_report().fallbacks}
    assert told == {"stage 2", "stage 3"}
    explained = hasten.explain(experts, sampling=CONFIG, height=96, width=96, num_frames=9, num_inference_steps=6)
    assert [len(stage.notices) for stage in explained.stages] == [0, 1, 1]
    one_way = (
        BottleneckStage(steps=2, end=0.7),
        BottleneckStage(steps=3, scale=0.5, start=0.9),
        BottleneckStage(steps=2, start=0.5),
    )
    experts.enable_acceleration(sampling=BottleneckConfig(one_way))
    called: list[str] = []
    for name in ("transformer", "transformer_2"):
        getattr(experts, name).register_forward_pre_hook(lambda *_, name=name: called.append(name))
    generate(TINY, experts)
    assert experts.acceleration_report().fallbacks == ()
    assert called == sorted(called)
    assert set(called) == {"transformer", "transformer_2"}

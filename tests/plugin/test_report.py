"""The report: measured on the call, readable after it, JSON-able."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

import hasten

SPARSE = hasten.RettentionConfig(density=0.2, dense_steps=2, refresh_interval=3)


@pytest.fixture
def report(pipeline: Any, generate: Callable[..., torch.Tensor]) -> hasten.AccelerationReport:
    pipeline.enable_acceleration(attention=SPARSE)
    generate(pipeline)
    return pipeline.acceleration_report()


def test_steps_tell_kind_and_density(report: hasten.AccelerationReport) -> None:
    band = (64 * 13 - 6 * 7) / 64**2
    assert [step.index for step in report.steps] == list(range(8))
    assert [step.kind[0] for step in report.steps] == list("ddrssrss")
    assert [step.density for step in report.steps] == pytest.approx([1, 1, 1, band, band, 1, band, band])
    assert report.density == pytest.approx((4 + 4 * band) / 8)


def test_seconds_add_up(report: hasten.AccelerationReport) -> None:
    assert all(step.seconds > 0 for step in report.steps)
    assert report.seconds == pytest.approx(sum(step.seconds for step in report.steps))


def test_report_as_json(report: hasten.AccelerationReport) -> None:
    values = json.loads(json.dumps(report.to_dict()))
    assert (values["dense_steps"], values["refresh_steps"], values["sparse_steps"]) == (2, 2, 4)
    assert values["steps"][2].keys() == {"index", "kind", "seconds", "density", "change"}
    assert values["fallbacks"] == []
    assert values["kernels"] == ["cpu"]
    rows, tokens, channels, heads, layers = 2, 64, 24, 3, 2
    assert values["state_bytes"] == 4 * layers * rows * tokens * (channels + heads)  # R and ρ


def test_report_as_text_has_a_row_a_step(report: hasten.AccelerationReport) -> None:
    lines = str(report).splitlines()
    assert len(lines) == 1 + 8 + 1 + 2
    assert lines[4].split()[:2] == ["3", "sparse"]
    assert f"{report.state_bytes:,} bytes" in lines[-2]
    assert lines[-1] == "kernels: cpu"


def test_report_is_of_the_last_call(pipeline: Any, generate: Callable[..., torch.Tensor]) -> None:
    pipeline.enable_acceleration(attention=SPARSE)
    assert pipeline.acceleration_report().steps == ()
    generate(pipeline)
    generate(pipeline, num_inference_steps=3)
    assert len(pipeline.acceleration_report().steps) == 3


def test_a_plain_pipeline_has_no_report(pipeline: Any) -> None:
    with pytest.raises(hasten.AccelerationError, match="call enable_acceleration"):
        pipeline.acceleration_report()

"""What is told before a call is what the call then does."""

import dataclasses
import inspect
import json
from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from diffusers import HeunDiscreteScheduler

import hasten
from hasten.families import FAMILIES, family_of

Generate = Callable[..., torch.Tensor]

SPARSE = hasten.RettentionConfig(density=0.2, dense_steps=2, refresh_interval=3)


@pytest.mark.parametrize("correction", ["reshape", "fitted", "residual", "reuse", "none"])
@pytest.mark.parametrize(
    ("dtype", "state_bits"),
    [(torch.float32, 16), (torch.bfloat16, 16), (torch.bfloat16, 8), (torch.float32, 4)],
    ids=str,
)
def test_explanation_matches_the_report(
    correction: Any, dtype: torch.dtype, state_bits: Any, any_pipeline: Any, generate: Callable[..., torch.Tensor]
) -> None:
    pipeline = any_pipeline.to(dtype)
    config = hasten.RettentionConfig(
        density=0.2,
        dense_steps=2,
        refresh_interval=3,
        correction=correction,
        dense_blocks=(1,),
        state_bits=state_bits,
    )
    told = hasten.explain(pipeline, attention=config, height=48, width=16, num_inference_steps=8, batch_size=2)
    pipeline.enable_acceleration(attention=config)
    generate(pipeline, height=48, width=16, num_images_per_prompt=2)
    measured = pipeline.acceleration_report()
    assert list(told.steps) == [step.kind for step in measured.steps]
    assert told.density == pytest.approx(measured.density)
    assert told.state_bytes == measured.state_bytes
    assert [layer.tokens for layer in told.layers] == [48, 48]
    assert [layer.stays_dense for layer in told.layers] == [None, "block 1 is in dense_blocks"]


@pytest.mark.parametrize("correction", ["reshape", "fitted", "reuse"])
def test_state_with_refreshes_on_change_is_explained_as_it_is_reported(
    correction: Any, pipeline: Any, generate: Generate
) -> None:
    config = dataclasses.replace(SPARSE, correction=correction, refresh_threshold=1e9, state_bits=8)
    told = hasten.explain(pipeline, attention=config, height=48, width=64, num_inference_steps=8)
    pipeline.enable_acceleration(attention=config)
    generate(pipeline, height=48, width=64)
    assert told.layers[0].tokens == 192
    assert told.state_bytes == pipeline.acceleration_report().state_bytes


def test_a_schedule_that_follows_the_outputs_is_said_not_to_be_known(pipeline: Any) -> None:
    said = "where outputs have changed by more than 0.2, so that the schedule is not known ahead"
    assert said in str(hasten.explain(pipeline, attention=dataclasses.replace(SPARSE, refresh_threshold=0.2)))
    assert said not in str(hasten.explain(pipeline, attention=SPARSE))


def test_windows_are_told(pipeline: Any) -> None:
    config = dataclasses.replace(SPARSE, window="tiles", dense_blocks=(1,))
    told = hasten.explain(pipeline, attention=config, height=32, width=32)
    window = "1 × 4 × 3 tokens around tiles of 1 × 2 × 2 (frames × rows × columns)"
    assert [layer.window for layer in told.layers] == [window, None]
    assert f"window: {window}" in str(told)


def test_densities_of_blocks_are_explained_as_they_are_reported(pipeline: Any, generate: Callable[..., Any]) -> None:
    config = hasten.RettentionConfig(dense_steps=2, refresh_interval=3, block_densities=(0.4, 0.1))
    told = hasten.explain(pipeline, attention=config, height=32, width=32, num_inference_steps=8)
    pipeline.enable_acceleration(attention=config)
    generate(pipeline)
    assert told.density == pytest.approx(pipeline.acceleration_report().density)


def test_stages_that_are_too_small_are_explained_as_they_are_reported(pipeline: Any, generate: Generate) -> None:
    stages = tuple(hasten.BottleneckStage(steps=4, scale=scale) for scale in (0.5, 1.0))
    recipe = hasten.Recipe(
        hasten.RettentionConfig(density=0.2, dense_steps=2, refresh_interval=3, min_tokens=64),
        hasten.BottleneckConfig(stages),
    )
    told = hasten.explain(pipeline, recipe, height=32, width=32, num_inference_steps=8)
    pipeline.enable_acceleration(recipe)
    generate(pipeline)
    assert "".join(kind[0] for kind in told.steps) == "ddddrrss"
    assert list(told.steps) == [step.kind for step in pipeline.acceleration_report().steps]
    assert told.density == pytest.approx(pipeline.acceleration_report().density)


def test_explaining_changes_nothing(pipeline: Any) -> None:
    before = {name: set(vars(module)) for name, module in pipeline.transformer.named_modules()}
    hasten.explain(pipeline, "fast")
    assert {name: set(vars(module)) for name, module in pipeline.transformer.named_modules()} == before


def test_attention_share_is_that_of_the_published_model(any_pipeline: Any) -> None:
    told = hasten.explain(any_pipeline, attention=SPARSE, height=32, width=32)
    width, tokens = 24, 64
    linear = 2 * 14 * width**2  # four projections, two of the cross-attention, a feed-forward of four times the width
    attention = 4 * tokens * width
    assert told.attention_share == pytest.approx(attention / (attention + linear))


def test_expected_saving_follows_the_formula(pipeline: Any) -> None:
    told = hasten.explain(pipeline, attention=SPARSE, num_inference_steps=8)
    sparse_share, band = 4 / 8, (64 * 13 - 6 * 7) / 64**2
    assert told.sparse_density == pytest.approx(band)
    saving = told.attention_share * sparse_share * (1 - band) * told.kernel_efficiency
    assert told.expected_saving == pytest.approx(saving)


STAGES = hasten.BottleneckConfig(
    (hasten.BottleneckStage(steps=2), hasten.BottleneckStage(steps=4, scale=0.5), hasten.BottleneckStage(steps=1))
)


def test_expected_speed_up_of_stages_is_that_of_their_operations(pipeline: Any) -> None:
    told = hasten.explain(pipeline, sampling=STAGES, num_inference_steps=10)
    width, tokens = 24, 64
    full, low = (2 * 14 * width**2 * n + 4 * width * n**2 for n in (tokens, tokens // 4))
    assert told.expected_speedup == pytest.approx(10 * full / (3 * full + 4 * low))
    assert told.expected_saving == pytest.approx(1 - 1 / told.expected_speedup)
    assert f"speed-up {told.expected_speedup:.2f}×" in str(told)
    assert told.predicted_seconds is told.plain_seconds is told.stages[0].seconds is None


def test_seconds_are_predicted_from_measured_steps_at_each_resolution(pipeline: Any) -> None:
    sizes: list[int] = []
    pipeline.transformer.pos_embed.register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape[-1]))
    scheduler, before = pipeline.scheduler, {**vars(pipeline.transformer)}
    call = {"prompt": "a red circle", "clean_caption": False, "use_resolution_binning": False}
    told = hasten.explain(pipeline, sampling=STAGES, num_inference_steps=10, measure=call)
    assert sizes == 3 * [8] + 3 * [16]
    assert pipeline.scheduler is scheduler
    assert vars(pipeline.transformer).keys() == before.keys()
    full, low, last = (stage.seconds for stage in told.stages)
    assert full == last > 0
    assert told.plain_seconds == pytest.approx(10 * full)
    assert told.predicted_seconds == pytest.approx(3 * full + 4 * low)
    assert f"predicted: {told.predicted_seconds:.2f} s in the denoiser" in str(told)


def test_predicted_seconds_of_sparse_attention_leave_out_what_is_expected(pipeline: Any) -> None:
    pipeline.scheduler = HeunDiscreteScheduler()  # attention alone asks nothing of it
    call = {"prompt": "a red circle", "clean_caption": False, "use_resolution_binning": False}
    told = hasten.explain(pipeline, attention=SPARSE, num_inference_steps=8, measure=call)
    assert told.predicted_seconds / told.plain_seconds == pytest.approx(1 - told.expected_saving)


def test_defaults_are_those_of_the_pipeline(pipeline: Any) -> None:
    told = hasten.explain(pipeline)
    assert told.recipe == hasten.Recipe(attention=hasten.presets()["balanced"].attention)
    assert len(told.steps) == 20
    assert {layer.tokens for layer in told.layers} == {64}


def test_a_small_picture_stays_dense_by_min_tokens(pipeline: Any) -> None:
    config = hasten.RettentionConfig(min_tokens=65)
    told = hasten.explain(pipeline, attention=config)
    assert set(told.steps) == {"dense"}
    assert {layer.stays_dense for layer in told.layers} == {"64 visual tokens are fewer than min_tokens=65"}
    assert (told.density, told.expected_saving, told.state_bytes) == (1, 0, 0)


def test_explanation_as_json_and_as_text(pipeline: Any) -> None:
    told = hasten.explain(pipeline, "fast")
    values = json.loads(json.dumps(told.to_dict()))
    fast = dataclasses.replace(hasten.presets()["fast"], kv_cache=None)
    assert values["recipe"] == fast.for_family("pixart").to_dict()
    first = {"name": "transformer_blocks.0.attn1", "tokens": 64, "stays_dense": None}
    assert values["layers"][0] == {**first, "window": told.layers[0].window}
    assert "pixart: 2 self-attention layers of 64 tokens" in str(told)
    assert f"{told.expected_saving:.1%}" in str(told)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"height": 30}, "height=30, width=32 does not fit this model; give positive multiples of 4"),
        ({"width": -4}, "give positive multiples of 4"),
        ({"height": 0}, "height=0, width=32 does not fit this model; give positive multiples of 4"),
        ({"num_inference_steps": 1}, "dense_steps=2 are more than the 1 steps"),
        ({"num_inference_steps": 0}, "num_inference_steps=0 leaves nothing to make; give at least 1"),
        ({"batch_size": 0}, "batch_size=0 leaves nothing to make; give at least 1"),
        ({"num_frames": 9}, "pixart makes pictures; leave num_frames out"),
    ],
    ids=lambda value: "{}={}".format(*next(iter(value.items()))) if isinstance(value, dict) else None,
)
def test_what_the_model_cannot_make_is_refused(arguments: dict[str, Any], message: str, pipeline: Any) -> None:
    with pytest.raises(hasten.AccelerationError, match=message):
        hasten.explain(pipeline, attention=SPARSE, **arguments)


def test_families_say_what_works_and_what_does_not() -> None:
    assert all(family.name == name and family.works for name, family in FAMILIES.items())
    for family in FAMILIES.values():
        calls = [inspect.signature(getattr(diffusers, name).__call__).parameters for name in family.pipelines]
        assert ("strength" in family.why) == any("strength" in parameters for parameters in calls)
        assert ("ControlNet" in family.why) == any("ControlNet" in name for name in family.pipelines)
        assert ("Kontext" in family.why) == any("Kontext" in name for name in family.pipelines)
        assert "Re-ttention in " in family.why
        assert "Bottleneck Sampling" in family.why


def test_layers_of_a_family_are_its_self_attention_in_order(any_pipeline: Any) -> None:
    layers = family_of(any_pipeline).layers(any_pipeline.transformer)
    assert [(layer.name, layer.block) for layer in layers] == [
        ("transformer_blocks.0.attn1", 0),
        ("transformer_blocks.1.attn1", 1),
    ]

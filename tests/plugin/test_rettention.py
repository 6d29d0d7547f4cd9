"""What the method computes, against an oracle written from the paper."""

import copy
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import pytest
import torch
from rettention_oracle import ChangingKinds, OracleAttention, OracleProcessor

import hasten
from hasten import AccelerationError, RettentionConfig
from hasten.families.pixart import PIXART
from hasten.methods import rettention
from hasten.runs import Run

CORRECTIONS = get_args(get_type_hints(RettentionConfig)["correction"])


@pytest.fixture
def strong_pipeline(any_pipeline: Any) -> Any:
    """A float64 pipeline whose attention is peaked and matters, unlike that of small random weights."""
    pipeline = any_pipeline.to(torch.float64)
    for block in pipeline.transformer.transformer_blocks:
        for projection in (block.attn1.to_q, block.attn1.to_k):
            projection.weight.data.mul_(8)
        block.attn1.to_out[0].weight.data.mul_(8)
    return pipeline


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "DDDDDRSSSSRSSSSRSSSS"),
        ({"correction": "fitted"}, "DDDDRRSSSSRSSSSRSSSS"),
        ({"dense_steps": 0}, "RSSSSRSSSSRSSSSRSSSS"),
        ({"dense_steps": 0, "correction": "fitted"}, "RSSSSRSSSSRSSSSRSSSS"),
        ({"dense_steps": 3, "refresh_interval": 7}, "DDDRSSSSSSRSSSSSSRSS"),
        ({"refresh_interval": 1}, "DDDDDRRRRRRRRRRRRRRD"),
        ({"dense_steps": 4}, "DDDDRSSSSRSSSSRSSSSD"),
        ({"dense_steps": 20}, "DDDDDDDDDDDDDDDDDDDD"),
        ({"dense_steps": 20, "correction": "fitted"}, "DDDDDDDDDDDDDDDDDDDD"),
        ({"start_percent": 0.4}, "DDDDDDDDRSSSSRSSSSRS"),
        ({"end_percent": 0.6}, "DDDDDRSSSSRSDDDDDDDD"),
        ({"start_percent": 0.5, "end_percent": 0.5}, "DDDDDDDDDDDDDDDDDDDD"),
    ],
    ids=lambda value: ",".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else value,
)
def test_schedule_of_twenty_steps(settings: dict[str, Any], expected: str) -> None:
    letters = {"dense": "D", "refresh": "R", "sparse": "S"}
    assert "".join(letters[kind] for kind in RettentionConfig(**settings).schedule(20)) == expected


def test_schedule_refuses_more_dense_steps_than_steps() -> None:
    with pytest.raises(AccelerationError, match="dense_steps=5 are more than the 4 steps"):
        RettentionConfig().schedule(4)


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_a_run_equals_the_oracle(correction: str, strong_pipeline: Any, generate: Callable[..., Any]) -> None:
    plain = generate(strong_pipeline)
    config = RettentionConfig(
        density=0.2, dense_steps=2, refresh_interval=3, correction=correction, ratio_increment=0.3, slope_damping=0.7
    )
    strong_pipeline.enable_acceleration(attention=config)
    accelerated = generate(strong_pipeline)
    strong_pipeline.disable_acceleration()
    kinds = "DRRSSRSS" if correction == "fitted" else "DDRSSRSS"
    for block in strong_pipeline.transformer.transformer_blocks:
        oracle = OracleAttention(kinds, int(64 * 0.2) // 2, correction, ratio_increment=0.3, slope_damping=0.7)
        block.attn1.processor = OracleProcessor(oracle)
    expected = generate(strong_pipeline)
    assert (expected - plain).abs().max() > 1e-3
    torch.testing.assert_close(accelerated, expected, rtol=0, atol=1e-9)


def oracle_run(pipeline: Any, generate: Callable[..., Any], **oracle: Any) -> torch.Tensor:
    """A run in which each block's self-attention is the oracle's."""
    for block in pipeline.transformer.transformer_blocks:
        block.attn1.processor = OracleProcessor(OracleAttention(half_width=int(64 * 0.2) // 2, **oracle))
    return generate(pipeline, num_inference_steps=11)


@pytest.mark.parametrize(
    ("correction", "beginning"), [("reshape", "DDR"), ("residual", "DDR"), ("fitted", "DRR")], ids=lambda value: value
)
def test_refreshes_on_change_equal_the_oracle(
    correction: str, beginning: str, strong_pipeline: Any, generate: Callable[..., Any]
) -> None:
    threshold = 0.12
    config = RettentionConfig(
        density=0.2, dense_steps=2, refresh_interval=5, correction=correction, refresh_threshold=threshold
    )
    strong_pipeline.enable_acceleration(attention=config)
    first, again = (generate(strong_pipeline, num_inference_steps=11) for _ in range(2))
    report = strong_pipeline.acceleration_report()
    strong_pipeline.disable_acceleration()
    kinds = ChangingKinds(beginning, steps=11, interval=5, threshold=threshold)
    expected = oracle_run(
        strong_pipeline, generate, kinds=kinds, correction=correction, ratio_increment=0.04, slope_damping=0.5
    )
    fixed = "".join(kind[0] for kind in config.schedule(11))
    assert "".join(step.kind[0] for step in report.steps) == kinds.spelled.lower() != fixed
    assert kinds.spelled.count("S") > 2
    torch.testing.assert_close(first, expected, rtol=0, atol=1e-9)
    assert torch.equal(first, again)
    changes = {step: sum(noted) / len(noted) for step, noted in kinds.changes.items() if step < 10}
    assert {step.index: step.change for step in report.steps if step.change is not None} == pytest.approx(changes)
    assert "change" in str(report).splitlines()[0]


def test_a_threshold_that_nothing_exceeds_changes_nothing(strong_pipeline: Any, generate: Callable[..., Any]) -> None:
    config = RettentionConfig(density=0.2, dense_steps=2, refresh_interval=3)
    runs = []
    for threshold in (None, 1e9):
        strong_pipeline.enable_acceleration(attention=replace(config, refresh_threshold=threshold))
        runs.append((generate(strong_pipeline), [step.kind for step in strong_pipeline.acceleration_report().steps]))
    assert torch.equal(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]


def test_fitted_without_an_earlier_refresh_starts_as_the_residual(
    strong_pipeline: Any, generate: Callable[..., Any]
) -> None:
    runs = []
    for correction in ("fitted", "residual"):
        config = RettentionConfig(density=0.2, dense_steps=0, refresh_interval=8, correction=correction)
        strong_pipeline.enable_acceleration(attention=config)
        runs.append(generate(strong_pipeline))
    torch.testing.assert_close(*runs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_layers_that_work_in_place_do_not_touch_cached_tensors(
    correction: str, make_pipeline: Callable[..., Any], generate: Callable[..., Any]
) -> None:
    runs = []
    for negate in (torch.neg, torch.neg_):
        pipeline = make_pipeline()
        config = RettentionConfig(density=0.2, dense_steps=1, refresh_interval=4, correction=correction)
        pipeline.enable_acceleration(attention=config)
        for block in pipeline.transformer.transformer_blocks:
            block.attn1.to_out[0].register_forward_pre_hook(lambda _, inputs, negate=negate: (negate(inputs[0]),))
        runs.append(generate(pipeline))
    assert torch.equal(*runs)


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_refresh_steps_equal_dense_attention(correction: str, any_pipeline: Any, generate: Callable[..., Any]) -> None:
    plain = generate(any_pipeline)
    any_pipeline.enable_acceleration(
        attention=RettentionConfig(density=0.1, dense_steps=0, refresh_interval=1, correction=correction)
    )
    assert (generate(any_pipeline) - plain).abs().max() < 1e-4
    assert any_pipeline.acceleration_report().count("refresh") == 7  # of 8; the last one is plainly dense


def test_dense_steps_are_bit_equal_to_stock(any_pipeline: Any, generate: Callable[..., Any]) -> None:
    plain = generate(any_pipeline)
    any_pipeline.enable_acceleration(attention=RettentionConfig(dense_steps=8))
    assert torch.equal(generate(any_pipeline), plain)
    assert any_pipeline.acceleration_report().density == 1


@pytest.mark.parametrize(
    "stays_dense",
    [{"min_tokens": 65}, {"dense_blocks": (0, 1)}, {"start_percent": 1.0}, {"end_percent": 0.0}],
    ids=lambda settings: next(iter(settings)),
)
def test_what_the_config_keeps_dense_is_bit_equal_to_stock(
    stays_dense: dict[str, Any], pipeline: Any, generate: Callable[..., Any]
) -> None:
    plain = generate(pipeline)
    pipeline.enable_acceleration(attention=RettentionConfig(dense_steps=0, refresh_interval=4, **stays_dense))
    assert torch.equal(generate(pipeline), plain)
    report = pipeline.acceleration_report()
    assert report.density == 1
    assert not report.fallbacks


def test_a_dense_block_leaves_the_others_sparse(pipeline: Any, generate: Callable[..., Any]) -> None:
    config = RettentionConfig(density=0.2, dense_steps=0, refresh_interval=8, correction="reuse", dense_blocks=(1,))
    pipeline.enable_acceleration(attention=config)
    generate(pipeline)
    assert [step.density for step in pipeline.acceleration_report().steps] == [1] + 7 * [0.5]


@pytest.mark.parametrize("correction", ["reshape", "fitted", "residual", "reuse"])
def test_packed_state_costs_little_quality_and_saves_memory(
    correction: str, pipeline: Any, generate: Callable[..., Any]
) -> None:
    runs, sizes = {}, {}
    for bits in (16, 8, 4):
        config = RettentionConfig(
            density=0.2, dense_steps=2, refresh_interval=3, correction=correction, state_bits=bits
        )
        pipeline.enable_acceleration(attention=config)
        runs[bits] = generate(pipeline)
        sizes[bits] = pipeline.acceleration_report().state_bytes
    pipeline.disable_acceleration()
    whole = (runs[16] - generate(pipeline)).norm()
    assert 0 < (runs[8] - runs[16]).norm() < 0.2 * whole
    assert (runs[8] - runs[16]).norm() < (runs[4] - runs[16]).norm() < whole
    assert sizes[4] < sizes[8] < sizes[16]


def test_heads_that_do_not_pack_into_four_bits_take_eight(pipeline: Any) -> None:
    hook = rettention.RettentionHook(Run(pipeline), PIXART, RettentionConfig(state_bits=4))
    layer = SimpleNamespace(name="attn1")
    with pytest.warns(hasten.AccelerationWarning, match="its 9 channels cannot be packed in 4 bits"):
        assert hook._state_bits(layer, SimpleNamespace(query=torch.ones(1, 1, 1, 9))) == 8
    assert hook._state_bits(layer, SimpleNamespace(query=torch.ones(1, 1, 1, 10))) == 4


@pytest.mark.parametrize(
    ("correction", "steps", "kernels"),
    [("reshape", 2, ("cpu",)), ("reuse", 8, ()), ("none", 1, ()), ("none", 2, ("cpu",))],
    ids=str,
)
def test_the_report_names_the_kernels_that_ran(
    correction: str, steps: int, kernels: tuple[str, ...], pipeline: Any, generate: Callable[..., Any]
) -> None:
    config = RettentionConfig(density=0.2, dense_steps=0, refresh_interval=8, correction=correction)
    pipeline.enable_acceleration(attention=config)
    generate(pipeline, num_inference_steps=steps)
    assert pipeline.acceleration_report().kernels == kernels


def test_plain_torch_calls_in_place_of_kernels_are_told(
    pipeline: Any, generate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rettention, "implementation", lambda *inputs: "portable")
    monkeypatch.setattr(rettention, "why_portable", lambda *inputs: "triton is not installed")
    config = RettentionConfig(density=0.2, dense_steps=2, refresh_interval=6, dense_blocks=(1,))
    pipeline.enable_acceleration(attention=config)
    with pytest.warns(hasten.AccelerationWarning, match="triton is not installed, so its windows .* plain torch calls"):
        generate(pipeline)
    report = pipeline.acceleration_report()
    assert report.kernels == ("portable",)
    assert [(fallback.where, fallback.count) for fallback in report.fallbacks] == [("transformer_blocks.0.attn1", 6)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_layer_whose_sparse_output_is_not_finite_goes_dense(
    value: float, pipeline: Any, generate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RettentionConfig(density=0.2, dense_steps=1, refresh_interval=8)
    pipeline.enable_acceleration(attention=replace(config, dense_blocks=(0,)))
    expected = generate(pipeline)
    stock, calls = rettention.reshaped_attention, []

    def broken(*arguments: Any, **keywords: Any) -> Any:
        calls.append(None)
        output = stock(*arguments, **keywords)
        return torch.full_like(output, value) if len(calls) == 1 else output

    monkeypatch.setattr(rettention, "reshaped_attention", broken)
    pipeline.enable_acceleration(attention=config)
    with pytest.warns(hasten.AccelerationWarning, match="was not finite"):
        actual = generate(pipeline)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-3 * expected.abs().max().item())
    (fallback,) = pipeline.acceleration_report().fallbacks
    assert (fallback.where, fallback.count) == ("transformer_blocks.0.attn1", 1)
    monkeypatch.undo()
    densities = [step.density for step in pipeline.acceleration_report().steps if step.kind == "sparse"]
    generate(pipeline)
    assert not pipeline.acceleration_report().fallbacks
    again = [step.density for step in pipeline.acceleration_report().steps if step.kind == "sparse"]
    assert all(dense > sparse for dense, sparse in zip(densities, again, strict=True))


def test_many_layers_that_are_not_finite_cost_two_calls(
    pipeline: Any, generate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = pipeline.transformer.transformer_blocks
    for index in (2, 3):
        blocks.append(copy.deepcopy(blocks[0]))
        assert len(blocks) == index + 1
    plain = generate(pipeline)
    stock = rettention.reshaped_attention
    monkeypatch.setattr(rettention, "reshaped_attention", lambda *a, **k: torch.full_like(stock(*a, **k), torch.nan))
    pipeline.enable_acceleration(attention=RettentionConfig(density=0.2, dense_steps=1, refresh_interval=7))
    calls = []
    blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    with pytest.warns(hasten.AccelerationWarning, match="was not finite"):
        actual = generate(pipeline)
    torch.testing.assert_close(actual, plain, rtol=0, atol=1e-3 * plain.abs().max().item())
    assert len(calls) == 8 + 2
    names = [f"transformer_blocks.{index}.attn1" for index in range(4)]
    assert [(one.where, one.count) for one in pipeline.acceleration_report().fallbacks] == [(name, 1) for name in names]


def test_no_layer_is_blamed_for_an_input_that_is_not_finite(pipeline: Any, generate: Callable[..., Any]) -> None:
    pipeline.enable_acceleration(attention=RettentionConfig(density=0.2, dense_steps=1, refresh_interval=7))
    calls = []
    pipeline.transformer.transformer_blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    latents = torch.randn(1, 4, 16, 16).index_fill(3, torch.tensor([5]), torch.nan)
    with pytest.warns(hasten.AccelerationWarning, match="its input is not finite"):
        generate(pipeline, latents=latents)
    assert len(calls) == 8
    (fallback,) = pipeline.acceleration_report().fallbacks
    assert (fallback.where, fallback.count) == ("denoiser", 6)


def test_bfloat16_stays_close_to_float32(pipeline: Any, generate: Callable[..., Any]) -> None:
    config = RettentionConfig(density=0.2, dense_steps=1, refresh_interval=3, correction="fitted")
    pipeline.enable_acceleration(attention=config)
    # the same noise for both: what torch draws depends on the dtype
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    exact = generate(pipeline, latents=noise)
    half = generate(pipeline.to(torch.bfloat16), latents=noise.bfloat16())
    assert half.dtype == torch.bfloat16
    assert (half - exact).abs().max() < 0.05 * exact.abs().max()


def test_a_compiled_model_is_accelerated_too(pipeline: Any, generate: Callable[..., Any]) -> None:
    config = RettentionConfig(density=0.2, dense_steps=1, refresh_interval=4, correction="fitted")
    pipeline.enable_acceleration(attention=config)
    expected = generate(pipeline)
    pipeline.disable_acceleration()
    torch._dynamo.reset()
    pipeline.transformer = torch.compile(pipeline.transformer, backend="eager")
    pipeline.enable_acceleration(attention=config)
    torch.testing.assert_close(generate(pipeline), expected, rtol=1e-4, atol=1e-4)
    assert pipeline.acceleration_report().count("sparse") == 5
    assert not pipeline.acceleration_report().fallbacks


def test_autocast_does_not_reach_into_the_kernels(
    pipeline: Any, generate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def spy(kernel: Callable[..., Any]) -> Callable[..., Any]:
        def run(query: torch.Tensor, *arguments: Any, **keywords: Any) -> Any:
            seen.append((kernel.__name__, query.dtype, torch.is_autocast_enabled("cpu")))
            return kernel(query, *arguments, **keywords)

        return run

    for kernel in (rettention.refresh_attention, rettention.reshaped_attention):
        monkeypatch.setattr(rettention, kernel.__name__, spy(kernel))
    pipeline.enable_acceleration(attention=RettentionConfig(density=0.2, dense_steps=0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        generate(pipeline)
    assert set(seen) == {
        ("refresh_attention", torch.bfloat16, False),
        ("reshaped_attention", torch.bfloat16, False),
    }

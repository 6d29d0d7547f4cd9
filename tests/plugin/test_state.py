"""State never leaks: each call is as if it were the first, and what changes within a call is told."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler
from diffusers.hooks.hooks import CacheContext, _set_cache_context
from diffusers.models.attention_processor import AttnProcessor2_0

import hasten

Generate = Callable[..., torch.Tensor]
MakePipeline = Callable[..., Any]

ATTENTION = hasten.RettentionConfig(density=0.2, dense_steps=1, refresh_interval=4, correction="fitted")


@pytest.fixture
def make_accelerated(make_pipeline: MakePipeline) -> MakePipeline:
    def make() -> Any:
        pipeline = make_pipeline()
        pipeline.enable_acceleration(attention=ATTENTION)
        return pipeline

    return make


CALLS: dict[str, dict[str, Any]] = {
    "the same again": {},
    "another prompt": {"prompt": "a blue cat"},
    "another seed": {"seed": 1},
    "two prompts": {"prompt": ["a red circle", "a blue cat"]},
    "two pictures a prompt": {"num_images_per_prompt": 2},
    "without guidance": {"guidance_scale": 1.0},
    "another size": {"height": 48, "width": 16},
    "more steps": {"num_inference_steps": 11},
    "fewer steps": {"num_inference_steps": 3},
    "own timesteps": {"timesteps": [900, 700, 500, 300, 100]},
    "a callback": {"callback": lambda step, timestep, latents: None},
}


@pytest.mark.parametrize("second_call", CALLS.values(), ids=CALLS)
def test_a_second_call_equals_a_first_one(
    second_call: dict[str, Any], make_accelerated: MakePipeline, generate: Generate
) -> None:
    pipeline = make_accelerated()
    first = generate(pipeline)
    second = generate(pipeline, **second_call)
    assert torch.equal(second, generate(make_accelerated(), **second_call))
    assert torch.equal(generate(pipeline), first)


def test_rows_of_a_batch_do_not_mix(make_accelerated: MakePipeline, generate: Generate) -> None:
    noise = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    pipeline = make_accelerated()
    prompts = ["a red circle", "a blue cat"]
    together = generate(pipeline, prompts, latents=noise)
    alone = [generate(pipeline, prompts[row], latents=noise[row : row + 1]) for row in (0, 1)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4 * together.abs().max().item())


def test_cached_tensors_are_freed_at_the_end_of_a_call(make_accelerated: MakePipeline, generate: Generate) -> None:
    pipeline = make_accelerated()
    held = []
    hook = pipeline.transformer._diffusers_hook.hooks["hasten_rettention"]
    generate(pipeline, callback=lambda *_: held.append(len(hook.state.layers)))
    assert held == 8 * [2]
    assert not hook.state.layers
    assert pipeline.acceleration_report().state_bytes > 0


def test_cached_tensors_are_freed_by_disabling_after_an_interrupt(
    make_accelerated: MakePipeline, generate: Generate
) -> None:
    pipeline = make_accelerated()
    hook = pipeline.transformer._diffusers_hook.hooks["hasten_rettention"]

    def interrupt(step: int, *_: Any) -> None:
        if step == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        generate(pipeline, callback=interrupt)
    assert hook.state.layers
    pipeline.disable_acceleration()
    assert not hook.state.layers


@pytest.mark.parametrize("scheduler", [DDIMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler])
def test_a_scheduler_that_is_exchanged_after_enabling(
    scheduler: type, make_pipeline: MakePipeline, make_accelerated: MakePipeline, generate: Generate
) -> None:
    pipeline = make_accelerated()
    generate(pipeline)
    original = pipeline.scheduler
    pipeline.scheduler = scheduler.from_config(original.config)
    exchanged = [generate(pipeline), generate(pipeline, num_inference_steps=6), generate(pipeline)]
    assert len(pipeline.acceleration_report().steps) == len(pipeline.scheduler.timesteps)
    assert not pipeline.acceleration_report().fallbacks
    reference = make_pipeline()
    reference.scheduler = scheduler.from_config(original.config)
    reference.enable_acceleration(attention=ATTENTION)
    assert torch.equal(exchanged[0], generate(reference))
    assert torch.equal(exchanged[0], exchanged[2])
    assert "set_timesteps" not in vars(original)
    pipeline.disable_acceleration()
    assert "set_timesteps" not in vars(pipeline.scheduler)


def test_an_exchanged_scheduler_with_too_few_steps_is_refused(
    make_accelerated: MakePipeline, generate: Generate
) -> None:
    pipeline = make_accelerated()
    pipeline.enable_acceleration(attention=hasten.RettentionConfig(dense_steps=5))
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    for _ in range(2):
        with pytest.raises(hasten.AccelerationError, match="dense_steps=5 are more than the 4 steps"):
            generate(pipeline, num_inference_steps=4)


@pytest.fixture
def denoise(pipeline: Any) -> Callable[..., Any]:
    """Calls the denoiser of an accelerated pipeline by hand, as a pipeline would."""
    pipeline.enable_acceleration(
        attention=hasten.RettentionConfig(density=0.2, dense_steps=1, refresh_interval=3, correction="reuse")
    )
    pipeline.scheduler.set_timesteps(6)

    def call(rows: int = 1, context: str | None = None, dtype: torch.dtype = torch.float32, **arguments: Any) -> Any:
        if context:
            _set_cache_context(pipeline.transformer, CacheContext(context))
        generator = torch.Generator().manual_seed(rows)
        with torch.no_grad():
            return pipeline.transformer.to(dtype)(
                torch.randn(rows, 4, 16, 16, generator=generator).to(dtype),
                encoder_hidden_states=torch.randn(rows, 5, 32, generator=generator).to(dtype),
                timestep=torch.full((rows,), 500),
                added_cond_kwargs={"resolution": None, "aspect_ratio": None},
                return_dict=False,
                **arguments,
            )[0]

    return call


def kinds(pipeline: Any) -> str:
    return "".join(step.kind[0] for step in pipeline.acceleration_report().steps)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [({"rows": 2}, r"shape from \(1, 4, 16, 16\) to \(2, 4, 16, 16\)"), ({"dtype": torch.float64}, "dtype from .*64")],
    ids=["batch", "dtype"],
)
def test_an_input_that_changes_within_a_run_is_computed_densely(
    changed: dict[str, Any], reason: str, pipeline: Any, denoise: Callable[..., Any]
) -> None:
    for arguments in ({}, {}, {}):
        denoise(**arguments)
    with pytest.warns(hasten.AccelerationWarning, match=reason):
        changed_output = denoise(**changed)
    denoise(**changed)
    assert kinds(pipeline) == "drsrr"
    (fallback,) = pipeline.acceleration_report().fallbacks
    assert (fallback.where, fallback.count) == ("denoiser", 1)
    pipeline.disable_acceleration()
    torch.testing.assert_close(changed_output, denoise(**changed))


def test_contexts_count_their_own_steps_and_keep_their_own_state(pipeline: Any, denoise: Callable[..., Any]) -> None:
    outputs = [(denoise(context="cond", rows=1), denoise(context="uncond", rows=2)) for _ in range(3)]
    assert kinds(pipeline) == "drs"
    report = pipeline.acceleration_report()
    assert [step.density for step in report.steps] == [1, 1, 0]
    assert not report.fallbacks
    for refreshed, reused in zip(outputs[1], outputs[2], strict=True):
        torch.testing.assert_close(refreshed, reused)
    tokens, channels, rows, layers, itemsize = 64, 24, 3, 2, 4
    assert report.state_bytes == tokens * channels * rows * layers * itemsize


def test_calls_beyond_the_schedule_are_dense_and_told(pipeline: Any, denoise: Callable[..., Any]) -> None:
    for _ in range(6):
        denoise()
    with pytest.warns(hasten.AccelerationWarning, match="more often than the scheduler's 6 steps"):
        denoise()
    assert kinds(pipeline) == "drssrsd"


def test_a_masked_self_attention_is_dense_and_told_once(pipeline: Any, denoise: Callable[..., Any]) -> None:
    mask = torch.ones(1, 64).index_fill(1, torch.arange(8), 0.0)
    with pytest.warns(hasten.AccelerationWarning) as warned:
        outputs = [denoise(attention_mask=mask) for _ in range(3)]
    assert len(warned) == 1
    report = pipeline.acceleration_report()
    assert report.density == 1
    assert {(fallback.where, fallback.count) for fallback in report.fallbacks} == {
        ("transformer_blocks.0.attn1", 3),
        ("transformer_blocks.1.attn1", 3),
    }
    pipeline.disable_acceleration()
    for output in outputs:
        assert torch.equal(output, denoise(attention_mask=mask))


def test_a_replaced_processor_is_told(pipeline: Any, generate: Generate) -> None:
    pipeline.enable_acceleration(attention=ATTENTION)
    pipeline.transformer.transformer_blocks[1].attn1.processor = AttnProcessor2_0()
    with pytest.warns(hasten.AccelerationWarning, match="its processor was replaced"):
        generate(pipeline)
    (fallback,) = pipeline.acceleration_report().fallbacks
    assert (fallback.where, fallback.count) == ("transformer_blocks.1.attn1", 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error", hasten.AccelerationWarning)
        generate(pipeline)  # told once, recorded again
    assert pipeline.acceleration_report().fallbacks == (fallback,)

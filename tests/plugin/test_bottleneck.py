"""Every family through its stock pipeline in stages of different resolution."""

import copy
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from bottleneck_oracle import THREE_STAGES, compare_to_stock_stages
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMapEulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxImg2ImgPipeline,
    HeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from tiny_autoencoders import build_with_autoencoder
from tiny_parts import PROMPTS
from tiny_pipeline import TinyPipeline, generate
from tiny_pipelines import TINY_PIPELINES

import hasten
from hasten import BottleneckConfig, BottleneckStage, RettentionConfig
from hasten.families import family_of

CONFIG = BottleneckConfig(THREE_STAGES, interpolation="area")
KINDS = {tiny.name: tiny for tiny in TINY_PIPELINES}
PIXART = KINDS["pixart-sigma"]

every_pipeline = pytest.mark.parametrize("tiny", TINY_PIPELINES, ids=lambda tiny: tiny.name)
_ALONE = ("sd3-skip-layers",)  # its guidance depends on the index of the step
from_text = pytest.mark.parametrize(
    "tiny",
    [tiny for tiny in TINY_PIPELINES if not tiny.first_frames and tiny.name not in _ALONE],
    ids=lambda tiny: tiny.name,
)


@pytest.fixture(scope="session")
def _made() -> dict[str, Any]:
    return {}


@pytest.fixture
def build(_made: dict[str, Any]) -> Callable[[TinyPipeline], Any]:
    def make(tiny: TinyPipeline) -> Any:
        if tiny.name not in _made:
            _made[tiny.name] = tiny.build()
        return copy.deepcopy(_made[tiny.name])

    return make


def traces(pipeline: Any) -> list[Any]:
    """What acceleration could leave behind."""
    denoisers = family_of(pipeline).denoisers_of(pipeline)
    return [pipeline.scheduler, dict(pipeline.config), sorted(vars(pipeline)), *(sorted(vars(d)) for d in denoisers)]


@every_pipeline
def test_one_stage_is_the_plain_pipeline_and_disabling_leaves_no_trace(
    tiny: TinyPipeline, build: Callable[[TinyPipeline], Any]
) -> None:
    pipeline = build(tiny)
    stock, before = generate(tiny, pipeline, batch=2), traces(pipeline)
    state = {name: copy.copy(value) for name, value in vars(pipeline.scheduler).items()}
    pipeline.enable_acceleration(sampling=BottleneckConfig())
    assert torch.equal(generate(tiny, pipeline, batch=2), stock)
    pipeline.enable_acceleration(sampling=CONFIG)
    first = generate(tiny, pipeline, batch=2)
    assert first.shape == stock.shape
    assert first.isfinite().all()
    assert not torch.equal(first, stock)
    assert torch.equal(generate(tiny, pipeline, batch=2), first)
    steps = pipeline.acceleration_report().steps
    assert [step.index for step in steps] == list(range(7))
    pipeline.disable_acceleration()
    assert traces(pipeline) == before
    assert vars(pipeline.scheduler).keys() == state.keys()
    assert torch.equal(generate(tiny, pipeline, batch=2), stock)


@from_text
def test_a_call_equals_stock_calls_at_the_sizes_of_the_stages(
    tiny: TinyPipeline, build: Callable[[TinyPipeline], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = build(tiny)
    if isinstance(pipeline.scheduler, DDPMScheduler):  # its noise is that of the full picture
        object.__setattr__(pipeline, "scheduler", DDIMScheduler(prediction_type="v_prediction", clip_sample=False))
    if isinstance(pipeline.scheduler, CogVideoXDPMScheduler):
        object.__setattr__(pipeline, "scheduler", CogVideoXDDIMScheduler(prediction_type="v_prediction"))
    compare_to_stock_stages(tiny, pipeline, CONFIG, monkeypatch)


SCHEDULERS = {
    "flow-euler": FlowMatchEulerDiscreteScheduler(shift=3.0),
    "flow-map": FlowMapEulerDiscreteScheduler(shift=3.0),
    "flow-unipc": UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
    "flow-dpm": DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
}
DIFFUSION = {
    "dpm": DPMSolverMultistepScheduler(),
    "dpm-v": DPMSolverMultistepScheduler(prediction_type="v_prediction", use_karras_sigmas=True),
    "unipc": UniPCMultistepScheduler(),
    "ddim": DDIMScheduler(clip_sample=False),
    "ddim-v": DDIMScheduler(clip_sample=False, prediction_type="v_prediction", timestep_spacing="trailing"),
    "euler": EulerDiscreteScheduler(),
    "euler-v": EulerDiscreteScheduler(prediction_type="v_prediction", timestep_spacing="leading"),
}
STOCHASTIC = {
    "ddpm": DDPMScheduler(clip_sample=False),
    "sde": DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"),
}


def with_scheduler(build: Callable[[TinyPipeline], Any], name: str) -> tuple[TinyPipeline, Any]:
    tiny = KINDS["wan"] if name in SCHEDULERS else PIXART
    pipeline = build(tiny)
    scheduler = {**SCHEDULERS, **DIFFUSION, **STOCHASTIC}[name]
    object.__setattr__(pipeline, "scheduler", copy.deepcopy(scheduler))
    return tiny, pipeline


@pytest.mark.parametrize("name", [*SCHEDULERS, *DIFFUSION])
def test_every_deterministic_scheduler_equals_stock_calls(
    name: str, build: Callable[[TinyPipeline], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    compare_to_stock_stages(*with_scheduler(build, name), CONFIG, monkeypatch)


@pytest.mark.parametrize("name", [*SCHEDULERS, *DIFFUSION, *STOCHASTIC])
def test_every_scheduler_runs_one_stage_as_stock_and_several_twice_the_same(
    name: str, build: Callable[[TinyPipeline], Any]
) -> None:
    tiny, pipeline = with_scheduler(build, name)
    stock = generate(tiny, pipeline)
    pipeline.enable_acceleration(sampling=BottleneckConfig())
    assert torch.equal(generate(tiny, pipeline), stock)
    pipeline.enable_acceleration(sampling=CONFIG)
    first = generate(tiny, pipeline)
    assert first.isfinite().all()
    assert torch.equal(generate(tiny, pipeline), first)
    assert not torch.equal(generate(tiny, pipeline, seed=1), first)


@pytest.mark.parametrize("name", ["flux", "wan", "pixart-sigma", "z-image", "cogvideox-5b"])
def test_with_sparse_attention_the_state_is_rebuilt_at_each_stage(
    name: str, build: Callable[[TinyPipeline], Any]
) -> None:
    tiny = KINDS[name]
    pipeline = build(tiny)
    attention = RettentionConfig(density=0.3, dense_steps=1, refresh_interval=9)
    explained = hasten.explain(
        pipeline,
        attention=attention,
        sampling=CONFIG,
        height=tiny.sizes[0][0],
        width=tiny.sizes[0][1],
        num_frames=tiny.num_frames,
        num_inference_steps=6,
    )
    pipeline.enable_acceleration(attention=attention, sampling=CONFIG)
    generate(tiny, pipeline)
    report = pipeline.acceleration_report()
    assert report.fallbacks == ()
    kinds = tuple(step.kind for step in report.steps)
    assert kinds == ("dense", "refresh", "refresh", "sparse", "sparse", "refresh", "sparse")
    assert explained.steps == kinds
    if tiny.family in ("pixart", "wan"):  # no text in self-attention
        assert explained.density == pytest.approx(report.density)


def test_what_is_explained_is_what_the_paper_has(build: Callable[[TinyPipeline], Any]) -> None:
    config = BottleneckConfig.preset("flux-published")
    explained = hasten.explain(build(KINDS["flux"]), sampling=config, height=128, width=128, num_inference_steps=50)
    assert [stage.steps for stage in explained.stages] == [6, 20, 8]
    assert [stage.tokens for stage in explained.stages] == [64, 16, 64]
    assert [stage.size for stage in explained.stages] == [(128, 128), (64, 64), (128, 128)]
    assert explained.stages[0].sigmas == pytest.approx([1, 0.978, 0.947, 0.900, 0.818, 0.643], abs=5e-4)
    assert [stage.sigmas[0] for stage in explained.stages] == pytest.approx([1, 0.960, 0.931], abs=5e-4)
    low = explained.stages[1].cost
    assert explained.expected_saving == pytest.approx(1 - (14 + 20 * low) / 50)
    assert "stage 2: 20 steps at 64 × 64 pixels, 16 tokens" in str(explained)


def test_a_row_of_a_batch_is_what_it_is_alone(build: Callable[[TinyPipeline], Any]) -> None:
    pipeline = build(PIXART)
    pipeline.enable_acceleration(sampling=CONFIG)
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(5))
    both = generate(PIXART, pipeline, batch=2, latents=latents)
    alone = generate(PIXART, pipeline, latents=latents[:1])
    torch.testing.assert_close(both[:1], alone, atol=1e-3, rtol=1e-3)


def test_the_global_random_state_is_left_alone(build: Callable[[TinyPipeline], Any]) -> None:
    pipeline = build(PIXART)
    pipeline.enable_acceleration(sampling=CONFIG)
    before = torch.get_rng_state()
    generate(PIXART, pipeline)
    assert torch.equal(torch.get_rng_state(), before)


def test_after_an_error_the_pipeline_is_as_it_was(build: Callable[[TinyPipeline], Any]) -> None:
    pipeline = build(PIXART)
    stock, before = generate(PIXART, pipeline), traces(pipeline)
    too_large = (BottleneckStage(steps=2, height=512, width=512), BottleneckStage(steps=2))
    with (
        pytest.raises(
            hasten.AccelerationError, match=r"larger than the picture of 8 × 8; give the stage a smaller size"
        ),
        hasten.accelerate(pipeline, sampling=BottleneckConfig(too_large)),
    ):
        generate(PIXART, pipeline)
    assert traces(pipeline) == before
    assert torch.equal(generate(PIXART, pipeline), stock)


def test_another_scheduler_of_the_user_stays(build: Callable[[TinyPipeline], Any]) -> None:
    pipeline = build(PIXART)
    pipeline.enable_acceleration(sampling=CONFIG)
    pipeline.scheduler = DDIMScheduler(clip_sample=False)
    with pytest.warns(hasten.AccelerationWarning, match="it was exchanged, so every step is at full resolution"):
        generate(PIXART, pipeline)
    pipeline.disable_acceleration()
    assert type(pipeline.scheduler) is DDIMScheduler


def test_the_pipeline_is_saved_with_its_own_scheduler(build: Callable[[TinyPipeline], Any]) -> None:
    pipeline = build(PIXART)
    config = dict(pipeline.config)
    pipeline.enable_acceleration(sampling=CONFIG)
    assert dict(pipeline.config) == config
    assert isinstance(pipeline.scheduler, DPMSolverMultistepScheduler)
    assert type(pipeline.scheduler).__name__ == "DPMSolverMultistepScheduler"


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "no stages": (lambda: BottleneckConfig(()), "No stage was given; give at least one"),
    "a list": (lambda: BottleneckConfig([BottleneckStage()]), "give a tuple of BottleneckStage"),
    "zero steps": (lambda: BottleneckStage(steps=0), "was given steps=0; give a finite number above 0"),
    "half a step": (lambda: BottleneckStage(steps=2.5), "give a whole number, or a share"),
    "a scale above 1": (lambda: BottleneckStage(scale=1.5), r"was given scale=1.5; give a number in \(0, 1\]"),
    "a scale and a size": (lambda: BottleneckStage(scale=0.5, height=64, width=64), "give one of them"),
    "a height alone": (lambda: BottleneckStage(height=64), "give both, or a scale"),
    "an end above the start": (lambda: BottleneckStage(start=0.5, end=0.6), "give a lower end"),
    "a start below the end before": (
        lambda: BottleneckConfig((BottleneckStage(steps=2, end=0.6), BottleneckStage(steps=2, start=0.5))),
        "give it a start of at least 0.6",
    ),
    "a start with a picture": (
        lambda: BottleneckConfig((BottleneckStage(steps=2, start=0.8), BottleneckStage(steps=2, start=0.5))),
        "The first stage starts at 0.8, but a call begins with pure noise; leave its start at 1",
    ),
    "endless steps": (lambda: BottleneckStage(steps=float("inf")), "was given steps=inf; give a finite number above 0"),
    "an endless shift": (
        lambda: BottleneckStage(shift=float("inf")),
        "was given shift=inf; give a finite number above 0",
    ),
    "no number": (lambda: BottleneckStage(steps=float("nan")), "was given steps=nan; give a finite number above 0"),
    "a small last stage": (lambda: BottleneckConfig((BottleneckStage(scale=0.5),)), "The last stage does not end"),
    "no number of steps": (
        lambda: BottleneckConfig((BottleneckStage(), BottleneckStage(start=0.5))),
        "give each stage its number of steps",
    ),
    "an unknown transition": (lambda: BottleneckConfig(transition="soft"), "give one of 'fresh', 'correlated'"),
    "an unknown preset": (
        lambda: BottleneckConfig.preset("flux-x4"),
        r"those of flux: flux-published, flux-x1\.5, flux-x2, flux-x3\); did you mean 'flux-x",
    ),
    "an unknown speed": (lambda: BottleneckConfig(speed="x4"), "give one of 'custom', 'x1.5', 'x2', 'x3'"),
    "a preset of an unknown speed": (
        lambda: BottleneckConfig.preset("x4"),
        r"give a speed \(x1.5, x2, x3\), or a family \(pixart, .*mochi\) and a speed, such as",
    ),
    "stages and a speed": (
        lambda: BottleneckConfig((BottleneckStage(steps=3), BottleneckStage(steps=2)), speed="x2"),
        "Stages and speed='x2' were given; give one of them",
    ),
    "a preset of no family": (lambda: BottleneckConfig.preset("stable-cascade"), "and a speed, such as pixart-x2"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(hasten.AccelerationError, match=message):
        make()


def test_what_does_not_fit_the_pipeline_is_refused(build: Callable[[TinyPipeline], Any]) -> None:
    pipeline = build(PIXART)
    before = traces(pipeline)

    def refuse(sampling: Any, message: str) -> None:
        with pytest.raises(hasten.AccelerationError, match=message):
            pipeline.enable_acceleration(sampling=sampling)
        assert traces(pipeline) == before

    odd = (BottleneckStage(steps=2, height=60, width=72), BottleneckStage(steps=2))
    refuse(BottleneckConfig(odd), "the nearest size is height=64, width=64")
    refuse(BottleneckConfig.preset("flux-published"), "has no timestep shift; leave shift out")
    refuse("flux-x2", "sampling was given as str; give a BottleneckConfig")
    pipeline.scheduler = HeunDiscreteScheduler()
    before = traces(pipeline)
    refuse(CONFIG, "HeunDiscreteScheduler cannot be run in stages; give the pipeline one of FlowMatchEuler")


def test_a_rounded_scale_is_told(build: Callable[[TinyPipeline], Any]) -> None:
    stages = (BottleneckStage(steps=2, scale=0.4), BottleneckStage(steps=2, scale=0.5), BottleneckStage(steps=1))
    pipeline, config = build(PIXART), BottleneckConfig(stages)
    explained = hasten.explain(pipeline, sampling=config, height=128, width=128)
    assert [stage.notices for stage in explained.stages] == [
        ("its scale 0.4 is rounded to 3 × 3 of 8 × 8 tokens",),
        (),
        (),
    ]
    assert "  note: its scale 0.4 is rounded to 3 × 3 of 8 × 8 tokens" in str(explained)
    pipeline.enable_acceleration(sampling=config)
    with pytest.warns(hasten.AccelerationWarning, match="stage 1: its scale 0.4 is rounded to 3 × 3 of 8 × 8 tokens"):
        generate(PIXART, pipeline)
    with warnings.catch_warnings(category=hasten.AccelerationWarning, action="error"):
        generate(PIXART, pipeline)
    (told,) = pipeline.acceleration_report().fallbacks
    assert (told.where, told.count) == ("stage 1", 1)


def test_a_scale_that_fits_is_not_told_to_be_rounded(build: Callable[[TinyPipeline], Any]) -> None:
    stages = (BottleneckStage(steps=2, scale=0.7), BottleneckStage(steps=1))  # 70 * 0.7 is 48.99999999999999
    size = {"height": 70 * 16, "width": 70 * 16}
    explained = hasten.explain(build(PIXART), sampling=BottleneckConfig(stages), **size)
    assert [stage.notices for stage in explained.stages] == [(), ()]


def test_a_later_stage_that_is_too_large_is_refused_before_the_first_step(
    build: Callable[[TinyPipeline], Any],
) -> None:
    pipeline, calls = build(PIXART), []
    pipeline.transformer.pos_embed.register_forward_pre_hook(lambda *_: calls.append(1))
    stages = (BottleneckStage(steps=2), BottleneckStage(steps=2, height=256, width=128), BottleneckStage(steps=1))
    pipeline.enable_acceleration(sampling=BottleneckConfig(stages))
    with pytest.raises(hasten.AccelerationError, match="A stage of 16 × 8 tokens is larger than the picture of 8 × 8"):
        generate(PIXART, pipeline)
    assert not calls


def test_a_part_of_a_schedule_is_refused(build: Callable[[TinyPipeline], Any]) -> None:
    pipeline = build(KINDS["flux"])
    pipeline.enable_acceleration(sampling=CONFIG)
    with pytest.raises(hasten.AccelerationError, match="leave out strength, denoising_start and denoising_end"):
        pipeline.scheduler.set_begin_index(2)


def test_a_picture_to_begin_with_is_refused(build: Callable[[TinyPipeline], Any]) -> None:
    tiny = KINDS["flux"]
    parts = build_with_autoencoder(tiny).components
    pipeline = FluxImg2ImgPipeline(**{name: part for name, part in parts.items() if name != "image_processor"})
    pipeline.set_progress_bar_config(disable=True)
    pipeline.enable_acceleration(sampling=CONFIG)
    with pytest.raises(hasten.AccelerationError, match="this call runs a part of one; leave out strength"):
        pipeline(image=torch.rand(1, 3, 128, 128), strength=0.5, num_inference_steps=6, **tiny.text(PROMPTS[:1]))


def test_a_picture_that_is_mixed_in_after_each_step_is_refused(build: Callable[[TinyPipeline], Any]) -> None:
    pipeline = build(KINDS["flux"])
    pipeline.enable_acceleration(sampling=CONFIG)
    picture = torch.zeros(1, 64, 16)

    def mix(pipeline: Any, step: int, timestep: torch.Tensor, values: dict[str, Any]) -> dict[str, Any]:
        return {"latents": pipeline.scheduler.scale_noise(picture, timestep[None], values["latents"])}

    with pytest.raises(hasten.AccelerationError, match="mixes another one into it after each step; leave the sampling"):
        generate(KINDS["flux"], pipeline, callback_on_step_end=mix)


def test_no_pipeline_of_a_family_ends_a_schedule_early() -> None:
    """Those that take `denoising_end` are of no family, so that they are refused as a whole."""
    names = [name for family in hasten.families.FAMILIES.values() for name in family.pipelines]
    parameters = [inspect.signature(getattr(diffusers, name).__call__).parameters for name in names]
    assert not any("denoising_end" in accepted for accepted in parameters)


def test_learned_positions_are_refused(build: Callable[[TinyPipeline], Any]) -> None:
    pipeline = build(KINDS["cogvideox-5b"])
    pipeline.transformer.register_to_config(use_learned_positional_embeddings=True)
    with pytest.raises(hasten.AccelerationError, match="learned positions, which belong to one size; leave"):
        pipeline.enable_acceleration(sampling=CONFIG)
    pipeline.enable_acceleration(sampling=BottleneckConfig())


@pytest.mark.parametrize("name", list(hasten.sampling_presets()))
def test_a_preset_costs_what_its_name_says(name: str) -> None:
    config = hasten.sampling_presets()[name]
    assert BottleneckConfig.preset(name) == config
    family, _, speed = name.rpartition("-")
    assert family in {"", *hasten.families.FAMILIES}
    if family and speed.startswith("x"):
        low = {0.5: 0.27, 0.75: 0.36}[config.stages[1].scale]
        shares = [stage.count(1000) / 1000 for stage in config.stages]
        assert 1 / (shares[0] + low * shares[1] + shares[2]) == pytest.approx(float(speed[1:]), rel=0.08)


@pytest.mark.parametrize("name", ["pixart-sigma", "wan"])
def test_a_speed_takes_the_stages_of_the_family(name: str, build: Callable[[TinyPipeline], Any]) -> None:
    pipeline = build(KINDS[name])
    family = family_of(pipeline).name
    named = BottleneckConfig.preset(f"{family}-x2").with_transition("snr_matched")
    assert hasten.explain(pipeline, sampling=BottleneckConfig(speed="x2", transition="snr_matched")).recipe == (
        hasten.Recipe(sampling=named)
    )
    calls = []
    for config in (BottleneckConfig(speed="x2", transition="snr_matched"), named):
        pipeline.enable_acceleration(sampling=config)
        calls.append(generate(KINDS[name], pipeline))
    assert torch.equal(*calls)


def test_every_family_that_works_has_stages_for_every_speed() -> None:
    for family in hasten.families.FAMILIES.values():
        assert set(hasten.sampling_presets(family.name)) >= {f"{family.name}-{speed}" for speed in ("x1.5", "x2", "x3")}


def test_a_preset_does_without_stages_where_there_can_be_none(build: Callable[[TinyPipeline], Any]) -> None:
    tiny = KINDS["cogvideox-5b"]
    pipeline = build(tiny)
    pipeline.transformer.register_to_config(use_learned_positional_embeddings=True)
    with pytest.warns(hasten.AccelerationWarning, match="Bottleneck Sampling is left out here. .* learned positions"):
        pipeline.enable_acceleration("fast")
    for _ in range(2):
        generate(tiny, pipeline)
        (fallback,) = pipeline.acceleration_report().fallbacks
        assert fallback.where == "recipe"
        assert "learned positions" in fallback.reason
    explained = hasten.explain(pipeline, "fast")
    assert not explained.stages
    assert explained.recipe == hasten.Recipe(attention=hasten.presets()["fast"].attention)
    assert "Bottleneck Sampling is left out here" in str(explained)
    with pytest.raises(hasten.AccelerationError, match="learned positions"):
        pipeline.enable_acceleration(sampling=BottleneckConfig(speed="x2"))

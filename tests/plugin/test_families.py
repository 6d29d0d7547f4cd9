"""Every family through its stock pipeline: what Re-ttention computes there, and that it leaves no trace."""

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from attention_oracle import keys_in_box
from family_oracle import TEXT, Oracle, band, oracle_attention
from peft import LoraConfig
from tiny_pipeline import TinyPipeline, generate, sharpen
from tiny_pipelines import TINY_PIPELINES

import hasten
from hasten import RettentionConfig, seam
from hasten.families import FAMILIES, AttentionLayer, Size, TokenGrid, family_of
from hasten.methods.rettention import RettentionHook
from hasten.seam import AttentionCall

STEPS = 6
CONFIG = RettentionConfig(density=0.3, dense_steps=1, refresh_interval=3, ratio_increment=0.3, slope_damping=0.7)
Extent = tuple[int, int, int]
BOXES: dict[Extent, tuple[Extent, Extent]] = {
    (1, 6, 10): ((1, 2, 2), (1, 4, 4)),
    (3, 4, 8): ((3, 1, 2), (3, 3, 3)),
}
"""Tile and window of some 30 % of the tokens, by their grid: frames, rows and columns."""
TILES = RettentionConfig(density=0.3, dense_steps=1, refresh_interval=3, correction="fitted", window="tiles")


@pytest.fixture(scope="session")
def _built() -> dict[str, Any]:
    return {}


@pytest.fixture
def build(_built: dict[str, Any]) -> Callable[[TinyPipeline], Any]:
    """Builds a pipeline whose attention matters; all of one name have the same weights."""

    def make(tiny: TinyPipeline) -> Any:
        if tiny.name not in _built:
            _built[tiny.name] = tiny.build()
            sharpen(_built[tiny.name], tiny.attention)
        return copy.deepcopy(_built[tiny.name])

    return make


every_pipeline = pytest.mark.parametrize("tiny", TINY_PIPELINES, ids=lambda tiny: tiny.name)


def grid_of(tiny: TinyPipeline, size: tuple[int, int]) -> tuple[int, int, int]:
    """Frames, rows and columns, from what the list of tiny pipelines says about their tokens."""
    pixels = 32 if tiny.name == "ltx" else 16
    return 3 if tiny.video else 1, size[0] // pixels, size[1] // pixels


def accelerated(pipeline: Any, config: RettentionConfig) -> Any:
    pipeline.enable_acceleration(attention=config)
    return pipeline


def boxes(grid: Extent, tile: Extent, window: Extent) -> torch.Tensor:
    """Bool matrix over the tokens of a grid, True where a query (row) is in a tile whose window has the key."""
    frames, height, width = grid
    mask = torch.zeros(frames * height * width, frames * height * width, dtype=torch.bool)
    shape = {"frames": frames, "height": height, "width": width, "text_tokens": 0, "text_first": True}
    for query in range(len(mask)):
        mask[query, keys_in_box(query, tile=tile, window=window, **shape)] = True
    return mask


@contextmanager
def count_steps(pipeline: Any, oracle: Oracle) -> Iterator[None]:
    """Tell the oracle when a step is over: when the scheduler makes it."""
    scheduler_class = type(pipeline.scheduler)
    stock = scheduler_class.step

    @functools.wraps(stock)  # pipelines look at the signature
    def step(scheduler: Any, *arguments: Any, **keywords: Any) -> Any:
        oracle.next_step()
        return stock(scheduler, *arguments, **keywords)

    scheduler_class.step = step
    try:
        yield
    finally:
        scheduler_class.step = stock


@every_pipeline
def test_dense_steps_are_bit_equal_to_stock_and_disabling_leaves_no_trace(
    tiny: TinyPipeline, build: Callable[[TinyPipeline], Any]
) -> None:
    pipeline = build(tiny)
    stock = generate(tiny, pipeline, batch=2)
    denoisers = family_of(pipeline).denoisers_of(pipeline)
    before = [{name: dict(vars(module)) for name, module in denoiser.named_modules()} for denoiser in denoisers]
    accelerated(pipeline, RettentionConfig(dense_steps=STEPS))
    assert torch.equal(generate(tiny, pipeline, batch=2), stock)
    accelerated(pipeline, CONFIG)
    assert not torch.equal(generate(tiny, pipeline, batch=2), stock)
    pipeline.disable_acceleration()
    assert torch.equal(generate(tiny, pipeline, batch=2), stock)
    after = [{name: dict(vars(module)) for name, module in denoiser.named_modules()} for denoiser in denoisers]
    for old, new in zip(before, after, strict=True):
        assert old.keys() == new.keys()
        for name in old:
            assert old[name].keys() == new[name].keys()
            assert old[name].get("processor") is new[name].get("processor")
    assert "set_timesteps" not in vars(pipeline.scheduler)


@pytest.mark.parametrize("config", [CONFIG, TILES], ids=["reshape-band", "fitted-tiles"])
@every_pipeline
def test_a_run_equals_the_oracle(
    tiny: TinyPipeline, config: RettentionConfig, build: Callable[[TinyPipeline], Any]
) -> None:
    grid = grid_of(tiny, tiny.sizes[1])
    window = band(grid, config.density) if config.window == "band" else boxes(grid, *BOXES[grid])
    assert_run_equals_oracle(tiny, build(tiny), config, window)


def test_windows_of_fewer_frames_equal_the_oracle(build: Callable[[TinyPipeline], Any]) -> None:
    tiny = next(tiny for tiny in TINY_PIPELINES if tiny.name == "wan")
    window = boxes((3, 4, 8), tile=(1, 2, 4), window=(1, 4, 7))
    assert_run_equals_oracle(tiny, build(tiny), replace(TILES, window_frames=1), window)


def assert_run_equals_oracle(tiny: TinyPipeline, pipeline: Any, config: RettentionConfig, window: torch.Tensor) -> None:
    pipeline = pipeline.to(torch.float64)
    height, width = tiny.sizes[1]
    run = {"batch": 2, "height": height, "width": width}
    plain = generate(tiny, pipeline, **run)
    oracle = Oracle(
        kinds="DRSSRS" if config.correction == "reshape" else "RRSSRS",
        text=TEXT[tiny.family],
        window=window,
        correction=config.correction,
        ratio_increment=config.ratio_increment,
        slope_damping=config.slope_damping,
    )
    with oracle_attention(pipeline, tiny.attention, oracle), count_steps(pipeline, oracle):
        expected = generate(tiny, pipeline, **run)
    assert oracle.sparse_calls
    actual = generate(tiny, accelerated(pipeline, config), **run)
    report = pipeline.acceleration_report()
    assert not report.fallbacks
    assert len(report.steps) == STEPS
    change = (expected - plain).abs().max()
    assert change > 1e-4
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6 * max(1, change.item()))


@every_pipeline
def test_refreshes_equal_dense_attention(tiny: TinyPipeline, build: Callable[[TinyPipeline], Any]) -> None:
    pipeline = build(tiny)
    stock = generate(tiny, pipeline, batch=2)
    config = RettentionConfig(density=0.2, dense_steps=0, refresh_interval=1)
    torch.testing.assert_close(generate(tiny, accelerated(pipeline, config), batch=2), stock, rtol=0, atol=1e-3)
    assert pipeline.acceleration_report().count("refresh") == STEPS - 1


@every_pipeline
def test_calls_do_not_know_of_each_other(tiny: TinyPipeline, build: Callable[[TinyPipeline], Any]) -> None:
    pipeline = accelerated(build(tiny), CONFIG)
    height, width = tiny.sizes[1]
    calls: tuple[dict[str, Any], ...] = (
        {"batch": 1},
        {"batch": 2},
        {"batch": 2, "guidance": False},
        {"batch": 1, "height": height, "width": width, "seed": 1},
    )
    for call in calls:
        again = generate(tiny, pipeline, **call)
        assert torch.equal(again, generate(tiny, accelerated(build(tiny), CONFIG), **call))
        assert not pipeline.acceleration_report().fallbacks


@every_pipeline
def test_every_layer_is_sparse_and_the_explanation_knows_its_tokens(
    tiny: TinyPipeline, build: Callable[[TinyPipeline], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = build(tiny)
    family = family_of(pipeline)
    assert family is FAMILIES[tiny.family]
    grid = TokenGrid(*grid_of(tiny, tiny.sizes[0])[1:], grid_of(tiny, tiny.sizes[0])[0])
    height, width = tiny.sizes[0]
    assert family.pixel_grid(pipeline, Size(height, width, tiny.num_frames)) == grid
    with tokens_seen(monkeypatch) as tokens:
        generate(tiny, accelerated(pipeline, CONFIG))
    text = max(tokens.values()) - grid.tokens  # the default, which explain takes, is for real text encoders
    monkeypatch.setitem(FAMILIES, tiny.family, replace(family, text_tokens=lambda pipeline: text))
    told = hasten.explain(
        pipeline,
        attention=CONFIG,
        height=height,
        width=width,
        num_frames=tiny.num_frames,
        num_inference_steps=STEPS,
    )
    report = pipeline.acceleration_report()
    assert {layer.name: layer.tokens for layer in told.layers} == tokens
    assert [step.kind for step in report.steps if step.kind != "refresh"] == [
        kind for kind, step in zip(told.steps, report.steps, strict=True) if step.kind != "refresh"
    ]
    assert all(step.density < 1 for step in report.steps if step.kind == "sparse")
    if tiny.name == "sd3":
        assert told.density == pytest.approx(report.density)


@contextmanager
def tokens_seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """The most tokens that each accelerated layer meets in the meantime, by its name."""
    tokens: dict[str, int] = {}
    stock = RettentionHook.attend

    def attend(self: RettentionHook, layer: AttentionLayer, call: AttentionCall) -> torch.Tensor:
        tokens[layer.name] = max(call.query.shape[2], tokens.get(layer.name, 0))
        return stock(self, layer, call)

    with monkeypatch.context() as patched:
        patched.setattr(RettentionHook, "attend", attend)
        yield tokens


def test_reference_pictures_stay_dense_and_the_report_says_so(build: Callable[[TinyPipeline], Any]) -> None:
    tiny = next(tiny for tiny in TINY_PIPELINES if tiny.name == "flux2")
    pipeline = build(tiny)
    ids, noise = (torch.zeros(1, 2 * 64, 4), torch.randn(1, 2 * 64, 16, generator=torch.Generator().manual_seed(0)))
    ids[:, 64:, 0] = 10  # as Flux2 numbers its reference pictures
    ids[:, :, 1:3] = torch.cartesian_prod(torch.arange(8), torch.arange(8)).repeat(2, 1)
    arguments = tiny.arguments()
    inputs = {
        "hidden_states": noise,
        "encoder_hidden_states": arguments["prompt_embeds"],
        "timestep": torch.tensor([0.5]),
        "img_ids": ids,
        "txt_ids": torch.zeros(1, 8, 4),
        "guidance": torch.tensor([4.0]),
    }
    stock = pipeline.transformer(**inputs).sample
    accelerated(pipeline, RettentionConfig(dense_steps=0))
    pipeline.scheduler.set_timesteps(4, mu=1.0)
    with pytest.warns(hasten.AccelerationWarning, match="other pictures beside the one"):
        outputs = [pipeline.transformer(**inputs).sample for _ in range(2)]
    assert all(torch.equal(output, stock) for output in outputs)
    (fallback,) = pipeline.acceleration_report().fallbacks
    assert fallback.count == 2


def test_attention_that_is_shared_out_among_devices_is_told(
    build: Callable[[TinyPipeline], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = next(tiny for tiny in TINY_PIPELINES if tiny.name == "flux")
    pipeline = accelerated(build(tiny), CONFIG)
    stock = seam.dispatch_attention_fn

    def on_one_device(*arguments: Any, parallel_config: Any = None, **others: Any) -> torch.Tensor:
        return stock(*arguments, **others)

    monkeypatch.setattr(seam, "dispatch_attention_fn", on_one_device)
    for layer in family_of(pipeline).layers(pipeline.transformer)[1:]:
        layer.module.processor._parallel_config = object()  # as enable_parallelism does
    with pytest.warns(hasten.AccelerationWarning, match="shared out among devices"):
        generate(tiny, pipeline, guidance=False)
    names = [layer.name for layer in family_of(pipeline).layers(pipeline.transformer)[1:]]
    assert [(fallback.where, fallback.count) for fallback in pipeline.acceleration_report().fallbacks] == [
        (name, STEPS) for name in names
    ]


def test_contexts_of_two_pass_guidance_refresh_on_change_together(
    build: Callable[[TinyPipeline], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = next(tiny for tiny in TINY_PIPELINES if tiny.name == "flux")
    config = replace(CONFIG, refresh_interval=STEPS, refresh_threshold=0.05)
    kinds: dict[str, str] = {"cond": "", "uncond": ""}
    stock = RettentionHook.plan_call

    def plan_call(self: RettentionHook) -> str:
        kind = stock(self)
        kinds[self.states.context.name] += kind[0]
        return kind

    monkeypatch.setattr(RettentionHook, "plan_call", plan_call)
    pipeline = accelerated(build(tiny), config)
    generate(tiny, pipeline)
    reported = "".join(step.kind[0] for step in pipeline.acceleration_report().steps)
    assert kinds == {"cond": reported, "uncond": reported}
    assert reported.count("r") > 1
    assert "s" in reported


def test_an_expert_that_takes_over_frees_what_the_other_cached(build: Callable[[TinyPipeline], Any]) -> None:
    tiny = next(tiny for tiny in TINY_PIPELINES if tiny.name == "wan-2.2")
    pipeline = accelerated(build(tiny), RettentionConfig(density=0.3, dense_steps=0, refresh_interval=6))
    cached = []

    def count(*_: Any) -> dict[str, Any]:
        hooks = [denoiser._diffusers_hook.hooks for denoiser in (pipeline.transformer, pipeline.transformer_2)]
        states = [hook["hasten_rettention"].states._state_cache.values() for hook in hooks]
        cached.append([sum(len(state.layers) for state in both) for both in states])
        return {}

    generate(tiny, pipeline, callback_on_step_end=count)
    assert cached == 3 * [[4, 0]] + 3 * [[0, 4]]
    kinds = [step.kind for step in pipeline.acceleration_report().steps]
    assert kinds == ["refresh", "sparse", "sparse"] * 2


@pytest.mark.parametrize("how", ["adapter weights", "call scale"])
def test_a_changed_lora_scale_is_noticed(how: str, build: Callable[[TinyPipeline], Any]) -> None:
    tiny = next(tiny for tiny in TINY_PIPELINES if tiny.name == "flux")
    pipeline = build(tiny)
    config = LoraConfig(r=2, target_modules=["to_q"], init_lora_weights="gaussian")
    pipeline.transformer.add_adapter(config, adapter_name="style")
    accelerated(pipeline, RettentionConfig(density=0.3, dense_steps=0, refresh_interval=6))
    scales = {"scale": 1.0}

    def change(_: Any, step: int, *__: Any) -> dict[str, Any]:
        if step == 2:
            scales["scale"] = 0.5
            if how == "adapter weights":
                pipeline.transformer.set_adapters(["style"], weights=[0.5])
        return {}

    call = {"callback_on_step_end": change, "guidance": False}
    if how == "call scale":
        call["joint_attention_kwargs"] = scales
    with pytest.warns(hasten.AccelerationWarning, match="LoRA adapters or their scales changed"):
        generate(tiny, pipeline, **call)
    kinds = [step.kind for step in pipeline.acceleration_report().steps]
    assert kinds == ["refresh", "sparse", "sparse", "refresh", "sparse", "sparse"]
    generate(tiny, pipeline, guidance=False)
    assert not pipeline.acceleration_report().fallbacks

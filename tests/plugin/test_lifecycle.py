"""Enabling and disabling: the pipeline comes back as it was, whatever happened in between."""

import copy
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from diffusers import DiffusionPipeline, PixArtSigmaPipeline, PyramidAttentionBroadcastConfig
from diffusers.hooks import HookRegistry, ModelHook, apply_group_offloading, apply_pyramid_attention_broadcast

import hasten
from hasten.seam import CORES

Generate = Callable[..., torch.Tensor]
SPARSE = hasten.RettentionConfig(density=0.2, dense_steps=1, refresh_interval=4)


def snapshot(pipeline: Any) -> dict[str, Any]:
    """Names of all attributes of pipeline, scheduler and modules, and the identity of processors and forwards."""
    owners = {"pipeline": pipeline, "scheduler": pipeline.scheduler, **dict(pipeline.transformer.named_modules())}
    attributes = {name: set(vars(owner)) for name, owner in owners.items()}
    processors = {name: id(processor) for name, processor in pipeline.transformer.attn_processors.items()}
    forwards = {name: module.forward for name, module in pipeline.transformer.named_modules()}
    return {"attributes": attributes, "processors": processors, "forwards": forwards}


def test_disabling_restores_everything(any_pipeline: Any, generate: Generate) -> None:
    plain = generate(any_pipeline)
    before = snapshot(any_pipeline)
    any_pipeline.enable_acceleration(attention=SPARSE)
    assert snapshot(any_pipeline) != before
    assert not torch.equal(generate(any_pipeline), plain)
    any_pipeline.disable_acceleration()
    assert snapshot(any_pipeline) == before
    assert torch.equal(generate(any_pipeline), plain)


def test_disabling_restores_after_a_call_that_raised(pipeline: Any, generate: Generate) -> None:
    plain = generate(pipeline)
    before = snapshot(pipeline)
    pipeline.enable_acceleration(attention=SPARSE)
    expected = generate(pipeline)

    def interrupt(step: int, timestep: int, latents: torch.Tensor) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(pipeline, callback=interrupt)
    assert torch.equal(generate(pipeline), expected)
    with pytest.raises(KeyboardInterrupt):
        generate(pipeline, callback=interrupt)
    pipeline.disable_acceleration()
    assert snapshot(pipeline) == before
    assert torch.equal(generate(pipeline), plain)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset_or_recipe": "balancd"}, "did you mean 'balanced'"),
        ({"preset_or_recipe": 3}, "A int was given"),
        ({"preset_or_recipe": "missing.json"}, "cannot be read"),
        ({"preset_or_recipe": hasten.Recipe()}, "switches nothing on"),
        ({"attention": {"density": 0.1}}, "give a RettentionConfig"),
        ({"attention": hasten.RettentionConfig(dense_blocks=(2,))}, "names block 2, but this model has 2"),
        ({"sampling": "flux-x2"}, "give a BottleneckConfig"),
        ({"kv_cache": hasten.KVCacheConfig()}, "does not generate chunk by chunk; leave kv_cache out"),
        ({"kv_cache": "int4"}, "kv_cache was given as str; give a KVCacheConfig"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_refused_request_changes_nothing(
    arguments: dict[str, Any], message: str, pipeline: Any, generate: Generate
) -> None:
    before = snapshot(pipeline)
    with pytest.raises(hasten.AccelerationError, match=message):
        pipeline.enable_acceleration(**arguments)
    assert snapshot(pipeline) == before
    pipeline.enable_acceleration(attention=SPARSE)
    expected = generate(pipeline)
    with pytest.raises(hasten.AccelerationError, match=message):
        pipeline.enable_acceleration(**arguments)
    assert torch.equal(generate(pipeline), expected)


def test_an_error_while_attaching_takes_back_what_was_attached(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(pipeline)
    attach = hasten.methods.rettention.attach_core
    attached = []

    def fail_at_the_second(*arguments: Any) -> Callable[[], None]:
        if attached:
            raise RuntimeError("out of luck")
        attached.append(arguments)
        return attach(*arguments)

    monkeypatch.setattr(hasten.methods.rettention, "attach_core", fail_at_the_second)
    with pytest.raises(RuntimeError, match="out of luck"):
        pipeline.enable_acceleration(attention=SPARSE)
    assert snapshot(pipeline) == before


def test_an_unknown_pipeline_is_told_what_works() -> None:
    class OtherPipeline(DiffusionPipeline):
        pass

    with pytest.raises(
        hasten.AccelerationError, match=r"OtherPipeline is not.*PixArtAlphaPipeline, PixArtSigmaPipeline"
    ):
        OtherPipeline().enable_acceleration()


def test_a_subclass_of_a_known_pipeline_works(make_pipeline: Callable[..., Any], generate: Generate) -> None:
    class Customised(PixArtSigmaPipeline):
        pass

    pipeline = Customised(**make_pipeline().components)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.enable_acceleration(attention=SPARSE)
    generate(pipeline)
    assert pipeline.acceleration_report().count("sparse") == 5


def test_enabling_twice_replaces(pipeline: Any, make_pipeline: Callable[..., Any], generate: Generate) -> None:
    plain = generate(pipeline)
    before = snapshot(pipeline)
    pipeline.enable_acceleration(attention=hasten.RettentionConfig(dense_steps=3, correction="reuse"))
    generate(pipeline)
    pipeline.enable_acceleration(attention=SPARSE)
    once = make_pipeline()
    once.enable_acceleration(attention=SPARSE)
    assert torch.equal(generate(pipeline), generate(once))
    pipeline.disable_acceleration()
    assert snapshot(pipeline) == before
    assert torch.equal(generate(pipeline), plain)


def test_disabling_a_plain_pipeline_does_nothing(pipeline: Any) -> None:
    before = snapshot(pipeline)
    pipeline.disable_acceleration()
    assert snapshot(pipeline) == before


def test_the_scope_ends_after_an_error_too(pipeline: Any, generate: Generate) -> None:
    before = snapshot(pipeline)

    def fail_inside() -> None:
        with hasten.accelerate(pipeline, attention=SPARSE) as accelerated:
            assert accelerated is pipeline
            generate(pipeline)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert snapshot(pipeline) == before


def test_the_scope_brings_back_what_was_enabled_before(pipeline: Any, generate: Generate) -> None:
    pipeline.enable_acceleration(attention=SPARSE)
    expected = generate(pipeline)
    with hasten.accelerate(pipeline, attention=hasten.RettentionConfig(dense_steps=8)):
        assert not torch.equal(generate(pipeline), expected)
    assert torch.equal(generate(pipeline), expected)


def test_two_pipelines_do_not_disturb_each_other(make_pipeline: Callable[..., Any], generate: Generate) -> None:
    first, second = make_pipeline(), make_pipeline()
    first.enable_acceleration(attention=SPARSE)
    alone = generate(first)
    second.enable_acceleration(attention=hasten.RettentionConfig(dense_steps=3, correction="none"))
    interleaved = []
    generate(second, callback=lambda *_: interleaved or interleaved.append(generate(first)))
    assert torch.equal(interleaved[0], alone)
    second.disable_acceleration()
    assert torch.equal(generate(first), alone)


def test_a_model_in_two_pipelines_is_accelerated_through_one(make_pipeline: Callable[..., Any]) -> None:
    first = make_pipeline()
    second = PixArtSigmaPipeline(**first.components)
    first.enable_acceleration(attention=SPARSE)
    with pytest.raises(hasten.AccelerationError, match="already accelerated through another pipeline"):
        second.enable_acceleration(attention=SPARSE)
    first.disable_acceleration()
    second.enable_acceleration(attention=SPARSE)


def test_an_accelerated_model_is_not_copied(pipeline: Any) -> None:
    pipeline.enable_acceleration(attention=SPARSE)
    with pytest.raises(hasten.AccelerationError, match="call disable_acceleration"):
        copy.deepcopy(pipeline)


def test_a_dropped_pipeline_leaves_nothing_behind(make_pipeline: Callable[..., Any], generate: Generate) -> None:
    gc.collect()
    before = set(CORES)
    pipeline = make_pipeline()
    pipeline.enable_acceleration(attention=SPARSE)
    generate(pipeline)
    assert len(set(CORES) - before) == 2
    del pipeline
    gc.collect()
    assert set(CORES) <= before


def test_an_accelerated_pipeline_saves_as_a_stock_one(pipeline: Any, generate: Generate, tmp_path: Path) -> None:
    plain = generate(pipeline)
    pipeline.enable_acceleration(attention=SPARSE)
    generate(pipeline)
    pipeline.save_pretrained(tmp_path)
    assert "hasten" not in "".join(file.read_text() for file in tmp_path.rglob("*.json")).lower()
    loaded = PixArtSigmaPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert torch.equal(generate(loaded), plain)


class Negate(ModelHook):
    """Someone else's hook, which replaces the forward of the denoiser."""

    def new_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        return (-self.fn_ref.original_forward(*args, **kwargs)[0],)


def test_a_hook_that_came_later_keeps_working_when_ours_goes(
    make_pipeline: Callable[..., Any], generate: Generate
) -> None:
    def negate(pipeline: Any) -> HookRegistry:
        registry = HookRegistry.check_if_exists_or_initialize(pipeline.transformer)
        registry.register_hook(Negate(), "negate")
        return registry

    pipeline, reference = make_pipeline(), make_pipeline()
    negate(reference)
    plain, negated = generate(pipeline), generate(reference)
    pipeline.enable_acceleration(attention=SPARSE)
    registry = negate(pipeline)
    pipeline.disable_acceleration()
    assert torch.equal(generate(pipeline), negated)
    registry.remove_hook("negate")
    assert torch.equal(generate(pipeline), plain)


def test_a_wrapper_that_accelerate_put_on_later_stays_when_ours_goes(pipeline: Any, generate: Generate) -> None:
    plain = generate(pipeline)
    pipeline.enable_acceleration(attention=SPARSE)
    calls = []

    class Count(accelerate.hooks.ModelHook):
        def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            calls.append(module)
            return args, kwargs

    accelerate.hooks.add_hook_to_module(pipeline.transformer, Count())  # as sequential CPU offload does
    pipeline.disable_acceleration()
    assert torch.equal(generate(pipeline), plain)
    assert len(calls) == 8
    accelerate.hooks.remove_hook_from_module(pipeline.transformer)
    assert torch.equal(generate(pipeline), plain)
    assert len(calls) == 8


def _broadcast(transformer: Any) -> None:
    config = PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500
    )
    apply_pyramid_attention_broadcast(transformer, config)


def test_a_model_with_diffusers_caching_is_refused(pipeline: Any) -> None:
    _broadcast(pipeline.transformer)
    before = snapshot(pipeline)
    with pytest.raises(hasten.AccelerationError, match=r"pyramid_attention_broadcast.*remove it first"):
        pipeline.enable_acceleration(attention=SPARSE)
    assert snapshot(pipeline) == before


def test_a_model_with_its_cache_enabled_is_refused(pipeline: Any) -> None:
    pipeline.transformer.is_cache_enabled = True  # PixArt has no CacheMixin, others set this by enable_cache()
    pipeline.transformer._cache_config = PyramidAttentionBroadcastConfig()
    with pytest.raises(hasten.AccelerationError, match=r"PyramidAttentionBroadcastConfig.*call its disable_cache"):
        pipeline.enable_acceleration(attention=SPARSE)


def test_caching_that_comes_later_is_refused_by_the_next_call(pipeline: Any, generate: Generate) -> None:
    pipeline.enable_acceleration(attention=SPARSE)
    _broadcast(pipeline.transformer)
    with pytest.raises(hasten.AccelerationError, match="remove it first"):
        generate(pipeline)


def test_more_dense_steps_than_steps_is_refused_before_the_denoiser_computes(pipeline: Any, generate: Generate) -> None:
    pipeline.enable_acceleration(attention=SPARSE)
    expected = generate(pipeline)
    pipeline.enable_acceleration(attention=hasten.RettentionConfig(dense_steps=9))
    calls = []
    pipeline.transformer.pos_embed.register_forward_pre_hook(lambda *_: calls.append(1))
    with pytest.raises(hasten.AccelerationError, match="dense_steps=9 are more than the 8 steps"):
        generate(pipeline)
    assert not calls
    pipeline.enable_acceleration(attention=SPARSE)
    assert torch.equal(generate(pipeline), expected)


@pytest.mark.parametrize("offload_first", [True, False], ids=["offload-then-enable", "enable-then-offload"])
def test_model_offload_in_either_order(offload_first: bool, pipeline: Any, generate: Generate) -> None:
    plain = generate(pipeline)
    before = snapshot(pipeline)
    pipeline.enable_acceleration(attention=SPARSE)
    accelerated = generate(pipeline)
    pipeline.disable_acceleration()
    verbs = [
        lambda: pipeline.enable_model_cpu_offload(device="cpu"),
        lambda: pipeline.enable_acceleration(attention=SPARSE),
    ]
    for verb in verbs if offload_first else reversed(verbs):
        verb()
    for _ in range(2):  # diffusers takes offloading off and puts it on again after every call
        assert torch.equal(generate(pipeline), accelerated)
    pipeline.disable_acceleration()
    assert torch.equal(generate(pipeline), plain)
    assert pipeline._all_hooks
    pipeline.remove_all_hooks()
    assert not HookRegistry.check_if_exists_or_initialize(pipeline.transformer).hooks
    assert snapshot(pipeline)["processors"] == before["processors"]
    assert torch.equal(generate(pipeline), plain)


@pytest.mark.parametrize("offload_type", ["block_level", "leaf_level"])
@pytest.mark.parametrize("offload_first", [True, False], ids=["offload-then-enable", "enable-then-offload"])
def test_group_offload_in_either_order(
    offload_first: bool, offload_type: str, pipeline: Any, generate: Generate
) -> None:
    plain = generate(pipeline)
    pipeline.enable_acceleration(attention=SPARSE)
    accelerated = generate(pipeline)
    pipeline.disable_acceleration()
    blocks = {"num_blocks_per_group": 1} if offload_type == "block_level" else {}
    verbs = [
        lambda: apply_group_offloading(pipeline.transformer, torch.device("cpu"), offload_type=offload_type, **blocks),
        lambda: pipeline.enable_acceleration(attention=SPARSE),
    ]
    for verb in verbs if offload_first else reversed(verbs):
        verb()
    for _ in range(2):
        assert torch.equal(generate(pipeline), accelerated)
    pipeline.disable_acceleration()
    assert torch.equal(generate(pipeline), plain)

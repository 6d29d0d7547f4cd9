"""`hasten.explain` of a KV cache, against the bytes of a call that really ran and against counts by hand."""

import json
from typing import Any

import pytest
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanTransformer3DModel

import hasten
from hasten.pipelines.self_forcing import SelfForcingWanPipeline

FRAME_TOKENS, HEADS, HEAD_DIM, LAYERS = 6, 2, 16, 3


@pytest.fixture(scope="module")
def pipe() -> SelfForcingWanPipeline:
    transformer = WanTransformer3DModel(
        num_layers=LAYERS,
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_DIM,
        in_channels=4,
        out_channels=4,
        text_dim=8,
        freq_dim=16,
        ffn_dim=16,
    )
    autoencoder = AutoencoderKLWan(base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    scheduler = FlowMatchEulerDiscreteScheduler()
    return SelfForcingWanPipeline(
        None, None, autoencoder, scheduler, transformer, sample_height=32, sample_width=48, window_frames=12
    )


def explain(pipe: Any, method: str, *, window: int | None = None, sinks: int | None = None, **call: Any) -> Any:
    config = hasten.KVCacheConfig(method, window_frames=window, sink_frames=sinks)
    return hasten.explain(pipe, kv_cache=config, **call)


def test_the_plain_window_is_counted_as_by_hand(pipe: Any) -> None:
    plan = explain(pipe, "bf16", num_frames=4 * 17 + 1).kv_cache
    values = 2 * HEADS * FRAME_TOKENS * HEAD_DIM  # keys and values of a frame in a layer
    pages = LAYERS * (12 - 3)
    assert plan.nbytes == pages * (4 * values + 4)  # float32, and a page table
    assert plan.exact_bytes == pages * (2 * values + 4)
    assert plan.layer_bytes == (plan.nbytes // LAYERS,) * LAYERS
    assert plan.ratio == pytest.approx(0.5, rel=0.01)
    assert (plan.window_frames, plan.sink_frames, plan.chunk_frames, plan.chunks) == (12, 0, 3, 6)


def test_a_longer_window_is_counted_and_a_longer_video_is_not(pipe: Any) -> None:
    short = explain(pipe, "rtn_int4", num_frames=21)
    long = explain(pipe, "rtn_int4", num_frames=21 + 12 * 40)
    assert short.kv_cache.nbytes == long.kv_cache.nbytes
    assert len(long.steps) == 42 * 4
    assert explain(pipe, "rtn_int4", window=21).kv_cache.nbytes == 2 * short.kv_cache.nbytes
    assert short.layers[0].tokens == 12 * FRAME_TOKENS


def test_the_next_smaller_method_is_smaller_and_none_lies_between(pipe: Any) -> None:
    taken = {name: explain(pipe, name).kv_cache.nbytes for name in hasten.kv_cache_methods()}
    for name in ("bf16", "kivi_int4", "rtn_int2"):
        smaller, nbytes = explain(pipe, name).kv_cache.smaller
        assert nbytes == pytest.approx(max(other for other in taken.values() if other < taken[name]), rel=0.1)
        assert nbytes < taken[name]
        assert smaller in taken


def test_the_explanation_is_text_and_json(pipe: Any) -> None:
    explained = explain(pipe, "flowcache_soft_prune_int4", sinks=2)
    text = str(explained)
    for part in (
        "KV cache flowcache_soft_prune_int4",
        "window: 12 latent frames, 3 of them the chunk and 2 sinks",
        "layers: all 3, blocks.0.attn1 to blocks.2.attn1",
        f"bytes: {explained.kv_cache.nbytes:,}",
    ):
        assert part in text
    values = json.loads(json.dumps(explained.to_dict()))
    assert values["kv_cache"]["nbytes"] == explained.kv_cache.nbytes
    assert values["kv_cache"]["ratio"] == pytest.approx(explained.kv_cache.ratio)
    assert values["expected_speedup"] == 1


@pytest.mark.parametrize(
    ("method", "call", "sentence"),
    [
        ("rtn_int4", {"num_frames": 20}, "num_frames=20 is no whole number of chunks .* 9 and 21"),
        ("rtn_int4", {"window": 2}, "no room for a chunk of 3 .* at least 3"),
        ("rtn_int4", {"window": 4, "sinks": 2}, "at least 5"),
        ("rtn_int4", {"height": 40}, "give positive multiples of 16"),
    ],
)
def test_a_call_that_would_be_refused_is(pipe: Any, method: str, call: dict[str, Any], sentence: str) -> None:
    with pytest.raises(hasten.AccelerationError, match=sentence):
        explain(pipe, method, **call)


def test_budgets_for_another_number_of_layers_are_refused(pipe: Any) -> None:
    config = hasten.KVCacheConfig("flowcache_hybrid_int2", layer_budgets=(1.0, 1.0))
    with pytest.raises(hasten.AccelerationError, match="model of 3 layers; give 3"):
        hasten.explain(pipe, kv_cache=config)


def test_sparse_attention_is_refused_with_what_to_give_instead(pipe: Any) -> None:
    with pytest.raises(hasten.AccelerationError, match="generates chunk by chunk"):
        hasten.explain(pipe, attention=hasten.RettentionConfig())

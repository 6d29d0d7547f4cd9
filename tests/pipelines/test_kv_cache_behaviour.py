"""A cache from the outside: what it gives attention to, how exact it is, what it refuses."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hasten.kernels.paged import KeysAndValues, Segment, paged_attention
from hasten.pipelines.kv_cache import METHODS, CacheGeometry, KVCache, PageShape, StepReuse, Window, cache_bytes

HEADS, TOKENS, CHANNELS = 2, 48, 32


def started(name: str, window: Window | None = None, dtype: torch.dtype = torch.float32) -> KVCache:
    cache = KVCache(METHODS[name], 1, window)
    cache.begin(1, HEADS, CHANNELS, TOKENS, dtype, "cpu")
    return cache


def random(frames: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys, values, queries = torch.randn(3, 1, HEADS, frames * TOKENS, CHANNELS, generator=generator)
    return keys, values, queries


def error_of(name: str, dtype: torch.dtype = torch.float32) -> float:
    """Relative error of attention to six cached frames."""
    layer = started(name, dtype=dtype).layer(0)
    keys, values, queries = (x.to(dtype) for x in random(6))
    layer.update(keys, values, queries)
    attended = paged_attention(2 * queries, layer.get()).output.float()
    expected = F.scaled_dot_product_attention(2 * queries.float(), keys.float(), values.float())
    return float((attended - expected).norm() / expected.norm())


def test_more_bits_are_more_exact() -> None:
    errors = [error_of(name) for name in ("bf16", "prq_int4", "prq_int2", "rtn_int4", "rtn_int2")]
    assert errors == sorted(errors)
    assert errors[0] < 1e-5
    assert errors[1] < 0.02
    assert errors[3] < 0.2


@pytest.mark.parametrize("name", ["bf16", "kivi_int4", "quarot_kv_int4", "turboquant_int4"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_models_are_served_in_their_dtype(name: str, dtype: torch.dtype) -> None:
    assert error_of(name, dtype) < 0.2


def test_a_sixteen_bit_ring_is_attention_to_the_last_frames_of_the_window() -> None:
    layer = started("bf16", Window(frames=12)).layer(0)
    keys, values, queries = random(15)
    for chunk in zip(*(x.split(3 * TOKENS, 2) for x in (keys, values, queries)), strict=True):
        layer.update(*chunk)
    expected = F.scaled_dot_product_attention(queries, keys[:, :, -9 * TOKENS :], values[:, :, -9 * TOKENS :])
    torch.testing.assert_close(paged_attention(queries, layer.get()).output, expected)


def test_a_soft_pruned_page_is_one_key_that_counts_for_all_its_tokens() -> None:
    layer = started("flowcache_soft_prune_int4").layer(0)
    keys, values, _ = random(1)
    flat = keys[:, :, :1].expand_as(keys), values[:, :, :1].expand_as(values)
    for _ in range(6):
        layer.update(*(x.repeat(1, 1, 3, 1) for x in flat))
    [means] = [segment for segment in layer.get() if isinstance(segment, KeysAndValues)]
    pruned = [frame for frame in layer.frames if frame.tier.name == "SUMMARY"]
    assert means.key.shape == (1, HEADS, len(pruned), CHANNELS)
    # pages of equal tokens lose nothing, so each of the 18 gets the same attention
    weights = paged_attention(keys, [means]).lse - paged_attention(keys, layer.get()).lse
    torch.testing.assert_close(weights.exp(), torch.full_like(weights, len(pruned) / 18), rtol=0.02, atol=0)


def test_sinks_can_be_seen_by_another_query() -> None:
    layer = started("rtn_int4", Window(frames=9, sink_frames=2)).layer(0)
    for seed in range(4):
        layer.update(*random(3, seed))
    query, sink_query = random(3, 10)[2], random(3, 11)[2]
    sinks, others = layer.get(sink_query)
    assert isinstance(sinks, Segment)
    assert isinstance(others, Segment)
    assert sinks.query is sink_query
    assert others.query is None
    assert [frame.number for frame in layer.frames] == [0, 1, 8, 9, 10, 11]
    keys, values = (
        torch.cat([x, y], 2)
        for x, y in zip(sinks.pool.read(sinks.slots.tolist()), others.pool.read(others.slots.tolist()), strict=True)
    )
    scores = torch.cat([sink_query @ keys[:, :, : 2 * TOKENS].mT, query @ keys[:, :, 2 * TOKENS :].mT], 3)
    expected = (scores * CHANNELS**-0.5).softmax(-1) @ values
    torch.testing.assert_close(paged_attention(query, [sinks, others]).output, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_sinks_of_every_method_can_be_seen_by_another_query(name: str) -> None:
    layer = started(name, Window(frames=9, sink_frames=1)).layer(0)
    for seed in range(3):
        layer.update(*random(3, seed))
    query = random(3, 10)[2]
    seen = [segment for segment in layer.get(query) if isinstance(segment, Segment) and segment.query is query]
    assert sum(segment.pool.read(segment.slots.tolist())[0].shape[2] for segment in seen) == TOKENS


def test_an_exact_sink_is_exact() -> None:
    cache = started("rotate_sink_int4")
    assert cache.window.sink_frames == 1
    layer = cache.layer(0)
    for seed in range(8):
        layer.update(*random(3, seed))
    sink = layer.get(random(1)[2])[0]
    key, value = sink.pool.read(sink.slots.tolist())
    torch.testing.assert_close(key, random(3)[0][:, :, :TOKENS])
    torch.testing.assert_close(value, random(3)[1][:, :, :TOKENS])


def test_a_cache_begins_anew_for_another_video() -> None:
    cache = started("tptq_int2")
    cache.layer(0).update(*random(3))
    cache.begin(2, HEADS, CHANNELS, 2 * TOKENS, torch.float64, "cpu")
    assert cache.layer(0).frames == ()
    assert cache.layer(0).get() == []
    cache.reset()
    assert cache.nbytes == 0


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, HEADS, 50, CHANNELS), "with a multiple of 48 tokens"),
        ((1, HEADS + 1, 48, CHANNELS), "no frames of this cache"),
        ((HEADS, 48, CHANNELS), "no frames of this cache"),
    ],
)
def test_what_is_no_frame_is_refused_and_changes_nothing(shape: tuple[int, ...], message: str) -> None:
    layer = started("kivi_int4").layer(0)
    layer.update(*random(3))
    with pytest.raises(ValueError, match=re.escape(message)):
        layer.update(torch.zeros(shape), torch.zeros(shape))
    assert [frame.number for frame in layer.frames] == [0, 1, 2]


def test_a_ranking_by_attention_asks_for_queries() -> None:
    layer = started("attention_soft_prune_int4").layer(0)
    with pytest.raises(ValueError, match=r"'attention_soft_prune_int4' ranks pages by attention; pass the chunk's"):
        layer.update(*random(3)[:2])
    layer.update(*random(3))
    assert sum(frame.score for frame in layer.frames) == pytest.approx(1)


def test_a_page_that_gets_attention_outlives_one_that_gets_none() -> None:
    layer = started("attention_soft_prune_int4", Window(frames=15)).layer(0)
    keys, values, queries = random(12)
    keys.view(1, HEADS, 12, TOKENS, CHANNELS)[:, :, 2] = 3 * queries[:, :, :TOKENS]
    for start in range(0, 12, 3):
        chunk = slice(start * TOKENS, (start + 3) * TOKENS)
        layer.update(keys[:, :, chunk], values[:, :, chunk], queries[:, :, : 3 * TOKENS])
    tiers = {frame.number: frame.tier.name for frame in layer.frames}
    assert tiers[2] == "HIGH"
    assert "SUMMARY" in (tiers[0], tiers[1], tiers[3], tiers[4])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 2}, "no room for a chunk of 3 and 0 sink frames; give a window of at least 3"),
        ({"frames": 7, "sink_frames": 5}, "give a window of at least 8"),
        ({"sink_frames": -1}, "no room"),
    ],
)
def test_a_window_holds_its_parts(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Window(**arguments)


def test_a_head_that_cannot_be_rotated_is_refused() -> None:
    with pytest.raises(ValueError, match="power of two"):
        KVCache(METHODS["quarot_kv_int4"], 1).begin(1, 2, 24, 48, torch.float32, "cpu")


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.splits_pages])
def test_frames_of_two_tokens_are_split_and_frames_of_one_are_refused(name: str) -> None:
    cache = KVCache(METHODS[name], 1)
    cache.begin(1, HEADS, CHANNELS, 2, torch.float32, "cpu")
    assert cache.nbytes == cache_bytes(METHODS[name], CacheGeometry(1, PageShape(1, HEADS, 2, CHANNELS, torch.float32)))
    keys, values, queries = (x[:, :, :6] for x in random(1))
    cache.layer(0).update(keys, values)
    assert paged_attention(queries, cache.layer(0).get()).output.isfinite().all()
    with pytest.raises(ValueError, match="A frame of 1 token cannot be stored in 2 parts; make larger videos, or"):
        cache.begin(1, HEADS, CHANNELS, 1, torch.float32, "cpu")


def test_a_step_is_reused_where_features_moved_little() -> None:
    rule = StepReuse(threshold=0.5, most_per_chunk=2)
    kept = torch.tensor([[[1.0, -1.0, 2.0]]])
    near, far = kept * 1.4, kept * 1.6  # changed by 0.4 and 0.6 of the mean magnitude
    assert rule.reuses(1, near, kept, reused=0)
    assert rule.reuses(3, near, kept, reused=1)
    assert not rule.reuses(1, far, kept, reused=0)
    assert not rule.reuses(1, near, None, reused=0)
    assert not rule.reuses(3, near, kept, reused=2)
    assert not StepReuse(threshold=0.5, warmup_steps=2).reuses(1, near, kept, reused=0)


def test_the_published_threshold_reuses_one_step_of_a_chunk() -> None:
    """The study's log: a mean change of 1.24, and one step of four reused in every chunk."""
    rule, kept = StepReuse(), torch.ones(1, 4, 8)
    reused = 0
    for step in range(4):
        reused += rule.reuses(step, kept * (1 + 1.2366), kept if step else None, reused)
    assert reused == 1

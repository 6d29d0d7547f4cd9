"""Every cache method over long rollouts of random keys and values, against dense pages kept by hand."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from kv_cache_oracle import DEFINITIONS, OracleLayer
from torch import Tensor

from hasten.kernels.paged import Segment, paged_attention
from hasten.pipelines.kv_cache import METHODS, KVCache, LayerCache, PageShape, Window

BATCH, HEADS, TOKENS, CHANNELS, LAYERS = 2, 2, 32, 16, 2

every_method = pytest.mark.parametrize("name", METHODS)


@pytest.fixture(autouse=True, scope="module")
def _poisoned_memory() -> Iterator[None]:
    """Fills uninitialised memory with NaN, so that a page that was never written is seen."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def chunk(frames: int, seed: int, shape: PageShape) -> tuple[Tensor, Tensor, Tensor]:
    """Keys, values and queries whose channels, tokens and frames differ in size and offset, with a few outliers."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=generator)

    batch, heads, tokens, channels = shape.sized(shape.frame_tokens)
    keys, values, queries = normal(3, batch, heads, frames, tokens, channels)
    loudness = normal(frames, 1, 1).exp()
    keys = keys * loudness + 2 * normal(1, heads, 1, 1, channels)
    values = values * loudness * normal(1, tokens, 1).exp()
    for x in (keys, values):
        spikes = torch.randint(x.numel(), (frames,), generator=generator)
        x.view(-1)[spikes] *= 30
    return tuple(x.flatten(2, 3).to(shape.dtype) for x in (keys, values, queries))  # type: ignore[return-value]


def content(layer: LayerCache, sink_query: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor] | None:
    """Keys, values and biases of all that a layer gives attention to."""
    parts = []
    for segment in layer.get(sink_query):
        if isinstance(segment, Segment):
            key, value = segment.pool.read(torch.as_tensor(segment.slots).tolist())
            parts.append((key, value, torch.zeros(key.shape[2])))
        else:
            parts.append((segment.key, segment.value, segment.bias))
    if not parts:
        return None
    keys, values, biases = zip(*parts, strict=True)
    return torch.cat(keys, 2), torch.cat(values, 2), torch.cat(biases)


def frames_of(x: Tensor, tokens: int) -> list[np.ndarray]:
    return [page.double().numpy() for page in x.split(tokens, 2)]


def dense(query: Tensor, keys: np.ndarray, values: np.ndarray, bias: np.ndarray) -> np.ndarray:
    scores = query.double().numpy() @ keys.swapaxes(2, 3) / keys.shape[-1] ** 0.5 + bias
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ values


def assert_same(actual: np.ndarray, expected: np.ndarray) -> None:
    """Equal, but for rare float16 scales whose last bit differs: torch rounds float64 to them by way of float32."""
    np.testing.assert_allclose(actual, expected, rtol=2e-3, atol=2e-3)
    assert np.mean(np.abs(actual - expected) > 1e-6) < 0.01


def roll_out(name: str, sizes: list[int], window: Window, shape: PageShape) -> None:
    """Write chunks of the given sizes and compare pages, tiers and attention with the oracle after each."""
    cache = KVCache(METHODS[name], LAYERS, window)
    cache.begin(shape.batch, shape.heads, shape.head_dim, shape.frame_tokens, shape.dtype, "cpu")
    oracles = [
        OracleLayer(DEFINITIONS[name], window.frames, window.sink_frames, window.chunk_frames, layer, LAYERS)
        for layer in range(LAYERS)
    ]
    for (step, size), (index, oracle) in itertools.product(enumerate(sizes), enumerate(oracles)):
        layer = cache.layer(index)
        keys, values, queries = chunk(size, 10 * step + index, shape)
        layer.update(keys, values, queries)
        pages = (frames_of(x, shape.frame_tokens) for x in (keys, values))
        oracle.update(*pages, queries.double().numpy())
        tiers = [(frame.number, frame.tier.name.lower()) for frame in layer.frames]
        assert tiers == [(page.number, page.tier) for page in oracle.pages]
        if step % 2 and step < len(sizes) - 1:
            continue
        expected, cached = oracle.content(), content(layer)
        assert (cached is None) == (expected is None)
        if cached is None or expected is None:
            continue
        arrays = [one.double().numpy() for one in cached]
        for one, other in zip(arrays, expected, strict=True):
            assert_same(one, other)
        if step == len(sizes) - 1:
            attended = paged_attention(queries, layer.get()).output
            np.testing.assert_allclose(attended.numpy(), dense(queries, *arrays), rtol=1e-6, atol=1e-6)


SHAPE = PageShape(BATCH, HEADS, TOKENS, CHANNELS, torch.float64)


@every_method
def test_a_long_rollout_holds_what_the_definition_says(name: str) -> None:
    roll_out(name, [3] * 7, Window(), SHAPE)


@every_method
def test_sinks_stay_and_chunks_may_begin_with_one_frame(name: str) -> None:
    shape = PageShape(1, HEADS, 60, CHANNELS, torch.float64)
    roll_out(name, [1, 3, 3, 3], Window(frames=10, sink_frames=2, chunk_frames=3), shape)


@pytest.mark.parametrize("name", ["rtn_int4", "flowcache_soft_prune_int2", "mixed_1.5bit"])
def test_a_prefill_longer_than_the_window_keeps_its_end(name: str) -> None:
    roll_out(name, [11, 3], Window(frames=8, sink_frames=1, chunk_frames=3), SHAPE)


@pytest.mark.parametrize("frames", [3, 4])
def test_a_window_of_one_chunk_has_no_pages(frames: int) -> None:
    roll_out("flowcache_soft_prune_int4", [3, 3, 3], Window(frames=frames), SHAPE)

"""Which methods lose less: attention to keys and values with outlying channels, as keys of real models have them."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hasten.kernels.paged import paged_attention
from hasten.pipelines.kv_cache import METHODS, KVCache

HEADS, TOKENS, CHANNELS, FRAMES = 2, 60, 64, 18


def chunk_of(frames: int, loudness: float, offset: float) -> tuple[Tensor, Tensor, Tensor]:
    """Keys, values and queries: some channels of keys and values are louder, and some of keys lie elsewhere."""
    generator = torch.Generator().manual_seed(0)
    keys, values, queries = torch.randn(3, 1, HEADS, frames * TOKENS, CHANNELS, generator=generator)
    generator = torch.Generator().manual_seed(99)
    loud, offsets = torch.rand(4, 1, HEADS, 1, CHANNELS, generator=generator).split(2)
    louder = torch.where(loud < 0.06, loudness, 1.0)
    return keys * louder[0] + torch.where(offsets[0] < 0.1, offset, 0.0), values * louder[1], queries / 2


def error_of(name: str, loudness: float = 1.0, offset: float = 5.0) -> float:
    """Relative error of the newest chunk's attention to a full window of which nothing was dropped without need."""
    cache = KVCache(METHODS[name], 1)
    cache.begin(1, HEADS, CHANNELS, TOKENS, torch.float32, "cpu")
    layer = cache.layer(0)
    keys, values, queries = chunk_of(FRAMES, loudness, offset)
    for chunk in zip(*(x.split(3 * TOKENS, 2) for x in (keys, values, queries)), strict=True):
        layer.update(*chunk)
    newest = queries[:, :, -3 * TOKENS :]
    expected = F.scaled_dot_product_attention(newest, keys, values)
    return float((paged_attention(newest, layer.get()).output - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def plain() -> dict[str, float]:
    """The errors of rounding to nearest."""
    return {name: error_of(name) for name in ("rtn_int8", "rtn_int4", "rtn_int2")}


def test_eight_bits_are_next_to_sixteen(plain: dict[str, float]) -> None:
    assert plain["rtn_int8"] < 0.01 < 0.1 * plain["rtn_int4"]


@pytest.mark.parametrize("name", ["kivi_int4", "quarot_kv_int4", "rotate_sink_int4"])
def test_offsets_and_rotations_lose_less_than_rounding_alone(name: str, plain: dict[str, float]) -> None:
    assert error_of(name) < plain["rtn_int4"]


@pytest.mark.parametrize("name", ["turboquant_int2", "rotate_sink_int2"])
def test_our_two_bits_are_clearly_better_than_ternary_ones(name: str, plain: dict[str, float]) -> None:
    assert error_of(name) < 0.8 * plain["rtn_int2"]


def test_the_mean_of_a_pruned_page_is_better_than_nothing_of_it() -> None:
    assert error_of("flowcache_soft_prune_int4") < 0.5 * error_of("flowcache_prune_int4")


def test_dealing_out_loud_channels_is_better_than_one_rotation_of_all() -> None:
    dealt, whole, none = (error_of(name, 6.0, 0.0) for name in ("rotate_sink_int4", "quarot_kv_int4", "rtn_int4"))
    assert dealt < 0.8 * whole < 0.8 * none

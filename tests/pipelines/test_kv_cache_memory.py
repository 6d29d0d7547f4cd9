"""What caches allocate: by formula, in fact, and never a full-length 16-bit copy."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hasten.kernels.paged import KeysAndValues, paged_attention
from hasten.pipelines.kv_cache import (
    METHODS,
    WAN_480P,
    CacheGeometry,
    CacheMethod,
    KVCache,
    PageShape,
    Tier,
    Window,
    cache_bytes,
    compression_ratio,
)

every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
SMALL = CacheGeometry(2, PageShape(2, 2, 60, 16, torch.bfloat16), Window(frames=12, sink_frames=1))


def started(
    method: CacheMethod, geometry: CacheGeometry, device: str = "cpu", contexts: tuple[str, ...] = ("cond",)
) -> KVCache:
    cache = KVCache(method, geometry.layers, geometry.window, contexts)
    page = geometry.page
    cache.begin(page.batch, page.heads, page.head_dim, page.frame_tokens, page.dtype, device)
    return cache


def frames(count: int, page: PageShape, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys, values, queries = torch.randn(3, *page.sized(count * page.frame_tokens), generator=generator).to(page.dtype)
    return keys, values, queries


def tensors_in(held: Any) -> Iterator[Tensor]:
    """Every tensor that can be reached from an object."""
    if isinstance(held, Tensor):
        yield held
    elif isinstance(held, Mapping):
        for one in held.values():
            yield from tensors_in(one)
    elif isinstance(held, list | tuple):
        for one in held:
            yield from tensors_in(one)
    elif hasattr(held, "__dict__") and type(held).__module__.startswith("hasten"):
        yield from tensors_in(vars(held))


def stored_bytes(held: Any) -> int:
    """Bytes of the memory behind all tensors of an object, each piece once."""
    pieces = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors_in(held)}
    return sum(pieces.values())


@every_method
def test_bytes_of_all_tensors_are_those_of_the_formula(method: CacheMethod) -> None:
    cache = started(method, SMALL)
    expected = cache_bytes(method, SMALL)
    assert cache.nbytes == stored_bytes(cache) == expected
    for chunk in range(5):
        for layer in range(SMALL.layers):
            cache.layer(layer).update(*frames(3, SMALL.page, chunk))
    assert cache.nbytes == stored_bytes(cache) == expected
    cache.reset()
    assert cache.nbytes == stored_bytes(cache) == 0


@every_method
def test_the_formula_holds_at_full_size(method: CacheMethod) -> None:
    assert started(method, WAN_480P, "meta").nbytes == cache_bytes(method, WAN_480P)


def test_each_context_has_a_cache() -> None:
    cache = started(METHODS["kivi_int4"], SMALL, contexts=("cond", "uncond"))
    assert cache.nbytes == 2 * cache_bytes(METHODS["kivi_int4"], SMALL)
    cache.layer(1, "uncond").update(*frames(3, SMALL.page))
    assert [len(cache.layer(1, name).frames) for name in cache.contexts] == [0, 3]


def test_sixteen_bit_windows_take_what_arithmetic_says() -> None:
    frame = 30 * 2 * 1560 * 12 * 128 * 2
    assert cache_bytes(METHODS["bf16"], WAN_480P) == 18 * (frame + 30 * 4)
    assert frame == 287_539_200  # as the study has it


def test_four_and_two_bits_take_what_arithmetic_says() -> None:
    """Groups of 15 tokens, the divisor of 1,560 next to 16: 4 + 16/15 and 2 + 16/15 bits a value."""
    assert compression_ratio(METHODS["rtn_int4"]) == pytest.approx(16 / (4 + 16 / 15), rel=1e-4)
    assert compression_ratio(METHODS["rtn_int2"]) == pytest.approx(16 / (2 + 16 / 15), rel=1e-4)
    assert 16 / compression_ratio(METHODS["mixed_1.5bit"]) == pytest.approx(1.5, abs=0.05)
    # 4 bits, a scale and an offset for 32 channels, and one frame of 18 as it is
    assert compression_ratio(METHODS["rotate_sink_int4"]) == pytest.approx(18 / (1 + 17 * 5 / 16), rel=1e-3)


@pytest.mark.parametrize(("name", "share"), [("rtn_int4", 0.28), ("quarot_kv_int4", 0.28), ("rtn_int2", 0.16)])
def test_groups_of_40_keep_to_their_share_of_sixteen_bits(name: str, share: float) -> None:
    """Of the bytes of real tensors, scales and page tables among them."""
    method = METHODS[name].with_group(40)
    assert started(method, WAN_480P, "meta").nbytes <= share * started(METHODS["bf16"], WAN_480P, "meta").nbytes


class Allocations(TorchDispatchMode):
    """Records the size of every piece of memory that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {x.untyped_storage().data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        result = func(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, Tensor) and x.untyped_storage().data_ptr() not in given:
                self.largest = max(self.largest, x.untyped_storage().nbytes())
        return result


@every_method
def test_nothing_as_large_as_the_keys_of_a_layer_is_ever_made(method: CacheMethod) -> None:
    geometry = dataclasses.replace(SMALL, layers=1, window=Window(sink_frames=1))
    cache = started(method, geometry).layer(0)
    page = geometry.page
    keys_of_a_page = page.batch * page.heads * page.frame_tokens * page.head_dim * 2
    chunks = [frames(3, page, seed) for seed in range(8)]
    with Allocations() as made:
        for chunk in chunks:
            cache.update(*chunk)
            cache.get()
    assert (made.largest > 0) == method.is_quantized
    assert made.largest <= 8 * keys_of_a_page < geometry.window.pages * keys_of_a_page


@every_method
def test_attention_makes_nothing_as_large_as_the_keys_of_a_layer(method: CacheMethod) -> None:
    """Over all that a method has in a full window: tiers, splits, means and the chunk itself."""
    window, page = Window(sink_frames=1), PageShape(1, 4, 60, 16)
    cache = started(method, CacheGeometry(1, page, window)).layer(0)
    for seed in range(8):
        cache.update(*frames(3, page, seed))
    keys, values, queries = frames(1, page, 8)
    with Allocations() as made:
        paged_attention(queries, [*cache.get(queries), KeysAndValues(keys, values)])
    assert 0 < made.largest < window.pages * keys.nbytes


@pytest.mark.parametrize("name", ["rtn_int4", "flowcache_soft_prune_int2", "rtn_int4_recent2"])
def test_no_memory_is_reserved_that_a_full_window_does_not_use(name: str) -> None:
    """But for summaries, which are next to nothing."""
    cache = started(METHODS[name], SMALL)
    for chunk in range(6):
        cache.layer(0).update(*frames(3, SMALL.page, chunk))
    present = [frame.tier for frame in cache.layer(0).frames]
    slots = METHODS[name].slots(SMALL.window, 0, SMALL.layers)
    for tier, reserved in slots.items():
        if tier != Tier.SUMMARY:
            assert present.count(tier) == reserved

import math
from collections.abc import Iterator
from contextlib import contextmanager

import attention_oracle as oracle
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hasten.kernels import (
    AttentionOutput,
    KeysAndValues,
    PageFormat,
    PagePool,
    Segment,
    paged_attention,
)
from hasten.kernels.paged import portable, reference

BATCH, HEADS, TOKENS, HEAD_DIM = SHAPE = (2, 3, 12, 8)
SYMMETRIC_4 = PageFormat(4, "channel", 4, symmetric=True)
FORMATS: dict[str, tuple[PageFormat | None, PageFormat | None]] = {
    "4 bits": (SYMMETRIC_4, SYMMETRIC_4),
    "2 bits": (PageFormat(2, "channel", 12, symmetric=True), PageFormat(2, "token", 4, symmetric=True)),
    "8 bits of keys, 4 of values": (PageFormat(8, "channel", 6, symmetric=False), SYMMETRIC_4),
    "KIVI": (PageFormat(4, "channel", 4, symmetric=False), PageFormat(4, "token", 8, symmetric=False)),
    "residual": (PageFormat(2, "channel", 6, symmetric=True, residual_bits=4),) * 2,
    "gaussian": (PageFormat(4, "token", 8, symmetric=True, codebook="gaussian"),) * 2,
    "outliers": (PageFormat(4, "channel", 4, symmetric=False, outlier_sigma=2.0, outlier_share=0.02),) * 2,
    "no format": (None, None),
    "values without a format": (SYMMETRIC_4, None),
}
every_format = pytest.mark.parametrize("formats", FORMATS.values(), ids=FORMATS)


def random(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def filled(
    formats: tuple[PageFormat | None, PageFormat | None] = (SYMMETRIC_4, SYMMETRIC_4),
    dtype: torch.dtype = torch.float64,
    shape: tuple[int, int, int, int] = SHAPE,
    slots: int = 4,
    rotated: bool = False,
    rotated_channels: int | None = None,
) -> PagePool:
    pool = PagePool.allocate(slots, shape, *formats, dtype, rotated=rotated, rotated_channels=rotated_channels)
    for slot in range(slots):
        pool.write(slot, random(*shape, seed=slot) + 0.5, random(*shape, seed=100 + slot))
    return pool


def values_of(pool: PagePool, slots: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Keys and values as the definition of the format reads them, one value at a time, turned back."""
    parts = [torch.cat([reference.read(pages, slot) for slot in slots], 2) for pages in (pool.keys, pool.values)]
    if pool.rotations:
        signs = [[(-1) ** (row & column).bit_count() for column in range(HEAD_DIM)] for row in range(HEAD_DIM)]
        parts = [part @ torch.tensor(signs, dtype=torch.float64) / HEAD_DIM**0.5 for part in parts]
    return parts[0], parts[1]


def expected(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """Attention from its definition, in float64."""
    if bias is None:
        return oracle.attention_over(query, key, value, lambda _: list(range(key.shape[2])), scale)
    scores = query.double() @ key.double().mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    weights = torch.exp(scores + bias.double()[..., None, :])
    return weights @ value.double() / weights.sum(-1, keepdim=True), weights.sum(-1).log()


def check(actual: AttentionOutput, truth: tuple[Tensor, Tensor], dtype: torch.dtype, slack: float = 1.0) -> None:
    assert actual.output.dtype == dtype
    assert actual.lse.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    for got, right in zip(actual, truth, strict=True):
        tolerance = slack * oracle.TOLERANCES[dtype]
        torch.testing.assert_close(got.double(), right, rtol=0, atol=tolerance, equal_nan=False)


@every_format
@pytest.mark.parametrize("dtype", oracle.DTYPES, ids=str)
def test_attention_is_that_over_the_values_of_the_pages(
    formats: tuple[PageFormat | None, PageFormat | None], dtype: torch.dtype
) -> None:
    pool = filled(formats, dtype)
    query = random(BATCH, 9, HEADS, HEAD_DIM, dtype=dtype, seed=7).transpose(1, 2)
    result = paged_attention(query, [Segment(pool, (3, 0, 1))])
    check(result, expected(query, *values_of(pool, (3, 0, 1))), dtype)
    assert result.output.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("dtype", oracle.DTYPES, ids=str)
def test_the_query_is_rotated_instead_of_the_pages(dtype: torch.dtype) -> None:
    pool = filled(dtype=dtype, rotated=True)
    query = random(BATCH, HEADS, 9, HEAD_DIM, dtype=dtype, seed=7)
    check(paged_attention(query, [Segment(pool, (2, 3))]), expected(query, *values_of(pool, (2, 3))), dtype)


@pytest.mark.parametrize("dtype", oracle.DTYPES, ids=str)
def test_queries_and_outputs_are_rotated_in_blocks_as_the_pages_are(dtype: torch.dtype) -> None:
    """Pages come back as they were written, so dense attention to what is read knows nothing of a rotation."""
    whole, blocks, other = (filled(dtype=dtype, rotated_channels=size) for size in (None, 4, 2))
    query = random(BATCH, HEADS, 9, HEAD_DIM, dtype=dtype, seed=7)
    segments = [Segment(whole, (0,)), Segment(blocks, (2, 3)), Segment(other, (1,)), Segment(blocks, (1,), query + 1)]
    pages = [whole.read((0,)), blocks.read((2, 3)), other.read((1,)), blocks.read((1,))]
    key, value = (torch.cat(parts, 2).double() for parts in zip(*pages, strict=True))
    seen = [query, query, query, query, query + 1]
    parts = [one.double() @ page.mT for one, page in zip(seen, key.split(TOKENS, 2), strict=True)]
    scores = torch.cat(parts, -1) * HEAD_DIM**-0.5
    truth = scores.softmax(-1) @ value, scores.logsumexp(-1)
    check(paged_attention(query, segments), truth, dtype, slack=3)


@pytest.mark.parametrize("dtype", oracle.DTYPES, ids=str)
def test_segments_merge_into_attention_over_all_keys(dtype: torch.dtype) -> None:
    coded, other, rotated = filled(dtype=dtype), filled(FORMATS["2 bits"], dtype), filled(dtype=dtype, rotated=True)
    chunk = KeysAndValues(random(*SHAPE, dtype=dtype, seed=8), random(*SHAPE, dtype=dtype, seed=9))
    summary = KeysAndValues(chunk.key[:, :, :2], chunk.value[:, :, 3:5], random(BATCH, HEADS, 2, seed=10) + 2)
    query = random(BATCH, HEADS, 11, HEAD_DIM, dtype=dtype, seed=7)
    segments = [Segment(coded, (0, 2)), chunk, Segment(rotated, (1,)), Segment(other, (3,)), Segment(rotated, (2, 0))]
    pages = [values_of(coded, (0, 2)), values_of(other, (3,)), values_of(rotated, (0, 1, 2))]
    key, value = (torch.cat([*parts, *plain], 2) for *parts, plain in zip(*pages, [chunk[:1], chunk[1:2]], strict=True))
    bias = torch.zeros(BATCH, HEADS, key.shape[2], dtype=torch.float64)
    check(paged_attention(query, segments), expected(query, key, value, bias), dtype, slack=2)
    key, value, bias = (
        torch.cat(pair, 2) for pair in ((key, summary.key), (value, summary.value), (bias, summary.bias))
    )
    check(paged_attention(query, [summary, *segments]), expected(query, key, value, bias), dtype, slack=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_mean_key_with_the_logarithm_of_its_number_stands_for_as_many(dtype: torch.dtype) -> None:
    query, key, value = (random(1, 2, tokens, HEAD_DIM, dtype=dtype, seed=tokens) for tokens in (5, 1, 2))
    value, rest = value[:, :, :1], KeysAndValues(key - 1, value[:, :, 1:])
    repeated = KeysAndValues(key.expand(-1, -1, 1560, -1), value.expand(-1, -1, 1560, -1))
    bias = torch.tensor([math.log(1560)])
    one = paged_attention(query, [KeysAndValues(key, value, bias), rest])
    many = paged_attention(query, [repeated, rest])
    torch.testing.assert_close(one.lse, many.lse, rtol=0, atol=1e-4)
    torch.testing.assert_close(one.output, many.output, rtol=0, atol=max(1e-4, oracle.TOLERANCES[dtype]))


def test_a_segment_can_be_seen_by_a_query_of_its_own() -> None:
    query, other = (random(BATCH, HEADS, 6, HEAD_DIM, seed=seed) for seed in (7, 8))
    for rotated in (False, True):
        pool = filled(rotated=rotated)
        key, value = values_of(pool, (0, 1))
        scores = torch.cat([other @ key[:, :, :TOKENS].mT, query @ key[:, :, TOKENS:].mT], -1) * HEAD_DIM**-0.5
        result = paged_attention(query, [Segment(pool, (1,)), Segment(pool, (0,), other)])
        check(result, (scores.softmax(-1) @ value, scores.logsumexp(-1)), torch.float64)


def test_pages_have_no_order() -> None:
    query, pool = random(BATCH, HEADS, 6, HEAD_DIM), filled()
    one, other = (paged_attention(query, [Segment(pool, slots)]) for slots in ((3, 0, 2), torch.tensor([0, 2, 3])))
    assert torch.equal(one.output, other.output)


@pytest.mark.parametrize("scale", [0.0, 0.7, -0.4])
def test_scores_are_scaled(scale: float) -> None:
    query, pool = random(BATCH, HEADS, 6, HEAD_DIM), filled()
    truth = expected(query, *values_of(pool, (1, 2)), scale=scale)
    check(paged_attention(query, [Segment(pool, (1, 2))], scale), truth, torch.float64)


@pytest.mark.parametrize("segments", ["none", "empty"])
def test_without_keys_there_is_no_output(segments: str) -> None:
    query, pool = random(BATCH, HEADS, 6, HEAD_DIM, dtype=torch.bfloat16), filled(dtype=torch.bfloat16)
    nothing = query[:, :, :0]
    empty = [Segment(pool, ()), KeysAndValues(nothing, nothing), KeysAndValues(nothing, nothing, torch.zeros(0))]
    result = paged_attention(query, empty if segments == "empty" else [])
    assert not result.output.any()
    assert result.lse.isneginf().all()
    full = [Segment(pool, (0,))]
    for actual, right in zip(paged_attention(query, [*empty, *full]), paged_attention(query, full), strict=True):
        assert torch.equal(actual, right)


def test_no_queries_give_no_output() -> None:
    output, lse = paged_attention(random(BATCH, HEADS, 0, HEAD_DIM), [Segment(filled(), (0, 1))])
    assert output.shape == (BATCH, HEADS, 0, HEAD_DIM)
    assert lse.shape == (BATCH, HEADS, 0)


def test_a_bias_can_hide_all_keys() -> None:
    query, key = random(1, 2, 3, HEAD_DIM), random(1, 2, 5, HEAD_DIM)
    output, lse = paged_attention(query, [KeysAndValues(key, key, torch.full((5,), -torch.inf))])
    assert not output.any()
    assert lse.isneginf().all()


@pytest.mark.parametrize("budget", [1, 2 * TOKENS * HEAD_DIM, 5 * TOKENS * HEAD_DIM, 1 << 20])
@pytest.mark.parametrize("heads", [1, 3])
def test_what_is_decoded_at_once_does_not_change_the_result(
    budget: int, heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portable, "DECODED_VALUES", budget)
    shape = (BATCH, heads, TOKENS, HEAD_DIM)
    pool, query = filled(FORMATS["outliers"], shape=shape), random(BATCH, heads, 6, HEAD_DIM)
    truth = expected(query, *values_of(pool, (0, 1, 3)))
    check(paged_attention(query, [Segment(pool, (0, 1, 3))]), truth, torch.float64)


class Allocations(TorchDispatchMode):
    """Bytes of each tensor that is made, views left out."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: list[int] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        before = {x.untyped_storage().data_ptr() for x in args if isinstance(x, Tensor)}
        result = function(*args, **kwargs or {})
        for x in result if isinstance(result, tuple | list) else (result,):
            if isinstance(x, Tensor) and x.untyped_storage().data_ptr() not in before:
                self.bytes.append(x.untyped_storage().nbytes())
        return result


@contextmanager
def allocations() -> Iterator[list[int]]:
    with Allocations() as mode:
        yield mode.bytes


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("formats", [x for x in FORMATS.values() if x != (None, None)], ids=lambda _: "")
def test_nothing_as_large_as_the_keys_of_a_layer_is_made(
    formats: tuple[PageFormat | None, PageFormat | None], heads: int, rotated: bool
) -> None:
    pool = filled(formats, torch.bfloat16, (1, heads, 24, HEAD_DIM), slots=16, rotated=rotated)
    query = random(1, heads, 24, HEAD_DIM, dtype=torch.bfloat16)
    keys_of_layer = 16 * 24 * heads * HEAD_DIM * torch.bfloat16.itemsize
    with allocations() as made:
        paged_attention(query, [Segment(pool, range(16)), KeysAndValues(query, query)])
        pool.write(3, query, query)
        pool.read((5,))
    assert 0 < max(made) < keys_of_layer


def test_pages_without_a_format_are_read_where_they_are() -> None:
    pool = filled((None, None), torch.bfloat16, (1, 2, 64, HEAD_DIM), slots=8)
    query = random(1, 2, 4, HEAD_DIM, dtype=torch.bfloat16)
    with allocations() as made:
        paged_attention(query, [Segment(pool, (0, 1, 2, 5, 6))])
    page = 64 * 2 * HEAD_DIM * torch.bfloat16.itemsize
    assert max(made) < page


@every_format
def test_the_reference_follows_the_definition(formats: tuple[PageFormat | None, PageFormat | None]) -> None:
    pools = [filled(formats), filled(formats, rotated=True), filled(formats, rotated_channels=4)]
    query, other = (random(BATCH, HEADS, 4, HEAD_DIM, seed=seed) for seed in (7, 8))
    summary = KeysAndValues(random(*SHAPE, seed=9), random(*SHAPE, seed=10), random(TOKENS, seed=11))
    segments = [Segment(pools[0], (1, 3)), summary, Segment(pools[1], (2,), other), Segment(pools[2], (0,))]
    for actual, right in zip(paged_attention(query, segments), reference.paged_attention(query, segments), strict=True):
        torch.testing.assert_close(actual, right, rtol=0, atol=1e-12)
    nothing = reference.paged_attention(query, [])
    assert not nothing.output.any()
    assert nothing.lse.isneginf().all()


def mistakes() -> Iterator[tuple[str, Tensor, list[Segment | KeysAndValues]]]:
    query, pool = random(BATCH, HEADS, 6, HEAD_DIM), filled()
    key = random(*SHAPE)
    yield "(2, 3, 6)", query[..., 0], []
    yield "int64", query.long(), []
    yield "batch, heads and head_dim must agree", query[:, :2], [Segment(pool, (0,))]
    yield "read as torch.float64", query.float(), [Segment(pool, (0,))]
    yield "Slots [4, -1] do not exist; choose from 0 to 3", query, [Segment(pool, (0, 4, -1))]
    yield "Slots [4]", query, [Segment(pool, torch.tensor([0, 4]))]
    yield "The query of a segment", query, [Segment(pool, (0,), query[:, :, :2])]
    yield "dtypes", query, [KeysAndValues(key.float(), key.float())]
    yield "tokens of key and value", query, [KeysAndValues(key, key[:, :, 1:])]
    yield "The bias is torch.float64 of shape (11,)", query, [KeysAndValues(key, key, torch.zeros(11).double())]
    yield "torch.int64", query, [KeysAndValues(key, key, torch.zeros(TOKENS, dtype=torch.long))]
    yield (
        "move them to one device",
        query,
        [Segment(PagePool.allocate(1, SHAPE, None, None, query.dtype, "meta"), (0,))],
    )


@pytest.mark.parametrize(("message", "query", "segments"), [*mistakes()], ids=lambda x: x if isinstance(x, str) else "")
def test_what_does_not_fit_is_refused(message: str, query: Tensor, segments: list[Segment | KeysAndValues]) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        paged_attention(query, segments)
    assert message in str(caught.value)

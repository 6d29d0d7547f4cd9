"""Paged attention on a GPU against the definition: small shapes whole, the shape of Wan-1.3B on sampled rows."""

from typing import Any

import attention_oracle as oracle
import pytest
import torch
from torch import Tensor

from hasten.app.bench_paged import PagedCase, run
from hasten.kernels import KeysAndValues, PageFormat, PagePool, Segment, paged_attention, paged_implementation

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use"),
]

HALVES = [torch.float16, torch.bfloat16]
SAMPLED_ROWS = 24
SYMMETRIC_4 = PageFormat(4, "channel", 15, symmetric=True)
FORMATS = {
    "4 bits": (SYMMETRIC_4, SYMMETRIC_4),
    "2 bits": (PageFormat(2, "channel", 15, symmetric=True), PageFormat(2, "token", 32, symmetric=True)),
    "8 bits of keys, 4 of values": (PageFormat(8, "channel", 12, symmetric=False), SYMMETRIC_4),
    "KIVI": (PageFormat(4, "channel", 15, symmetric=False), PageFormat(4, "token", 64, symmetric=False)),
    "residual": (PageFormat(2, "channel", 15, symmetric=True, residual_bits=4),) * 2,
    "gaussian": (PageFormat(4, "token", 64, symmetric=True, codebook="gaussian"),) * 2,
    "outliers": (PageFormat(4, "channel", 15, symmetric=False, outlier_sigma=3.0, outlier_share=0.01),) * 2,
    "no format": (None, None),
}
STREAMED = set(FORMATS) - {"outliers", "no format"}


def filled(
    name: str,
    page: tuple[int, int, int, int],
    slots: int,
    dtype: torch.dtype,
    *,
    rotated: bool = False,
    rotated_channels: int | None = None,
) -> PagePool:
    keys, values = FORMATS[name]
    pool = PagePool.allocate(
        slots, page, keys, values, dtype, "cuda", rotated=rotated, rotated_channels=rotated_channels
    )
    generator = torch.Generator("cuda").manual_seed(0)
    for slot in range(slots):
        pool.write(slot, *(torch.randn(page, generator=generator, device="cuda") for _ in range(2)))
    return pool


def random_query(page: tuple[int, int, int, int], queries: int, dtype: torch.dtype) -> Tensor:
    batch, heads, _, channels = page
    return torch.randn(batch, queries, heads, channels, device="cuda").to(dtype).transpose(1, 2)


def check(result: tuple[Tensor, ...], query: Tensor, pages: tuple[Tensor, ...], dtype: torch.dtype) -> None:
    key, value = (x.cpu() for x in pages)
    truth = oracle.attention_over(query.cpu(), key, value, lambda _: list(range(key.shape[2])))
    for actual, right in zip(result, truth, strict=True):
        torch.testing.assert_close(actual.cpu().double(), right, rtol=0, atol=2 * oracle.TOLERANCES[dtype])


@pytest.mark.parametrize(
    "rotation", [{}, {"rotated": True}, {"rotated_channels": 32}], ids=["", "rotated", "rotated in blocks"]
)
@pytest.mark.parametrize("dtype", [*HALVES, torch.float32], ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_small_pages_follow_the_definition(name: str, dtype: torch.dtype, rotation: dict[str, Any]) -> None:
    page = (2, 2, 180, 64)
    pool, query = filled(name, page, 4, dtype, **rotation), random_query(page, 150, dtype)
    assert paged_implementation(query, pool) == ("triton" if name in STREAMED else "portable")
    result = paged_attention(query, [Segment(pool, (3, 0, 1))])
    check(result, query, pool.read((3, 0, 1)), dtype)


@pytest.mark.parametrize("head_dim", [32, 40, 72, 96, 128, 256])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_head_dims_follow_the_definition(head_dim: int, dtype: torch.dtype) -> None:
    page = (1, 3, 60, head_dim)
    pool, query = filled("4 bits", page, 2, dtype), random_query(page, 33, dtype)
    check(paged_attention(query, [Segment(pool, (1, 0))]), query, pool.read((0, 1)), dtype)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", ["4 bits", "2 bits", "KIVI"])
def test_the_shape_of_a_model_follows_the_definition_on_sampled_rows(name: str, dtype: torch.dtype) -> None:
    page = (1, 12, 1560, 128)
    pool, query = filled(name, page, 18, dtype), random_query(page, 4680, dtype)
    rows = torch.randint(4680, (SAMPLED_ROWS,), generator=torch.Generator().manual_seed(0)).tolist()
    result = [x[:, ::11, [0, 4679, *rows]] for x in paged_attention(query, [Segment(pool, range(18))])]
    check(tuple(result), query[:, ::11, [0, 4679, *rows]], [x[:, ::11] for x in pool.read(range(18))], dtype)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_segments_merge_into_attention_over_all_keys(dtype: torch.dtype) -> None:
    page = (1, 2, 180, 64)
    coded, rotated = (filled("4 bits", page, 2, dtype, rotated=turned) for turned in (False, True))
    chunk, query = (random_query(page, tokens, dtype) for tokens in (100, 50))
    summary = chunk[:, :, :1]
    segments = [
        Segment(coded, torch.tensor([1], dtype=torch.int32, device="cuda")),
        Segment(rotated, (0, 1)),
        KeysAndValues(chunk, chunk),
        KeysAndValues(summary, summary, torch.tensor([7.0], device="cuda").log()),
    ]
    repeated = summary.expand(-1, -1, 7, -1)
    parts = [coded.read((1,)), rotated.read((0, 1)), (chunk, chunk), (repeated, repeated)]
    check(paged_attention(query, segments), query, tuple(torch.cat(x, 2) for x in zip(*parts, strict=True)), dtype)


def test_coded_pages_take_no_memory_besides_the_output() -> None:
    page = (1, 12, 1560, 128)
    pool = filled("4 bits", page, 8, torch.bfloat16, rotated=False)
    query, segments = random_query(page, 1560, torch.bfloat16), [Segment(pool, range(8))]
    paged_attention(query, segments)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    output, lse = paged_attention(query, segments)
    assert torch.cuda.max_memory_allocated() - before <= output.nbytes + lse.nbytes + 4096


def test_pages_are_timed_on_the_gpu() -> None:
    case = PagedCase("small", *FORMATS["4 bits"], pages=4, page_tokens=240, queries=300, heads=4)
    (row,) = run([case], device="cuda")["rows"]
    assert row["implementation"] == "triton"
    assert row["seconds_ratio"] > 0

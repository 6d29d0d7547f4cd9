"""Times attention over coded pages against dense attention to the same keys as they are, after checking it.

Ratios are of medians over interleaved calls; 1.10 means that the pages take a tenth longer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hasten.app.attention_timing import interleaved_medians, peak_allocated_bytes
from hasten.app.bench_attention import SAMPLED_ROWS, TOLERANCES, dense_calls
from hasten.app.machine import provenance
from hasten.kernels import PageFormat, PagePool, Segment, paged_attention, paged_implementation


@dataclass(frozen=True)
class PagedCase:
    """Pages to measure.

    Args:
        name (`str`): as in the table.
        keys (`PageFormat`, *optional*), values (`PageFormat`, *optional*): formats; `None` for pages as they are.
        rotated (`bool`): whether the pages are.
        rotated_channels (`int`, *optional*): or whether so many of their channels at a time are.
        pages (`int`), page_tokens (`int`), queries (`int`), heads (`int`), head_dim (`int`): sizes.
    """

    name: str
    keys: PageFormat | None
    values: PageFormat | None
    rotated: bool = False
    rotated_channels: int | None = None
    pages: int = 16
    page_tokens: int = 1024
    queries: int = 1536
    heads: int = 12
    head_dim: int = 128


def _channels(bits: int, symmetric: bool = True) -> PageFormat:
    return PageFormat(bits, "channel", 16, symmetric)


_GAUSSIAN = PageFormat(4, "token", 128, symmetric=True, codebook="gaussian")
_BLOCKS = PageFormat(4, "token", 32, symmetric=False)

CASES = (
    PagedCase("16 bits", None, None),
    PagedCase("RTN, 4 bits", _channels(4), _channels(4)),
    PagedCase("RTN, 2 bits", _channels(2), _channels(2)),
    PagedCase("KIVI, 4 bits", _channels(4, symmetric=False), PageFormat(4, "token", 128, symmetric=False)),
    PagedCase("QuaRot, 4 bits", _channels(4), _channels(4), rotated=True),
    PagedCase("TurboQuant, 4 bits", _GAUSSIAN, _GAUSSIAN, rotated=True),
    PagedCase("RotateKV, 4 bits", _BLOCKS, _BLOCKS, rotated_channels=32),
)


def run(
    cases: Sequence[PagedCase] = CASES,
    dtype: str = "bfloat16",
    repeats: int = 5,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Checks, measures and times each case.

    Args:
        cases (`Sequence[PagedCase]`): by default 16,384 keys and 1,536 queries of 12 heads and 128 channels.
        dtype (`str`): of queries and of dense attention: "bfloat16", "float16" or "float32".
        repeats (`int`): timed calls of each side of a ratio.
        device (`torch.device`): a CPU, or a GPU that CUDA or ROCm drives.

    Returns:
        `dict`: `rows`, `device`, `versions` and `command`. A row has `name`, `dtype`, `tokens` (keys), `queries`,
        `seconds_ratio` (to dense attention), `bytes_ratio` (of the keys and values as they are to the pages),
        `max_error` (from float64 over the values of the pages, on sampled queries), `extra_bytes` (peak of what torch
        allocates during a call) and `implementation`.

    Raises:
        RuntimeError: if a result is less exact than its dtype allows; nothing is timed then.
    """
    device = torch.device(device)
    with torch.inference_mode():
        rows = [_measure(case, dtype, repeats, device) for case in cases]
    return {"rows": rows, **provenance(device)}


def _measure(case: PagedCase, dtype: str, repeats: int, device: torch.device) -> dict[str, Any]:
    query, key, value = _inputs(case, getattr(torch, dtype), device)
    page = (1, case.heads, case.page_tokens, case.head_dim)
    pool = PagePool.allocate(
        case.pages,
        page,
        case.keys,
        case.values,
        query.dtype,
        device,
        rotated=case.rotated,
        rotated_channels=case.rotated_channels,
    )
    pages = zip(key.split(case.page_tokens, dim=2), value.split(case.page_tokens, dim=2), strict=True)
    for slot, (page_of_keys, page_of_values) in enumerate(pages):
        pool.write(slot, page_of_keys, page_of_values)
    segments = [Segment(pool, range(case.pages))]

    def paged() -> Tensor:
        return paged_attention(query, segments).output

    max_error = _max_error(query, pool, paged())
    if not max_error <= TOLERANCES[dtype]:
        raise RuntimeError(f"{case.name} in {dtype} is off by {max_error:.1e}, allowed are {TOLERANCES[dtype]:.0e}.")
    extra_bytes = peak_allocated_bytes(paged, device)
    seconds, *dense_seconds = interleaved_medians((paged, *dense_calls(query, key, value)), repeats, device)
    return {
        "name": case.name,
        "dtype": dtype,
        "tokens": key.shape[2],
        "queries": case.queries,
        "seconds_ratio": seconds / min(dense_seconds),
        "bytes_ratio": (key.nbytes + value.nbytes) / pool.nbytes,
        "max_error": max_error,
        "extra_bytes": extra_bytes,
        "implementation": paged_implementation(query, pool),
    }


def _inputs(case: PagedCase, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Returns random query, key and value with the strides that diffusers gives them."""
    generator = torch.Generator(device).manual_seed(0)
    tokens = (case.queries, case.pages * case.page_tokens, case.pages * case.page_tokens)
    shapes = [(1, count, case.heads, case.head_dim) for count in tokens]
    return [torch.randn(shape, generator=generator, device=device).to(dtype).transpose(1, 2) for shape in shapes]


def _max_error(query: Tensor, pool: PagePool, output: Tensor) -> float:
    """Returns the largest difference from float64 on sampled queries, one head at a time."""
    rows = torch.randint(query.shape[2], (SAMPLED_ROWS,), generator=torch.Generator().manual_seed(0)).to(query.device)
    key, value = pool.read(range(pool.slots))
    errors = []
    for head in range(query.shape[1]):
        weights = (query[0, head, rows].double() @ key[0, head].double().mT * query.shape[-1] ** -0.5).softmax(-1)
        errors.append((output[0, head, rows] - weights @ value[0, head].double()).abs().max().item())
    return max(errors)

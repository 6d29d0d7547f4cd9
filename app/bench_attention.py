"""Times window, reshaped and refresh attention against dense attention of the same process, after checking them.

Dense attention is `scaled_dot_product_attention`, on a GPU the faster of its flash and its cuDNN kernel. Speed-ups are
ratios of medians over interleaved calls. Extra bytes are the peak of what torch's allocator hands out during one call,
results and scratch buffers of its operators included; resident memory would also count what earlier calls left.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from hasten.app.attention_cases import CPU_CASES, GPU_CASES, Case
from hasten.app.attention_timing import interleaved_medians, peak_allocated_bytes
from hasten.app.errors import UserError
from hasten.app.machine import provenance
from hasten.kernels import (
    BandLayout,
    Layout,
    TileLayout,
    implementation,
    refresh_attention,
    reshaped_attention,
    window_attention,
)

TOLERANCES = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 5e-3}
DTYPES = {"cpu": ("float32", "bfloat16"), "cuda": ("bfloat16",)}
SAMPLED_ROWS = 48
RATIO = 0.25  # of the sparse step: any will do


def run(
    dtypes: Sequence[str] | None = None,
    cases: Sequence[Case] | None = None,
    repeats: int = 5,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Checks, measures and times each case in each dtype.

    Args:
        dtypes (`Sequence[str]`, *optional*): of "float32", "bfloat16" and "float16"; on a CPU the first two, on a GPU
            bfloat16.
        cases (`Sequence[Case]`, *optional*): shapes to measure, those for the device by default.
        repeats (`int`): timed calls of each side of a ratio, at least 1.
        device (`torch.device`): a CPU, or a GPU that CUDA or ROCm drives.

    Returns:
        `dict`: `rows`, `device`, `versions` and `command`. A row has `name`, `dtype`, `tokens`, `density` (share of the
        query-key pairs that the result depends on, 1 for a refresh), `speedup` over dense attention, `efficiency`
        (speed-up times density), `max_error` (largest difference of all results from float64 on sampled rows) and
        `extra_bytes`; from a GPU also `seconds`, `dense_seconds` and the `implementation`.

    Raises:
        ValueError: if a dtype is not one of those above, `repeats` is less than 1, or nothing is timed on the device.
        RuntimeError: if a result is less exact than its dtype allows; nothing is timed then.
    """
    device = torch.device(device)
    if device.type not in DTYPES:
        raise UserError(f"Attention is not timed on {device.type!r}; choose cpu or cuda.")
    dtypes = dtypes or DTYPES[device.type]
    for dtype in dtypes:
        if dtype not in TOLERANCES:
            raise ValueError(f"dtype {dtype!r} is not measured; choose from {', '.join(TOLERANCES)}.")
    if repeats < 1:
        raise ValueError(f"repeats={repeats} leaves nothing to time; pass at least 1.")
    cases = cases or (GPU_CASES if device.type == "cuda" else CPU_CASES)
    rows = [_measure(case, dtype, repeats, device) for case in cases for dtype in dtypes]
    return {"rows": rows, **provenance(device)}


def _measure(case: Case, dtype: str, repeats: int, device: torch.device) -> dict[str, Any]:
    query, key, value, residual = _inputs(case, getattr(torch, dtype), device)
    accelerated = _accelerated(case, query, key, value, residual)
    with torch.inference_mode():
        max_error = _max_error(case, query, key, value, residual, accelerated())
        if not max_error <= TOLERANCES[dtype]:
            raise RuntimeError(
                f"{case.name} in {dtype} is off by {max_error:.1e}, allowed are {TOLERANCES[dtype]:.0e}."
            )
        extra_bytes = peak_allocated_bytes(accelerated, device)
        seconds, *dense_seconds = interleaved_medians((accelerated, *dense_calls(query, key, value)), repeats, device)
    density = 1.0 if case.operation == "refresh" else case.layout.density
    speedup = min(dense_seconds) / seconds
    row = {
        "name": case.name,
        "dtype": dtype,
        "tokens": case.layout.tokens,
        "density": density,
        "speedup": speedup,
        "efficiency": speedup * density,
        "max_error": max_error,
        "extra_bytes": extra_bytes,
    }
    if device.type == "cuda":
        row |= {"seconds": seconds, "dense_seconds": min(dense_seconds), "implementation": implementation(query)}
    return row


def _accelerated(
    case: Case, query: Tensor, key: Tensor, value: Tensor, residual: Tensor
) -> Callable[[], tuple[Tensor, ...]]:
    if case.operation == "refresh":
        return lambda: refresh_attention(query, key, value, case.layout)
    if case.operation == "reshape":
        ratio = torch.full((case.batch, case.heads, 1), RATIO, device=query.device)
        return lambda: (reshaped_attention(query, key, value, case.layout, ratio, residual),)
    return lambda: window_attention(query, key, value, case.layout)


def dense_calls(query: Tensor, key: Tensor, value: Tensor) -> list[Callable[[], Tensor]]:
    """Returns the kernels of dense attention that are fast on the device: on a GPU flash and cuDNN, where they run."""

    def dense() -> Tensor:
        return scaled_dot_product_attention(query, key, value)

    if query.device.type == "cpu":
        return [dense]

    def call(backend: SDPBackend) -> Tensor:
        with sdpa_kernel(backend):
            return dense()

    calls: list[Callable[[], Tensor]] = []
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION):
        try:
            call(backend)
        except RuntimeError:  # not built into this torch, or not for this dtype
            continue
        calls.append(partial(call, backend))
    return calls or [dense]


def _inputs(case: Case, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Returns random query, key, value and residual with the strides that diffusers gives them."""
    generator = torch.Generator(device).manual_seed(0)
    shape = (case.batch, case.layout.tokens, case.heads, case.head_dim)
    count = 4 if case.operation == "reshape" else 3
    tensors = [torch.randn(shape, generator=generator, device=device).to(dtype).transpose(1, 2) for _ in range(count)]
    return tensors if count == 4 else [*tensors, tensors[0]]


def _max_error(
    case: Case, query: Tensor, key: Tensor, value: Tensor, residual: Tensor, result: tuple[Tensor, ...]
) -> float:
    """Returns the largest difference from float64 on sampled rows; nothing of size N x N is built."""
    rows = _sampled_rows(case.layout).to(query.device)
    seen = _seen_keys(case.layout, rows)
    scores = query[:, :, rows].double() @ key.double().transpose(-1, -2) * case.head_dim**-0.5
    window = _softmax(scores.masked_fill(~seen, -torch.inf), value)
    expected: tuple[Tensor, ...] = window
    if case.operation == "refresh":
        dense = _softmax(scores, value)
        outside_weights = scores.softmax(-1).masked_fill(seen, 0.0)
        expected = (*dense, *window, outside_weights @ value.double())
    elif case.operation == "reshape":
        expected = (RATIO * window[0] + residual[:, :, rows].double(),)
    return max(
        (actual[:, :, rows].double() - truth).abs().max().item() for actual, truth in zip(result, expected, strict=True)
    )


def _softmax(scores: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    return scores.softmax(-1) @ value.double(), scores.logsumexp(-1)


def _sampled_rows(layout: Layout) -> Tensor:
    """Returns both ends of the text and of the visual tokens, the inner ends of a band's frames, and random rows."""
    visual = layout.visual
    line = layout.frame_tokens if isinstance(layout, BandLayout) else 1
    ends = [0, layout.tokens - 1, visual.start, visual.start + line - 1, visual.stop - line, visual.stop - 1]
    generator = torch.Generator().manual_seed(0)
    return torch.cat([torch.tensor(ends), torch.randint(layout.tokens, (SAMPLED_ROWS,), generator=generator)])


def _seen_keys(layout: Layout, rows: Tensor) -> Tensor:
    """Returns the (rows, tokens) mask of the keys that the rows see, from the definition of the layout."""
    index = torch.arange(layout.tokens, device=rows.device)
    is_text = (index < layout.visual.start) | (index >= layout.visual.stop)
    visual = (index - layout.visual.start).clamp(0, layout.visual_tokens - 1)
    if isinstance(layout, BandLayout):
        position = visual % layout.frame_tokens
        inside = (position[rows, None] - position).abs() <= layout.half_width
    elif isinstance(layout, TileLayout):
        inside = _in_box(layout, visual, rows)
    else:
        raise NotImplementedError(f"{type(layout).__name__} is not measured; pass a BandLayout or a TileLayout.")
    return inside | is_text | is_text[rows, None]


def _in_box(layout: TileLayout, visual: Tensor, rows: Tensor) -> Tensor:
    _, height, width = layout.grid
    places = (visual // (height * width), visual // width % height, visual % width)
    inside = torch.ones(len(rows), len(visual), dtype=torch.bool, device=rows.device)
    for place, size, tile, window in zip(places, layout.grid, layout.tile, layout.window, strict=True):
        before = (window - tile + 1) // 2  # of the window lie before the tile, unless it is shifted into the grid
        first = (place[rows] // tile * tile - before).clamp(0, size - window)
        inside &= (place >= first[:, None]) & (place < first[:, None] + window)
    return inside

"""Times window and refresh attention against `scaled_dot_product_attention` of the same process, after checking them.

Speed-ups are ratios of medians over interleaved calls, so that a slow minute of the machine meets both sides. Extra
bytes are the peak of what torch's allocator hands out during one call, results and scratch buffers of its operators
included, as the memory events of `torch.profiler` tell it; resident memory would also count what earlier calls left.
"""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.profiler import ProfilerActivity, profile

from hasten.app.machine import provenance
from hasten.kernels import BandLayout, refresh_attention, window_attention

TOLERANCES = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 5e-3}
SAMPLED_ROWS = 48


@dataclass(frozen=True)
class Case:
    """One shape to measure.

    Args:
        name (`str`): as in the table.
        layout (`BandLayout`): tokens and windows.
        batch (`int`), heads (`int`), head_dim (`int`): the other sizes of query, key and value.
        operation (`str`): "window", or "refresh" for dense attention, window and residual together.
    """

    name: str
    layout: BandLayout
    batch: int = 1
    heads: int = 8
    head_dim: int = 64
    operation: Literal["window", "refresh"] = "window"


# CogVideoX-2b at 480 x 720 and PixArt at 1024 with Re-ttention's density, and the emoji-image model. Few heads: the
# ratios do not depend on them, the minutes that dense attention over 17,776 tokens takes do.
_VIDEO = BandLayout.from_density(0.03125, frame_tokens=1350, frames=13, text_tokens=226)
_IMAGE_4096 = BandLayout.from_density(0.03125, frame_tokens=4096)
_IMAGE_2304 = BandLayout.from_density(0.03125, frame_tokens=2304)

CASES = (
    Case("video 226+13x1350", _VIDEO, heads=4),
    Case("image 4096", _IMAGE_4096),
    Case("image 2304", _IMAGE_2304, batch=2, heads=4),
    Case("refresh video 226+13x1350", _VIDEO, heads=2, operation="refresh"),
    Case("refresh image 4096", _IMAGE_4096, operation="refresh"),
    Case("refresh image 2304", _IMAGE_2304, batch=2, heads=4, operation="refresh"),
)


def run(
    dtypes: Sequence[str] = ("float32", "bfloat16"), cases: Sequence[Case] = CASES, repeats: int = 5
) -> dict[str, Any]:
    """Checks, measures and times each case in each dtype on the CPU.

    Args:
        dtypes (`Sequence[str]`): of "float32", "bfloat16" and "float16".
        cases (`Sequence[Case]`): shapes to measure.
        repeats (`int`): timed calls of each side of a ratio, at least 1.

    Returns:
        `dict`: `rows`, `device`, `versions` and `command`. A row has `name`, `dtype`, `tokens`, `density` (share of the
        query-key pairs that the result depends on, 1 for a refresh), `speedup` over dense attention, `efficiency`
        (speed-up times density), `max_error` (largest difference of outputs, log-sum-exps and residual from float64 on
        sampled rows) and `extra_bytes`.

    Raises:
        ValueError: if a dtype is not one of those above or `repeats` is less than 1.
        RuntimeError: if a result is less exact than its dtype allows; nothing is timed then.
    """
    for dtype in dtypes:
        if dtype not in TOLERANCES:
            raise ValueError(f"dtype {dtype!r} is not measured; choose from {', '.join(TOLERANCES)}.")
    if repeats < 1:
        raise ValueError(f"repeats={repeats} leaves nothing to time; pass at least 1.")
    rows = [_measure(case, dtype, repeats) for case in cases for dtype in dtypes]
    return {"rows": rows, **provenance(torch.device("cpu"))}


def _measure(case: Case, dtype: str, repeats: int) -> dict[str, Any]:
    query, key, value = _inputs(case, getattr(torch, dtype))
    attention = window_attention if case.operation == "window" else refresh_attention
    density = case.layout.density if case.operation == "window" else 1.0

    def accelerated() -> tuple[Tensor, ...]:
        return attention(query, key, value, case.layout)

    def dense() -> Tensor:
        return scaled_dot_product_attention(query, key, value)

    with torch.inference_mode():
        max_error = _max_error(case, query, key, value, accelerated())
        if not max_error <= TOLERANCES[dtype]:
            raise RuntimeError(
                f"{case.name} in {dtype} is off by {max_error:.1e}, allowed are {TOLERANCES[dtype]:.0e}."
            )
        extra_bytes = peak_allocated_bytes(accelerated)
        dense_seconds, seconds = _interleaved_medians((dense, accelerated), repeats)
    speedup = dense_seconds / seconds
    return {
        "name": case.name,
        "dtype": dtype,
        "tokens": case.layout.tokens,
        "density": density,
        "speedup": speedup,
        "efficiency": speedup * density,
        "max_error": max_error,
        "extra_bytes": extra_bytes,
    }


def _inputs(case: Case, dtype: torch.dtype) -> list[Tensor]:
    """Returns random query, key and value with the strides that diffusers gives them."""
    generator = torch.Generator().manual_seed(0)
    shape = (case.batch, case.layout.tokens, case.heads, case.head_dim)
    return [torch.randn(shape, generator=generator).to(dtype).transpose(1, 2) for _ in range(3)]


def peak_allocated_bytes(call: Callable[[], object]) -> int:
    """Returns the peak of the memory that torch allocates on the CPU during a call, above what was there before."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own notes would mix with what the user reads
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = call()
    del result
    events = profiler.profiler.kineto_results.events()
    current = peak = 0
    for event in sorted((event for event in events if event.name() == "[memory]"), key=lambda event: event.start_ns()):
        current += event.nbytes()
        peak = max(peak, current)
    return peak


def _interleaved_medians(calls: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    seconds: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(repeats):
        for call, taken in zip(calls, seconds, strict=True):
            began = time.perf_counter()
            call()
            taken.append(time.perf_counter() - began)
    return [statistics.median(taken) for taken in seconds]


def _max_error(case: Case, query: Tensor, key: Tensor, value: Tensor, result: tuple[Tensor, ...]) -> float:
    """Returns the largest difference from float64 on sampled rows; nothing of size N x N is built."""
    rows = _sampled_rows(case.layout)
    seen = _seen_keys(case.layout, rows)
    scores = query[:, :, rows].double() @ key.double().transpose(-1, -2) * case.head_dim**-0.5
    window = _softmax(scores.masked_fill(~seen, -torch.inf), value)
    expected: tuple[Tensor, ...] = window
    if case.operation == "refresh":
        dense = _softmax(scores, value)
        outside_weights = scores.softmax(-1).masked_fill(seen, 0.0)
        expected = (*dense, *window, outside_weights @ value.double())
    return max(
        (actual[:, :, rows].double() - truth).abs().max().item() for actual, truth in zip(result, expected, strict=True)
    )


def _softmax(scores: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    return scores.softmax(-1) @ value.double(), scores.logsumexp(-1)


def _sampled_rows(layout: BandLayout) -> Tensor:
    """Returns both ends of the text and of the first and last frame, and rows drawn at random."""
    visual, frame = layout.visual, layout.frame_tokens
    ends = [0, layout.tokens - 1, visual.start, visual.start + frame - 1, visual.stop - frame, visual.stop - 1]
    generator = torch.Generator().manual_seed(0)
    return torch.cat([torch.tensor(ends), torch.randint(layout.tokens, (SAMPLED_ROWS,), generator=generator)])


def _seen_keys(layout: BandLayout, rows: Tensor) -> Tensor:
    """Returns the (rows, tokens) bool mask of the keys that the rows see, from the definition of the layout."""
    index = torch.arange(layout.tokens)
    is_text = (index < layout.visual.start) | (index >= layout.visual.stop)
    position = (index - layout.visual.start) % layout.frame_tokens
    in_band = (position[rows, None] - position).abs() <= layout.half_width
    return in_band | is_text | is_text[rows, None]

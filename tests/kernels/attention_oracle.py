"""Attention from its definition: float64, one query at a time, over explicit sets of keys; no code of hasten."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 2e-2}
DTYPES = list(TOLERANCES)


def keys_in_band(
    query: int, *, frame_tokens: int, half_width: int, frames: int, text_tokens: int, text_first: bool
) -> list[int]:
    """Indices of the keys that one query sees, in order."""
    first_visual = text_tokens if text_first else 0
    visual = range(first_visual, first_visual + frames * frame_tokens)
    everything = range(text_tokens + frames * frame_tokens)
    if query not in visual:
        return list(everything)
    position = (query - first_visual) % frame_tokens
    seen = []
    for key in everything:
        if key not in visual or abs((key - first_visual) % frame_tokens - position) <= half_width:
            seen.append(key)
    return seen


def keys_in_box(
    query: int,
    *,
    frames: int,
    height: int,
    width: int,
    tile: tuple[int, int, int],
    window: tuple[int, int, int],
    text_tokens: int,
    text_first: bool,
) -> list[int]:
    """Indices of the keys that one query sees through the window of its tile, in order."""
    grid = (frames, height, width)
    places = list(itertools.product(*(range(size) for size in grid)))
    first_visual = text_tokens if text_first else 0
    visual = range(first_visual, first_visual + len(places))
    everything = range(text_tokens + len(places))
    if query not in visual:
        return list(everything)
    box = []
    for place, size, across, wide in zip(places[query - first_visual], grid, tile, window, strict=True):
        corner = place - place % across + math.floor((across - wide) / 2)
        while corner + wide > size:
            corner -= 1
        corner = max(corner, 0)
        box.append(range(corner, min(corner + wide, size)))
    return [
        key
        for key in everything
        if key not in visual or all(at in span for at, span in zip(places[key - first_visual], box, strict=True))
    ]


def attention_over(
    query: Tensor, key: Tensor, value: Tensor, keys_of: Callable[[int], list[int]], scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp of the attention of each query to its own list of keys."""
    q, k, v = (x.double().numpy() for x in (query, key, value))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    output = np.zeros(q.shape)
    lse = np.full(q.shape[:3], -np.inf)
    for row in range(q.shape[2]):
        keys = keys_of(row)
        if not keys:
            continue
        scores = np.einsum("bhd,bhkd->bhk", q[:, :, row], k[:, :, keys]) * scale
        highest = scores.max(-1, keepdims=True)
        weights = np.exp(scores - highest)
        total = weights.sum(-1, keepdims=True)
        output[:, :, row] = np.einsum("bhk,bhkd->bhd", weights / total, v[:, :, keys])
        lse[:, :, row] = (highest + np.log(total))[..., 0]
    return torch.from_numpy(output), torch.from_numpy(lse)


def random_inputs(
    batch: int, heads: int, tokens: int, head_dim: int, dtype: torch.dtype, memory: tuple[int, ...] = (0, 1, 2, 3)
) -> list[Tensor]:
    """Query, key and value whose dimensions lie in memory in the given order."""
    generator = torch.Generator().manual_seed(tokens * 7919 + heads * 31 + head_dim)
    sizes = (batch, heads, tokens, head_dim)
    back = [memory.index(dim) for dim in range(4)]
    return [torch.randn([sizes[dim] for dim in memory], generator=generator).to(dtype).permute(back) for _ in range(3)]


def assert_close(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Checks the largest difference against what the dtype of the inputs allows."""
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=TOLERANCES[dtype], equal_nan=False)


bands = st.fixed_dictionaries(
    {
        "frame_tokens": st.integers(1, 48),
        "half_width": st.integers(0, 50),
        "frames": st.integers(1, 3),
        "text_tokens": st.integers(0, 9),
        "text_first": st.booleans(),
    }
)


@st.composite
def boxes(draw: st.DrawFn) -> dict:
    """Arguments of a `TileLayout`; windows and tiles may be larger than the grid."""
    grid = {"frames": draw(st.integers(1, 4)), "height": draw(st.integers(1, 9)), "width": draw(st.integers(1, 9))}
    tile = draw(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)))
    window = tuple(side + draw(st.integers(0, 5)) for side in tile)
    text = {"text_tokens": draw(st.integers(0, 9)), "text_first": draw(st.booleans())}
    return {**grid, "tile": tile, "window": window, **text}


sizes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 7, 8, 16, 33]))
memory_orders = st.permutations(range(4)).map(tuple)
dtypes = st.sampled_from(DTYPES)

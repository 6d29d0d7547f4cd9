"""From how many tokens on a sparse step is faster than dense attention: the `min_tokens` that suits a machine."""

from collections.abc import Sequence
from typing import Any

import torch

import hasten
from hasten.app.attention_cases import Case
from hasten.app.bench_attention import run
from hasten.app.loading import LoadedModel
from hasten.families import TokenGrid, family_of

SIDES = (8, 12, 16, 24, 32, 48, 64)
"""Rows and columns of the square pictures that are timed."""


def measure_break_even(
    config: hasten.RettentionConfig,
    *,
    batch: int,
    heads: int,
    head_dim: int,
    dtype: str,
    device: torch.device,
    sides: Sequence[int] | None = None,
    repeats: int = 5,
) -> dict[str, Any]:
    """Times a sparse step of square pictures, with its ratio and residual, against dense attention.

    Args:
        config (`RettentionConfig`): gives the window and its density.
        batch (`int`), heads (`int`), head_dim (`int`): the other sizes of query, key and value.
        dtype (`str`): "float32", "bfloat16" or "float16".
        device (`torch.device`): a CPU, or a GPU that CUDA or ROCm drives.
        sides (`Sequence[int]`, *optional*): rows, and columns, of the pictures; `SIDES` by default.
        repeats (`int`): timed calls of each side of a ratio.

    Returns:
        `dict`: what `bench_attention.run` returns, and `min_tokens`: see `least_tokens`.
    """
    cases = [
        Case(
            f"{side} x {side}",
            config.layout(TokenGrid(side, side)),
            batch=batch,
            heads=heads,
            head_dim=head_dim,
            operation="reshape",
        )
        for side in sorted(sides or SIDES)
    ]
    result = run([dtype], cases, repeats, device)
    return {**result, "min_tokens": least_tokens(result["rows"])}


def break_even_of(model: LoadedModel, config: hasten.RettentionConfig) -> int | None:
    """Tokens from which on sparse attention by `config` is faster on the model's device, with its heads and dtype.

    Square pictures of up to 4,096 tokens are timed; None if dense attention is faster at all of them.
    """
    module = family_of(model.pipe).layers(model.denoiser)[0].module
    result = measure_break_even(
        config,
        batch=1,
        heads=module.heads,
        head_dim=module.inner_dim // module.heads,
        dtype=str(model.denoiser.dtype).removeprefix("torch."),
        device=model.pipe.device,
        repeats=3,
    )
    return result["min_tokens"]


def least_tokens(rows: Sequence[dict[str, Any]]) -> int | None:
    """Tokens of the first row from which on every one is faster than dense attention; None if the last one is not.

    Args:
        rows (`Sequence[dict]`): `tokens` and `speedup` of each, by ascending tokens.
    """
    least = None
    for row in reversed(rows):
        if row["speedup"] <= 1:
            break
        least = row["tokens"]
    return least

"""The refresh on a GPU in two launches: the windows of the visual queries, then dense attention, which ends with R.

Dense attention is the attention of a band that reaches everywhere. It has its sums at hand in float32 when it reads the
output of the windows back, and rounds R = O - rho · O_window once. Together the launches cost 1 + the density of the
windows. One launch that keeps the sums of both was built first: at 128 channels they do not fit the registers.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from hasten.kernels.launch import Launch, empty_output, launch
from hasten.kernels.layout import BandLayout, Layout
from hasten.kernels.outputs import RefreshOutput
from hasten.kernels.streaming import (
    Cut,
    Inputs,
    Sequence,
    Tokens,
    attend_text,
    attend_visual,
    load_rows,
    load_statistic,
    log_sum_exp,
    no_keys,
    queries_and_keys,
    store,
    store_statistic,
)
from hasten.kernels.window.triton import window_attention, window_launch


@triton.jit
def dense_kernel(
    inputs: Inputs,
    output: Tokens,
    lse: Tokens,
    window_output: Tokens,
    window_lse: Tokens,
    residual: Tokens,
    sequence: Sequence,
    layout: tl.tuple,
    cut: Cut,
) -> None:
    """Writes dense attention, its log-sum-exp and R; for text queries, whose window is everything, the window too."""
    queries, run = queries_and_keys(sequence, layout, cut)
    rows = load_rows(inputs.query, queries, cut)
    sums = attend_text(no_keys(cut), rows, inputs, queries, sequence, cut)
    sums = attend_visual(sums, rows, inputs, queries, run, sequence, layout, cut)
    dense = sums.weighted / sums.total[:, None]
    dense_lse = log_sum_exp(sums)
    store(output, dense, queries, cut)
    store_statistic(lse, dense_lse, queries)
    if queries.are_text:
        store(window_output, dense, queries, cut)
        store_statistic(window_lse, dense_lse, queries)
        store(residual, tl.zeros_like(dense), queries, cut)
    else:
        inside = tl.minimum(tl.exp(load_statistic(window_lse, queries) - dense_lse), 1.0)
        window = load_rows(window_output, queries, cut)
        store(residual, dense - inside[:, None] * window, queries, cut)


def refresh_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, text_mask: Tensor | None, scale: float
) -> RefreshOutput:
    """The refresh on a GPU. Arguments and result as in `hasten.kernels.refresh_attention`."""
    if layout.is_dense:
        output, lse = window_attention(query, key, value, layout, text_mask, scale)
        return RefreshOutput(output, lse, output.clone(), lse.clone(), torch.zeros_like(output))
    result = empty_result(query)
    for part in refresh_launches(query, key, value, layout, text_mask, scale, result):
        part.run()
    return result


def refresh_launches(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    text_mask: Tensor | None,
    scale: float,
    result: RefreshOutput,
    architecture: str | None = None,
) -> tuple[Launch, Launch]:
    """Returns the launches that write into `result`: the windows of the visual queries, then all else."""
    everything = BandLayout(
        layout.visual_tokens, layout.visual_tokens, text_tokens=layout.text_tokens, text_first=layout.text_first
    )
    inputs = query, key, value
    window = result.window_output, result.window_lse
    return (
        window_launch(*inputs, layout, text_mask, scale, *window, text_queries=False, architecture=architecture),
        launch(dense_kernel, *inputs, everything, text_mask, scale, architecture=architecture, **result._asdict()),
    )


def empty_result(query: Tensor) -> RefreshOutput:
    """Returns what a refresh of the query (B, H, N, D) writes, before it does."""
    output, window_output, residual = (empty_output(query) for _ in range(3))
    lse, window_lse = (query.new_empty(query.shape[:3], dtype=torch.float32) for _ in range(2))
    return RefreshOutput(output, lse, window_output, window_lse, residual)

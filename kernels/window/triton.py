"""Window attention on a GPU in one launch: programs of text queries and programs of visual ones, without a copy.

Given a ratio and a residual, the programs end with the reshape of Re-ttention, so that this launch is all that a sparse
step of a layer takes.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from hasten.kernels.launch import Launch, empty_output, launch
from hasten.kernels.layout import Layout
from hasten.kernels.outputs import AttentionOutput
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


@triton.jit
def window_kernel(
    inputs: Inputs,
    output: Tokens,
    lse: Tokens,
    ratio: Tokens,
    residual: Tokens,
    drift: Tokens,
    drift_factor: tl.tensor,
    sequence: Sequence,
    layout: tl.tuple,
    cut: Cut,
) -> None:
    """Writes the output and its log-sum-exp; or, given a ratio, the reshaped output alone."""
    queries, run = queries_and_keys(sequence, layout, cut)
    rows = load_rows(inputs.query, queries, cut)
    sums = attend_text(no_keys(cut), rows, inputs, queries, sequence, cut)
    sums = attend_visual(sums, rows, inputs, queries, run, sequence, layout, cut)
    attended = sums.weighted / sums.total[:, None]
    if ratio is None:
        store_statistic(lse, log_sum_exp(sums), queries)
    else:
        attended = attended * load_statistic(ratio, queries)[:, None] + load_rows(residual, queries, cut)
        if drift is not None:
            attended += drift_factor * load_rows(drift, queries, cut)
    store(output, attended, queries, cut)


def window_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, text_mask: Tensor | None, scale: float
) -> AttentionOutput:
    """Window attention on a GPU. Arguments and result as in `hasten.kernels.window_attention`."""
    target = AttentionOutput(empty_output(query), query.new_empty(query.shape[:3], dtype=torch.float32))
    window_launch(query, key, value, layout, text_mask, scale, target.output, target.lse).run()
    return target


def reshaped_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    ratio: Tensor,
    residual: Tensor,
    drift: Tensor | None,
    drift_factor: float,
    text_mask: Tensor | None,
    scale: float,
) -> Tensor:
    """Window attention and its reshape. Arguments and result as in `hasten.kernels.reshaped_attention`."""
    output = empty_output(query)
    ratio = ratio.float().expand(query.shape[:3])
    window_launch(query, key, value, layout, text_mask, scale, output, None, ratio, residual, drift, drift_factor).run()
    return output


def window_launch(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    text_mask: Tensor | None,
    scale: float,
    output: Tensor,
    lse: Tensor | None,
    ratio: Tensor | None = None,
    residual: Tensor | None = None,
    drift: Tensor | None = None,
    drift_factor: float = 0.0,
    *,
    text_queries: bool = True,
    architecture: str | None = None,
) -> Launch:
    """Returns the launch that writes into `output`, and into `lse` unless there is a ratio (B, H, N)."""
    return launch(
        window_kernel,
        query,
        key,
        value,
        layout,
        text_mask,
        scale,
        text_queries=text_queries,
        architecture=architecture,
        output=output,
        lse=lse,
        ratio=ratio,
        residual=residual,
        drift=drift,
        drift_factor=drift_factor,
    )

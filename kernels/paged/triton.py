"""Attention over coded pages on a GPU in one launch: a program holds a block of queries of one head.

The pages stream past it and are decoded in registers. Scores are sums of products over slices of the channels, and each
slice of the values has a product of its own.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from hasten.kernels.launch import LOG2_E, Launch, empty_output, strided, unit_of
from hasten.kernels.outputs import AttentionOutput
from hasten.kernels.paged.segments import Segment
from hasten.kernels.paged.slices import Coding, coding_of, decode_slice
from hasten.kernels.streaming import UNSEEN, Queries, Sums, Tokens, log_sum_exp, places, store_statistic
from hasten.kernels.tuning import architecture_of, blocks_for


class PagedInputs(NamedTuple):
    """Arguments of an attention: `slots` int32, of which there are `pages`; `scale` positive and times log2(e)."""

    query: Tokens
    key: Coding
    value: Coding
    slots: Any
    pages: Any
    scale: Any


class Sizes(NamedTuple):
    """Sizes of a launch: `blocks` are the programs of each head."""

    heads: Any
    blocks: Any
    queries: Any
    page_tokens: Any


class PagedCut(NamedTuple):
    """Constants: queries of a program, keys at a time, the unit of the strides of query and output."""

    queries: tl.constexpr
    keys: tl.constexpr
    unit: tl.constexpr
    precision: tl.constexpr


@triton.jit
def paged_kernel(inputs: PagedInputs, output: Tokens, lse: Tokens, sizes: Sizes, cut: PagedCut) -> None:
    """Writes the attention of all queries to the pages in the slots, and its log-sum-exp."""
    pair = tl.program_id(0) // sizes.blocks
    index = tl.program_id(0) % sizes.blocks * cut.queries + tl.arange(0, cut.queries)
    queries = Queries(
        batch=(pair // sizes.heads).to(tl.int64),
        head=(pair % sizes.heads).to(tl.int64),
        token=tl.where(index < sizes.queries, index, -1),
        are_text=False,
    )
    rows = [load_slice(inputs.query, queries, part, inputs.key, cut) for part in inputs.key.slices]
    sums = Sums(
        peak=tl.full([cut.queries], float("-inf"), tl.float32),
        total=tl.zeros([cut.queries], tl.float32),
        weighted=[tl.zeros([cut.queries, inputs.value.padded], tl.float32) for part in inputs.value.slices],
    )
    for page in range(inputs.pages):
        slot = tl.load(inputs.slots + page).to(tl.int64)
        for start in range(0, sizes.page_tokens, cut.keys):
            token = start + tl.arange(0, cut.keys)
            sums = attend_tokens(sums, rows, inputs, queries, slot, token, sizes, cut)
    for part in tl.static_range(len(inputs.value.slices)):
        attended = sums.weighted[part] / sums.total[:, None]
        store_slice(output, attended, part, queries, inputs.value, cut)
    store_statistic(lse, log_sum_exp(sums), queries)


@triton.jit
def attend_tokens(
    sums: Sums,
    rows: tl.tuple,
    inputs: PagedInputs,
    queries: Queries,
    slot: tl.tensor,
    token: tl.tensor,
    sizes: Sizes,
    cut: PagedCut,
) -> Sums:
    """Adds tokens [T] of a page, as far as it has them, to the softmax of the queries; `rows` are their slices."""
    present = tl.minimum(token, sizes.page_tokens - 1)
    scores = tl.zeros([cut.queries, cut.keys], tl.float32)
    for part in tl.static_range(len(inputs.key.slices)):
        key = decode_slice(inputs.key, part, queries, slot, present).to(rows[part].dtype)
        scores = tl.dot(rows[part], key.T, scores, input_precision=cut.precision)
    scores = tl.where((token < sizes.page_tokens)[None, :], scores, UNSEEN)
    peak = tl.maximum(sums.peak, tl.max(scores, 1) * inputs.scale)
    weights = tl.exp2(scores * inputs.scale - peak[:, None])
    fading = tl.exp2(sums.peak - peak)
    total = sums.total * fading + tl.sum(weights, 1)
    weights = weights.to(rows[0].dtype)
    weighted = [
        tl.dot(
            weights,
            decode_slice(inputs.value, part, queries, slot, present).to(weights.dtype),
            sums.weighted[part] * fading[:, None],
            input_precision=cut.precision,
        )
        for part in inputs.value.slices
    ]
    return Sums(peak=peak, total=total, weighted=weighted)


@triton.jit
def load_slice(tokens: Tokens, queries: Queries, part: tl.constexpr, coding: Coding, cut: PagedCut) -> tl.tensor:
    """Returns a slice of the channels [Q, C] at the queries, 0 beyond those there are."""
    column = tl.arange(0, coding.padded)[None, :]
    start = places(tokens, queries, tl.maximum(queries.token, 0)) * cut.unit + part * coding.width
    return tl.load(tokens.data + start[:, None] + column, mask=column < coding.width, other=0.0)


@triton.jit
def store_slice(
    tokens: Tokens, channels: tl.tensor, part: tl.constexpr, queries: Queries, coding: Coding, cut: PagedCut
) -> None:
    """Writes a slice of the channels [Q, C] of the queries."""
    column = tl.arange(0, coding.padded)[None, :]
    start = places(tokens, queries, queries.token) * cut.unit + part * coding.width
    present = (queries.token >= 0)[:, None] & (column < coding.width)
    tl.store(tokens.data + start[:, None] + column, channels.to(tokens.data.dtype.element_ty), mask=present)


def attend_pages(query: Tensor, segment: Segment, scale: float) -> AttentionOutput:
    """Attention to coded pages without outliers. Arguments and result as in `portable.attend_pages`."""
    target = AttentionOutput(empty_output(query), query.new_empty(query.shape[:3], dtype=torch.float32))
    paged_launch(query, segment, scale, target).run()
    return target


def paged_launch(
    query: Tensor, segment: Segment, scale: float, target: AttentionOutput, architecture: str | None = None
) -> Launch:
    """Returns the launch that writes into `target`; `architecture` as in `hasten.kernels.launch.launch`."""
    if scale <= 0:  # the kernel looks for the highest score before it scales it
        query, scale = query * scale, 1.0
    query = query if query.stride(-1) == 1 else query.contiguous()
    batch, heads, queries, head_dim = query.shape
    keys, values = segment.pool.keys, segment.pool.values
    numbers = max(pages.page_format.numbers for pages in (keys, values) if pages.page_format is not None)
    channels, architecture = max(16, triton.next_power_of_2(head_dim)), architecture or architecture_of(query.device)
    blocks = blocks_for(channels, query.dtype, architecture, numbers=numbers)
    unit = unit_of([query, target.output])
    slots = torch.as_tensor(segment.slots, dtype=torch.int32, device=query.device)
    inputs = PagedInputs(strided(query, unit), coding_of(keys), coding_of(values), slots, len(slots), scale * LOG2_E)
    programs = triton.cdiv(queries, blocks.queries)
    arguments = {
        "inputs": inputs,
        "output": strided(target.output, unit),
        "lse": strided(target.lse, 1),
        "sizes": Sizes(heads, programs, queries, keys.shape[2]),
        "cut": PagedCut(*map(tl.constexpr, (blocks.queries, blocks.keys, unit, "ieee"))),
    }
    options = {"num_warps": blocks.warps, "num_stages": blocks.stages, "enable_fp_fusion": True}
    return Launch(paged_kernel, batch * heads * programs, arguments, options)

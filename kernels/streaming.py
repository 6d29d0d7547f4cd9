"""What the Triton kernels share: the queries of a program, the keys they see, and a softmax over keys that stream past.

A program holds a block of queries of one head. Text programs come first: they see all keys and take longest. The visual
keys of a program are one run of indices in the order of its layout, which arithmetic turns into tokens:

- band: position-major, the same position of all frames side by side; each query sees a part of the run.
- tiles: the box around the tile of the queries, in raster order; each query sees all of it.
- text queries: all visual tokens as they lie in memory.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

# Below every score, yet finite: what a query sums up before it has seen a key fades to 0 with the first one. A power of
# two, so that its product with a scale is exact and a fused multiply-add takes it from itself without a rest.
UNSEEN = tl.constexpr(-(2.0**100))


class Tokens(NamedTuple):
    """A (B, H, N, D) tensor with adjacent channels, or a (B, H, N) tensor; the strides of the former in `Cut.unit`s."""

    data: Any
    batch: Any
    head: Any
    token: Any


class Inputs(NamedTuple):
    """Arguments of an attention: `text_mask` is (B, T) uint8 or None, `scale` positive and times log2(e)."""

    query: Tokens
    key: Tokens
    value: Tokens
    text_mask: Any
    scale: Any


class Sequence(NamedTuple):
    """Sizes of a launch: `pairs` are batch rows times heads, the blocks are the programs of each head."""

    heads: Any
    pairs: Any
    text_start: Any
    text_tokens: Any
    text_blocks: Any
    visual_start: Any
    visual_tokens: Any
    visual_blocks: Any


class Band(NamedTuple):
    """A `BandLayout`. Indices are divided by the constants."""

    is_band: tl.constexpr
    frames: tl.constexpr
    positions: Any
    reach: Any


class Tiles(NamedTuple):
    """A `TileLayout`: frames, rows and columns of each. Indices are divided by the constants.

    The window of a tile begins `margin` before it, unless an edge of the grid is nearer.
    """

    is_band: tl.constexpr
    tile: tuple[tl.constexpr, tl.constexpr, tl.constexpr]
    window: tuple[tl.constexpr, tl.constexpr, tl.constexpr]
    grid: Any
    margin: Any


class Cut(NamedTuple):
    """Constants: queries of a program, keys at a time, channels there are and padded, the unit of strides."""

    queries: tl.constexpr
    keys: tl.constexpr
    head_dim: tl.constexpr
    channels: tl.constexpr
    unit: tl.constexpr
    precision: tl.constexpr


class Queries(NamedTuple):
    """The queries of a program: `token` [Q] is -1 in rows that have none."""

    batch: Any
    head: Any
    token: Any
    are_text: Any


class Run(NamedTuple):
    """The visual keys of a program: indices from `start` to `stop`.

    A query sees those from `first` to `last`, both [Q] or [1]; all queries see those from `open` to `close`. The box of
    a tile begins at `corner`.
    """

    start: Any
    stop: Any
    first: Any
    last: Any
    open: Any
    close: Any
    corner: Any


class Sums(NamedTuple):
    """A softmax in progress: highest score [Q], sum of the weights [Q], weighted sum of the values [Q, C] or slices."""

    peak: Any
    total: Any
    weighted: Any


@triton.jit
def queries_and_keys(sequence: Sequence, layout: tl.tuple, cut: Cut) -> tuple[Queries, Run]:
    """Returns the queries of this program and the run of their visual keys."""
    program = tl.program_id(0)
    text_programs = sequence.text_blocks * sequence.pairs
    are_text = program < text_programs
    program = tl.where(are_text, program, program - text_programs)
    blocks = tl.where(are_text, sequence.text_blocks, sequence.visual_blocks)
    block = program % blocks
    pair = program // blocks
    if layout.is_band:
        visual, run = band_block(block, sequence.visual_tokens, layout, cut)
    else:
        visual, run = tile_block(block, layout, cut)
    text = block * cut.queries + tl.arange(0, cut.queries)
    text = tl.where(text < sequence.text_tokens, sequence.text_start + text, -1)
    visual = tl.where(visual >= 0, sequence.visual_start + visual, -1)
    queries = Queries(
        batch=(pair // sequence.heads).to(tl.int64),
        head=(pair % sequence.heads).to(tl.int64),
        token=tl.where(are_text, text, visual),
        are_text=are_text,
    )
    run = Run(
        start=tl.where(are_text, 0, run.start),
        stop=tl.where(are_text, sequence.visual_tokens, run.stop),
        first=tl.where(are_text, 0, run.first),
        last=tl.where(are_text, sequence.visual_tokens, run.last),
        open=tl.where(are_text, 0, run.open),
        close=tl.where(are_text, sequence.visual_tokens, run.close),
        corner=run.corner,
    )
    return queries, run


@triton.jit
def band_block(block: tl.tensor, visual_tokens: tl.tensor, layout: Band, cut: Cut) -> tuple[tl.tensor, Run]:
    """Returns the visual tokens [Q] at a block of position-major indices, and their keys."""
    index = block * cut.queries + tl.arange(0, cut.queries)
    position = index // layout.frames
    lowest = block * cut.queries // layout.frames
    highest = (tl.minimum(block * cut.queries + cut.queries, visual_tokens) - 1) // layout.frames
    run = Run(
        start=tl.maximum(lowest - layout.reach, 0) * layout.frames,
        stop=tl.minimum(highest + layout.reach + 1, layout.positions) * layout.frames,
        first=(position - layout.reach) * layout.frames,
        last=tl.minimum(position + layout.reach + 1, layout.positions) * layout.frames,
        open=(highest - layout.reach) * layout.frames,
        close=tl.minimum(lowest + layout.reach + 1, layout.positions) * layout.frames,
        corner=(0, 0, 0),
    )
    return tl.where(index < visual_tokens, band_token(index, layout), -1), run


@triton.jit
def band_token(index: tl.tensor, layout: Band) -> tl.tensor:
    """Returns the visual tokens at position-major indices."""
    return index % layout.frames * layout.positions + index // layout.frames


@triton.jit
def tile_block(block: tl.tensor, layout: Tiles, cut: Cut) -> tuple[tl.tensor, Run]:
    """Returns the visual tokens [Q] of a tile, or of a part of a large one, and the box of keys around it."""
    frames, height, width = layout.grid
    tile_tokens: tl.constexpr = layout.tile[0] * layout.tile[1] * layout.tile[2]
    parts: tl.constexpr = (tile_tokens + cut.queries - 1) // cut.queries
    tile = block // parts
    across = tl.cdiv(width, layout.tile[2])
    down = tl.cdiv(height, layout.tile[1])
    first_frame = tile // across // down * layout.tile[0]
    first_row = tile // across % down * layout.tile[1]
    first_column = tile % across * layout.tile[2]

    index = block % parts * cut.queries + tl.arange(0, cut.queries)
    frame = first_frame + index // (layout.tile[1] * layout.tile[2])
    row = first_row + index // layout.tile[2] % layout.tile[1]
    column = first_column + index % layout.tile[2]
    exist = (index < tile_tokens) & (frame < frames) & (row < height) & (column < width)
    token = tl.where(exist, (frame * height + row) * width + column, -1)

    corner = (
        tl.minimum(tl.maximum(first_frame - layout.margin[0], 0), frames - layout.window[0]),
        tl.minimum(tl.maximum(first_row - layout.margin[1], 0), height - layout.window[1]),
        tl.minimum(tl.maximum(first_column - layout.margin[2], 0), width - layout.window[2]),
    )
    keys: tl.constexpr = layout.window[0] * layout.window[1] * layout.window[2]
    zero = tl.zeros([1], tl.int32)
    return token, Run(start=0, stop=keys, first=zero, last=zero + keys, open=0, close=keys, corner=corner)


@triton.jit
def box_token(index: tl.tensor, corner: tl.tuple, layout: Tiles) -> tl.tensor:
    """Returns the visual tokens at indices of the box of a tile."""
    frame = corner[0] + index // (layout.window[1] * layout.window[2])
    row = corner[1] + index // layout.window[2] % layout.window[1]
    column = corner[2] + index % layout.window[2]
    return (frame * layout.grid[1] + row) * layout.grid[2] + column


@triton.jit
def places(tokens: Tokens, queries: Queries, token: tl.tensor) -> tl.tensor:
    """Returns the offsets of tokens [T], in units of the strides."""
    return queries.batch * tokens.batch + queries.head * tokens.head + token.to(tl.int64) * tokens.token


@triton.jit
def load(tokens: Tokens, queries: Queries, token: tl.tensor, cut: Cut) -> tl.tensor:
    """Returns the channels [T, C] of tokens [T], 0 beyond those there are."""
    channel = tl.arange(0, cut.channels)[None, :]
    pointers = tokens.data + (places(tokens, queries, token) * cut.unit)[:, None] + channel
    if cut.head_dim == cut.channels:
        channels = tl.load(pointers)
    else:
        channels = tl.load(pointers, mask=channel < cut.head_dim, other=0.0)
    return channels


@triton.jit
def load_rows(tokens: Tokens, queries: Queries, cut: Cut) -> tl.tensor:
    """Returns the channels [Q, C] at the queries; any in rows that have none."""
    return load(tokens, queries, tl.maximum(queries.token, 0), cut)


@triton.jit
def load_statistic(statistic: Tokens, queries: Queries) -> tl.tensor:
    """Returns a number for each query [Q]."""
    return tl.load(statistic.data + places(statistic, queries, queries.token), mask=queries.token >= 0, other=0.0)


@triton.jit
def store(tokens: Tokens, channels: tl.tensor, queries: Queries, cut: Cut) -> None:
    """Writes the channels [Q, C] of the queries."""
    channel = tl.arange(0, cut.channels)[None, :]
    pointers = tokens.data + (places(tokens, queries, queries.token) * cut.unit)[:, None] + channel
    present = (queries.token >= 0)[:, None] & (channel < cut.head_dim)
    tl.store(pointers, channels.to(tokens.data.dtype.element_ty), mask=present)


@triton.jit
def store_statistic(statistic: Tokens, numbers: tl.tensor, queries: Queries) -> None:
    """Writes a number for each query [Q]."""
    tl.store(statistic.data + places(statistic, queries, queries.token), numbers, mask=queries.token >= 0)


@triton.jit
def no_keys(cut: Cut) -> Sums:
    """Returns a softmax that has seen no key."""
    return Sums(
        peak=tl.full([cut.queries], float("-inf"), tl.float32),
        total=tl.zeros([cut.queries], tl.float32),
        weighted=tl.zeros([cut.queries, cut.channels], tl.float32),
    )


@triton.jit
def absorb(sums: Sums, scores: tl.tensor, value: tl.tensor, scale: tl.tensor, cut: Cut) -> Sums:
    """Adds keys to a softmax: scores [Q, K] before scaling and values [K, C]."""
    peak = tl.maximum(sums.peak, tl.max(scores, 1) * scale)
    weights = tl.exp2(scores * scale - peak[:, None])
    fading = tl.exp2(sums.peak - peak)
    weighted = tl.dot(weights.to(value.dtype), value, sums.weighted * fading[:, None], input_precision=cut.precision)
    return Sums(peak=peak, total=sums.total * fading + tl.sum(weights, 1), weighted=weighted)


@triton.jit
def log_sum_exp(sums: Sums) -> tl.tensor:
    """Returns the natural log-sum-exp [Q] of the scaled scores."""
    return (sums.peak + tl.log2(sums.total)) * 0.6931471805599453


@triton.jit
def attend_text(sums: Sums, rows: tl.tensor, inputs: Inputs, queries: Queries, sequence: Sequence, cut: Cut) -> Sums:
    """Adds the text keys to the softmax of the queries, whose channels are `rows` [Q, C]."""
    for start in range(0, sequence.text_tokens, cut.keys):
        index = start + tl.arange(0, cut.keys)
        seen = index < sequence.text_tokens
        index = tl.minimum(index, sequence.text_tokens - 1)
        if inputs.text_mask is not None:
            seen = seen & (tl.load(inputs.text_mask + queries.batch * sequence.text_tokens + index) != 0)
        token = sequence.text_start + index
        scores = tl.dot(rows, load(inputs.key, queries, token, cut).T, input_precision=cut.precision)
        scores = tl.where(seen[None, :], scores, UNSEEN)
        sums = absorb(sums, scores, load(inputs.value, queries, token, cut), inputs.scale, cut)
    return sums


@triton.jit
def attend_visual(
    sums: Sums,
    rows: tl.tensor,
    inputs: Inputs,
    queries: Queries,
    run: Run,
    sequence: Sequence,
    layout: tl.tuple,
    cut: Cut,
) -> Sums:
    """Adds the visual keys of a run to the softmax of the queries, whose channels are `rows` [Q, C]."""
    for start in range(run.start, run.stop, cut.keys):
        index = start + tl.arange(0, cut.keys)
        present = tl.minimum(index, run.stop - 1)
        token = band_token(present, layout) if layout.is_band else box_token(present, run.corner, layout)
        token = sequence.visual_start + tl.where(queries.are_text, present, token)
        scores = tl.dot(rows, load(inputs.key, queries, token, cut).T, input_precision=cut.precision)
        if start < run.open or start + cut.keys > run.close:
            seen = (index[None, :] >= run.first[:, None]) & (index[None, :] < run.last[:, None])
            scores = tl.where(seen, scores, UNSEEN)
        sums = absorb(sums, scores, load(inputs.value, queries, token, cut), inputs.scale, cut)
    return sums

"""Attention over pages of keys and values, coded or not, and over plain tensors."""

from collections.abc import Sequence

from torch import Tensor

from hasten.kernels.dense.api import dense_attention
from hasten.kernels.dispatch import Implementation, implementation
from hasten.kernels.outputs import AttentionOutput, merge, no_keys
from hasten.kernels.paged import portable
from hasten.kernels.paged.pages import PagePool
from hasten.kernels.paged.rotation import Rotation
from hasten.kernels.paged.segments import KeysAndValues, Segment, check_segments


def paged_attention(
    query: Tensor, segments: Sequence[Segment | KeysAndValues], scale: float | None = None
) -> AttentionOutput:
    """Softmax attention of every query to all keys of all segments, with its log-sum-exp.

    Pages are decoded block by block; no tensor as large as the keys of a layer is ever made. Rotated pages stay so: the
    query is rotated as they are, and what all segments that are rotated alike give is rotated back once.

    Args:
        query (`Tensor`): (B, H, N, D), float16, bfloat16, float32 or float64, any strides.
        segments (`Sequence`): disjoint sets of keys, in any order; there may be none.
        scale (`float`, *optional*): factor of the scores, D**-0.5 by default.

    Returns:
        `AttentionOutput`: output (B, H, N, D) in the dtype of the query and log-sum-exp (B, H, N) in float32 (float64
        for float64 queries). Without any key output 0 and log-sum-exp -inf.

    Raises:
        ValueError: if shapes, dtypes or devices do not fit each other, or a slot does not exist.
    """
    check_segments(query, segments)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    alike: dict[tuple[Rotation, Rotation] | None, list[Segment | KeysAndValues]] = {None: []}
    for segment in segments:
        alike.setdefault(segment.pool.rotations if isinstance(segment, Segment) else None, []).append(segment)
    parts = [_attend(query, segment, scale) for segment in alike.pop(None)]
    for rotations, rotated in alike.items():
        assert rotations is not None
        of_keys, of_values = rotations
        turned = of_keys.turn(query)
        output, lse = merge(*(_attend(turned, segment, scale) for segment in rotated))
        parts.append(AttentionOutput(of_values.turn_back(output), lse))
    return merge(*parts) if parts else no_keys(query)


def paged_implementation(query: Tensor, pool: PagePool) -> Implementation:
    """Returns which implementation attends from a query to the pages of a pool.

    As `hasten.kernels.implementation`; yet where that is "triton", pages without a format or with outliers are read by
    "portable" torch calls, some heads at a time.
    """
    formats = pool.keys.page_format, pool.values.page_format
    streamed = all(one is not None and one.outlier_sigma is None for one in formats)
    served = implementation(query)
    return "portable" if served == "triton" and not streamed else served


def _attend(query: Tensor, segment: Segment | KeysAndValues, scale: float) -> AttentionOutput:
    """Attention to one segment, by a query that is rotated as its pages are."""
    if isinstance(segment, KeysAndValues):
        key, value, bias = segment
        return dense_attention(query, key, value, mask=None if bias is None else bias[..., None, :], scale=scale)
    if len(segment.slots) == 0 or query.numel() == 0:
        return no_keys(query)
    if segment.query is not None:
        query = segment.pool.rotations[0].turn(segment.query) if segment.pool.rotations else segment.query
    if paged_implementation(query, segment.pool) == "triton":
        from hasten.kernels.paged import triton

        return triton.attend_pages(query, segment, scale)
    return portable.attend_pages(query, segment, scale)

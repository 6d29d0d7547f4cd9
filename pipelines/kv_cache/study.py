"""The study's own byte counts: its geometry, its blocks of 16 tokens, packing that it counted and did not do."""

from hasten.kernels.paged import PageFormat

from .formats import Packed, split_tokens
from .method import CacheMethod
from .policies import AgeTiers, FlowCache, Tier

_FRAMES, _FRAME_TOKENS, _CHANNELS, _LAYERS, _BLOCK = 42, 1560, 12 * 128, 30, 16
_INDEX, _MASK, _HALF, _OUTLIER, _SPAN = 8, 1, 2, 6, 16  # bytes

UNDETERMINED = {
    "qaq_int4": "the share of outliers is a matter of data; it is taken from the published bytes",
    "qaq_int2": "the share of outliers is a matter of data; it is taken from the published bytes",
    "tptq_int2": "the share of outliers is a matter of data; its upper bound is counted",
    "spatial_mixed_fg_rtn_int4_bg_rtn_int2": "3 % of the masks had another size than the 65 % that are counted",
    "flowcache_hybrid_int2": "its profile of layer budgets was not published; another method's is counted",
}
"""Why the published ratio of a method cannot be computed from definitions alone."""


def study_bytes(method: CacheMethod) -> int:
    """Bytes of one of the study's methods as the study counts them, after 42 frames of 480 × 832 in 30 layers."""
    return sum(_layer_bytes(method, layer) for layer in range(_LAYERS))


def study_ratio(method: CacheMethod) -> float:
    """Compression as the study counts it: against 42 frames in 16 bits, half of which are never attended to."""
    return _LAYERS * _FRAMES * _FRAME_TOKENS * _CHANNELS * 2 * _HALF / study_bytes(method)


def _layer_bytes(method: CacheMethod, layer: int) -> int:
    policy = method.policy
    unit = 1 if isinstance(policy, AgeTiers) else _FRAME_TOKENS  # age tiers part the buffer inside a frame
    total = 0
    for tier, count in policy.quotas(_FRAMES * _FRAME_TOKENS // unit, layer, _LAYERS):
        if tier == Tier.SUMMARY:
            total += count * (2 * _CHANNELS * _HALF + _SPAN)
        elif tier != Tier.GONE:
            total += _zone_bytes(method, tier, count * unit)
            total += count * unit * _position_bytes(method)
    return total


def _position_bytes(method: CacheMethod) -> int:
    """Bytes for where a token belongs."""
    if isinstance(method.policy, FlowCache):
        return _INDEX
    return _INDEX + _MASK if isinstance(method.policy, AgeTiers) or method.splits_pages else 0


def _zone_bytes(method: CacheMethod, tier: Tier, tokens: int) -> int:
    """Bytes of the tokens of a tier, each part of a page in blocks of its own."""
    first, *others = method.parts(tier)
    split = [tokens // _FRAME_TOKENS * share for share in split_tokens((first, *others), _FRAME_TOKENS)]
    zones = zip((first, *others), split if others else [tokens], strict=True)
    return sum(_packed_bytes(part.storage, size) for part, size in zones if isinstance(part.storage, Packed))


def _packed_bytes(storage: Packed, tokens: int) -> int:
    return sum(
        tokens * _CHANNELS * _HALF if page_format is None else _coded_bytes(page_format, tokens)
        for page_format in (storage.keys, storage.values)
    )


def _coded_bytes(page_format: PageFormat, tokens: int) -> int:
    """Bytes in blocks of 16 tokens, outliers too; where tokens have scales, one serves all heads."""
    blocks = -(-tokens // _BLOCK)
    values = blocks * _BLOCK * _CHANNELS
    groups = blocks * _CHANNELS if page_format.grouping == "channel" else blocks * _BLOCK
    bits = page_format.bits + (page_format.residual_bits or 0)
    numbers = 1 + (not page_format.symmetric) + (page_format.residual_bits is not None)
    outliers = int(page_format.outlier_share * tokens * _CHANNELS)
    return values * bits // 8 + groups * numbers * _HALF + outliers * _OUTLIER

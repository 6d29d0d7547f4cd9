"""How the tokens of a page are stored in a tier: the quantizers of the study, fitted to the page."""

from dataclasses import replace
from typing import NamedTuple

from hasten.kernels.paged import PageFormat, nearest_divisors

STUDY_GROUP = 16
"""Tokens that share a scale in the study."""

WHOLE_HEAD = 1 << 16
"""More channels than any head has, so that one scale serves all of them."""


class Packed(NamedTuple):
    """
    Tokens of a page that are stored one by one.

    Args:
        keys, values (`PageFormat`, *optional*):
            Their codes, with the group that is wanted; the model's own dtype if left out.
        rotated (`bool`, defaults to `False`):
            Whether both are multiplied by the Walsh-Hadamard matrix before they are coded.
        rotated_channels (`int`, *optional*):
            Whether so many channels at a time are, dealt out by their magnitude.
    """

    keys: PageFormat | None
    values: PageFormat | None
    rotated: bool = False
    rotated_channels: int | None = None

    def channels_of(self, head_dim: int) -> int | None:
        """Channels that are rotated together in heads of `head_dim`: the greatest power of two that divides them."""
        return self.rotated_channels and min(self.rotated_channels, head_dim & -head_dim)


class Mean(NamedTuple):
    """Tokens of a page that are stored as one: their mean key and mean value, with the logit bias ln(tokens)."""


class Part(NamedTuple):
    """
    Tokens of a page that are stored alike.

    Args:
        storage (`Packed` or `Mean`):
            How.
        share (`float`, defaults to `1.0`):
            How many of a page's tokens; those of the greatest temporal variance come first.
    """

    storage: Packed | Mean
    share: float = 1.0


EXACT = (Part(Packed(None, None)),)
SUMMARY = (Part(Mean()),)


def rtn(key_bits: int, value_bits: int | None = None, *, rotated: bool = False) -> Packed:
    """Round to nearest: one scale for 16 tokens of a channel; with `rotated`, QuaRot (arXiv 2404.00456)."""
    keys, values = (
        PageFormat(bits, "channel", STUDY_GROUP, symmetric=True) for bits in (key_bits, value_bits or key_bits)
    )
    return Packed(keys, values, rotated)


def kivi(key_bits: int, value_bits: int | None = None) -> Packed:
    """KIVI (arXiv 2402.02750): scale and offset for 16 tokens of a key's channel, and for all channels of a value."""
    return Packed(
        PageFormat(key_bits, "channel", STUDY_GROUP, symmetric=False),
        PageFormat(value_bits or key_bits, "token", WHOLE_HEAD, symmetric=False),
    )


def prq(bits: int, residual_bits: int = 4) -> Packed:
    """Progressive residual quantization (arXiv 2602.02958): what the first code leaves is coded again."""
    page_format = PageFormat(bits, "channel", STUDY_GROUP, symmetric=True, residual_bits=residual_bits)
    return Packed(page_format, page_format)


def qaq(bits: int) -> Packed:
    """QAQ (arXiv 2403.04643) as in the study: KIVI, with values beyond 6 σ kept as they are.

    The share of outliers is what the study's own byte counts imply.
    """
    keys = PageFormat(bits, "channel", STUDY_GROUP, symmetric=False, outlier_sigma=6.0, outlier_share=0.0016)
    return Packed(keys, replace(keys, grouping="token", group=WHOLE_HEAD))


def turboquant(bits: int) -> Packed:
    """TurboQuant (arXiv 2504.19874): rotated, each token scaled to unit variance, levels of the normal distribution."""
    page_format = PageFormat(bits, "token", WHOLE_HEAD, symmetric=True, codebook="gaussian")
    return Packed(page_format, page_format, rotated=True)


def rotatekv(bits: int) -> Packed:
    """RotateKV (arXiv 2501.16383): channels dealt out by magnitude, rotated 32 at a time; these share an offset too.

    Unlike there, keys are rotated behind their positions, and heads one by one.
    """
    page_format = PageFormat(bits, "token", 32, symmetric=False)
    return Packed(page_format, page_format, rotated_channels=32)


def fit(page_format: PageFormat, tokens: int, head_dim: int) -> PageFormat:
    """The format with the group nearest to the wanted one among those that divide the page.

    Less than half of it is taken only where there is nothing else: scales would outweigh codes.

    Args:
        page_format (`PageFormat`):
            With the wanted group.
        tokens, head_dim (`int`):
            Of the page. 16 tokens of a 480 × 832 frame of 1,560 become 15.
    """
    size = tokens if page_format.grouping == "channel" else head_dim
    wanted = page_format.group
    groups = nearest_divisors(size, wanted)
    return replace(page_format, group=min(groups, key=lambda group: (2 * group < wanted, abs(group - wanted))))


def split_tokens(parts: tuple[Part, ...], frame_tokens: int) -> tuple[int, ...]:
    """Tokens of a page in each of its parts: one at least, and in the last one what the others leave.

    Raises:
        ValueError: there are fewer tokens than parts.
    """
    left = frame_tokens
    split = []
    for place, part in enumerate(parts[:-1], start=1):
        split.append(max(1, min(round(part.share * frame_tokens), left - (len(parts) - place))))
        left -= split[-1]
    if left < 1:
        raise ValueError(
            f"A frame of {frame_tokens} token cannot be stored in {len(parts)} parts; make larger videos, or choose a "
            "method that does not split frames."
        )
    return (*split, left)

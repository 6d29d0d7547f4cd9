"""What the bytes of a page of keys or values are."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import erf, exp, pi, sqrt
from typing import Literal, NamedTuple

from hasten.kernels.packing.bits import BITS

GAUSSIAN_BITS = (2, 4)
SCALE_BYTES = 2
"""Of a float16."""
OUTLIER_BYTES = 4 + 2
"""Of an int32 index and a float16 value."""

Levels = Literal["symmetric", "between", "gaussian"]


class PlaneFormat(NamedTuple):
    """How one plane of a page is coded.

    Args:
        bits (`int`): of a code.
        levels (`str`): "symmetric", -Q … Q times a scale; "between", 0 … 2**bits - 1 times a scale plus an offset; or
            "gaussian", a table of levels times a scale.
    """

    bits: int
    levels: Levels

    @property
    def top(self) -> int:
        """Q, the highest symmetric level. A code is its level plus Q."""
        return 2 ** (self.bits - 1) - 1

    @property
    def has_offset(self) -> bool:
        """Whether a group has an offset as well as a scale."""
        return self.levels == "between"


@dataclass(frozen=True)
class PageFormat:
    r"""
    How the values (B, H, N, D) of a page are coded.

    Args:
        bits (`2`, `4` or `8`):
            Bits of a code.
        grouping (`"channel"` or `"token"`):
            Which values share a scale: `group` consecutive tokens of one channel of one head, as keys want it, whose
            channels differ, or `group` consecutive channels of one token of one head.
        group (`int`):
            Values that share a scale. It divides the tokens of a page, or the channels of a head.
        symmetric (`bool`):
            Whether a group has a scale alone, levels -Q … Q with Q = 2**(bits - 1) - 1, so that 2 bits are ternary; or
            a scale and an offset, 2**bits levels from its least to its greatest value, wherever those lie.
        residual_bits (`2`, `4`, `8` or `None`, defaults to `None`):
            Bits of a second symmetric code, of what the first one leaves, in the same groups (PRQ).
        codebook (`"uniform"` or `"gaussian"`, defaults to `"uniform"`):
            Where the levels of the first code lie: evenly, or where a normal distribution wants them (Lloyd-Max), with
            the root mean square of the group as scale. The latter is symmetric and made for rotated values
            (TurboQuant, arXiv 2504.19874); 2 or 4 bits.
        outlier_sigma (`float` or `None`, defaults to `None`):
            Values further from 0 than so many standard deviations of the page, in one batch row, are kept as float16
            beside an int32 index (QAQ).
        outlier_share (`float`, defaults to `0.0`):
            At most this share of the values is kept so, the largest. Their memory is fixed ahead.

    Raises:
        ValueError: a field is out of bounds, or two do not go together.
    """

    bits: int
    grouping: Literal["channel", "token"]
    group: int
    symmetric: bool
    residual_bits: int | None = None
    codebook: Literal["uniform", "gaussian"] = "uniform"
    outlier_sigma: float | None = None
    outlier_share: float = 0.0

    def __post_init__(self) -> None:
        if self.bits not in BITS or self.residual_bits not in (*BITS, None):
            raise ValueError(
                f"bits={self.bits!r} with residual_bits={self.residual_bits!r} are no page format; "
                f"choose each from {', '.join(map(str, BITS))}, or no residual_bits."
            )
        if self.grouping not in ("channel", "token") or self.group < 1:
            raise ValueError(
                f"grouping={self.grouping!r} with group={self.group!r} is no page format; "
                'group by "channel" or "token", with a group of at least 1.'
            )
        if self.codebook not in ("uniform", "gaussian"):
            raise ValueError(f'codebook={self.codebook!r} is not known; choose "uniform" or "gaussian".')
        if self.codebook == "gaussian" and not (self.symmetric and self.bits in GAUSSIAN_BITS):
            raise ValueError(
                f"A gaussian codebook of {self.bits} bits with symmetric={self.symmetric} does not exist; "
                f"take symmetric=True and {' or '.join(map(str, GAUSSIAN_BITS))} bits."
            )
        if (self.outlier_sigma is None) != (self.outlier_share == 0) or not 0 <= self.outlier_share < 1:
            raise ValueError(
                f"outlier_sigma={self.outlier_sigma} does not go with outlier_share={self.outlier_share}; "
                "give both, with a share between 0 and 1, or neither."
            )

    @property
    def planes(self) -> tuple[PlaneFormat, ...]:
        """How each plane is coded: that of the values, and that of what the first one leaves of them."""
        levels: Levels = "gaussian" if self.codebook == "gaussian" else "symmetric" if self.symmetric else "between"
        first = PlaneFormat(self.bits, levels)
        return (first,) if self.residual_bits is None else (first, PlaneFormat(self.residual_bits, "symmetric"))

    @property
    def numbers(self) -> int:
        """Scales and offsets of a group."""
        return sum(1 + plane.has_offset for plane in self.planes)

    @property
    def group_dim(self) -> int:
        """The dimension of (B, H, N, D) along which values share a scale."""
        return -2 if self.grouping == "channel" else -1

    def outliers(self, heads: int, tokens: int, head_dim: int) -> int:
        """Values of a page that can be kept as outliers, for each batch row."""
        return int(self.outlier_share * heads * tokens * head_dim)

    def scales_shape(self, tokens: int, head_dim: int) -> tuple[int, int]:
        """The last two dimensions of the scales of a page."""
        if self.grouping == "channel":
            return tokens // self.group, head_dim
        return tokens, head_dim // self.group

    def page_bytes(self, batch: int, heads: int, tokens: int, head_dim: int) -> int:
        """Bytes of a page: codes, scales, offsets and outliers."""
        self.check(tokens, head_dim)
        values = batch * heads * tokens * head_dim
        codes = values * sum(plane.bits for plane in self.planes) // 8
        outliers = batch * self.outliers(heads, tokens, head_dim)
        return codes + self.numbers * values // self.group * SCALE_BYTES + outliers * OUTLIER_BYTES

    def check(self, tokens: int, head_dim: int) -> None:
        """Raises a ValueError unless the groups divide a page of so many tokens and channels."""
        grouped, what = (tokens, "tokens of a page") if self.grouping == "channel" else (head_dim, "channels of a head")
        if grouped % self.group:
            raise ValueError(
                f"A group of {self.group} does not divide the {grouped} {what}; "
                f"take {' or '.join(map(str, nearest_divisors(grouped, self.group)))}."
            )
        bits = min(plane.bits for plane in self.planes)
        if head_dim % (8 // bits):
            raise ValueError(
                f"{head_dim} channels of {bits} bits do not fill whole bytes; "
                f"take a head dim that {8 // bits} divides, or more bits."
            )


def nearest_divisors(size: int, wanted: int) -> tuple[int, ...]:
    """Returns the divisors of a size next below and next above `wanted`, or `wanted` alone if it is one."""
    divisors = [number for number in range(1, size + 1) if size % number == 0]
    if wanted in divisors:
        return (wanted,)
    below = [number for number in divisors if number < wanted][-1:]
    above = [number for number in divisors if number > wanted][:1]
    return (*below, *above)


@lru_cache
def gaussian_levels(bits: int) -> tuple[float, ...]:
    """Returns the 2**bits levels, ascending, that code a standard normal variable with the least squared error.

    Lloyd's iteration (1957; Max 1960): each level is the mean of the normal distribution between the midpoints to its
    neighbours.
    """

    def density(x: float) -> float:
        return exp(-x * x / 2) / sqrt(2 * pi)

    def mass(x: float) -> float:
        return erf(x / sqrt(2)) / 2

    count = 2 ** (bits - 1)
    levels = [(place + 0.5) * 3 / count for place in range(count)]  # of the positive half; the other mirrors it
    for _ in range(2000):
        edges = [0.0, *((low + high) / 2 for low, high in pairwise(levels)), 40.0]
        levels = [(density(low) - density(high)) / (mass(high) - mass(low)) for low, high in pairwise(edges)]
    return (*(-level for level in reversed(levels)), *levels)

"""The shapes that `hasten bench attention` measures: small ones for a CPU, those of published models for a GPU.

Each layout is the one that a `RettentionConfig` of Re-ttention's density makes for the model's token grid.
"""

from dataclasses import dataclass
from typing import Literal

from hasten import RettentionConfig
from hasten.families import TokenGrid
from hasten.kernels import Layout

Operation = Literal["window", "reshape", "refresh"]
DENSITY = 0.03125
"""The share of the visual tokens that each of them sees in Re-ttention."""


@dataclass(frozen=True)
class Case:
    """One shape to measure.

    Args:
        name (`str`): as in the table.
        layout (`Layout`): tokens and windows.
        batch (`int`), heads (`int`), head_dim (`int`): the other sizes of query, key and value.
        operation (`str`): "window", "reshape" for a sparse step with a ratio and a residual, or "refresh" for dense
            attention, window and residual together.
    """

    name: str
    layout: Layout
    batch: int = 1
    heads: int = 8
    head_dim: int = 64
    operation: Operation = "window"


def _layout(window: Literal["band", "tiles"], grid: TokenGrid, text_tokens: int = 0, text_first: bool = True) -> Layout:
    return RettentionConfig(density=DENSITY, window=window).layout(grid, text_tokens, text_first)


# CogVideoX-2b at 480 x 720 and PixArt at 1024, and the emoji-image model. Few heads: the ratios do not depend on them,
# the minutes that dense attention over 17,776 tokens takes do.
_VIDEO = _layout("band", TokenGrid(30, 45, 13), text_tokens=226)
_IMAGE_4096 = _layout("band", TokenGrid(64, 64))
_IMAGE_2304 = _layout("band", TokenGrid(48, 48))

CPU_CASES = (
    Case("video 226+13x1350", _VIDEO, heads=4),
    Case("image 4096", _IMAGE_4096),
    Case("image 2304", _IMAGE_2304, batch=2, heads=4),
    Case("refresh video 226+13x1350", _VIDEO, heads=2, operation="refresh"),
    Case("refresh image 4096", _IMAGE_4096, operation="refresh"),
    Case("refresh image 2304", _IMAGE_2304, batch=2, heads=4, operation="refresh"),
)


def _model(
    name: str, heads: int, head_dim: int, grid: TokenGrid, text_tokens: int = 0, text_first: bool = True
) -> tuple[Case, ...]:
    """Returns a model's window of each kind, and the sparse step and the refresh that go with its band."""
    band = _layout("band", grid, text_tokens, text_first)
    tiles = _layout("tiles", grid, text_tokens, text_first)
    return (
        Case(f"{name}, band", band, heads=heads, head_dim=head_dim),
        Case(f"{name}, tiles", tiles, heads=heads, head_dim=head_dim),
        Case(f"{name}, sparse step", band, heads=heads, head_dim=head_dim, operation="reshape"),
        Case(f"{name}, refresh", band, heads=heads, head_dim=head_dim, operation="refresh"),
        Case(f"{name}, refresh of tiles", tiles, heads=heads, head_dim=head_dim, operation="refresh"),
    )


GPU_CASES = (
    *_model("CogVideoX-2b 480p", 30, 64, TokenGrid(30, 45, 13), text_tokens=226),
    *_model("Wan-1.3B 480p", 12, 128, TokenGrid(30, 52, 21)),
    *_model("HunyuanVideo 720p", 24, 128, TokenGrid(45, 80, 33), text_tokens=256, text_first=False),
    *_model("PixArt 1024", 16, 72, TokenGrid(64, 64)),
    *_model("FLUX 1024", 24, 128, TokenGrid(64, 64), text_tokens=512),
)

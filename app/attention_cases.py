"""The shapes that `hasten bench attention` measures: small ones for a CPU, those of published models for a GPU."""

from dataclasses import dataclass
from typing import Literal

from hasten.kernels import BandLayout, Layout, TileLayout

Operation = Literal["window", "reshape", "refresh"]
DENSITY = 0.03125
"""The share of a frame that a token sees in Re-ttention."""


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


def _band(frames: int, frame_tokens: int, text_tokens: int = 0, text_first: bool = True) -> BandLayout:
    sizes = {"frame_tokens": frame_tokens, "frames": frames, "text_tokens": text_tokens}
    return BandLayout.from_density(DENSITY, text_first=text_first, **sizes)


# CogVideoX-2b at 480 x 720 and PixArt at 1024 with Re-ttention's density, and the emoji-image model. Few heads: the
# ratios do not depend on them, the minutes that dense attention over 17,776 tokens takes do.
_VIDEO = _band(13, 1350, 226)
_IMAGE_4096 = _band(1, 4096)
_IMAGE_2304 = _band(1, 2304)

CPU_CASES = (
    Case("video 226+13x1350", _VIDEO, heads=4),
    Case("image 4096", _IMAGE_4096),
    Case("image 2304", _IMAGE_2304, batch=2, heads=4),
    Case("refresh video 226+13x1350", _VIDEO, heads=2, operation="refresh"),
    Case("refresh image 4096", _IMAGE_4096, operation="refresh"),
    Case("refresh image 2304", _IMAGE_2304, batch=2, heads=4, operation="refresh"),
)


def _model(name: str, heads: int, head_dim: int, band: BandLayout, tiles: TileLayout) -> tuple[Case, ...]:
    """Returns a model's window of each kind, and the sparse step and the refresh that go with its band."""
    return (
        Case(f"{name}, band", band, heads=heads, head_dim=head_dim),
        Case(f"{name}, tiles", tiles, heads=heads, head_dim=head_dim),
        Case(f"{name}, sparse step", band, heads=heads, head_dim=head_dim, operation="reshape"),
        Case(f"{name}, refresh", band, heads=heads, head_dim=head_dim, operation="refresh"),
        Case(f"{name}, refresh of tiles", tiles, heads=heads, head_dim=head_dim, operation="refresh"),
    )


# All heads, and tiles of up to 128 tokens, the queries of a program.
GPU_CASES = (
    *_model(
        "CogVideoX-2b 480p",
        heads=30,
        head_dim=64,
        band=_VIDEO,
        tiles=TileLayout(13, 30, 45, tile=(13, 3, 3), window=(13, 6, 7), text_tokens=226),
    ),
    *_model(
        "Wan-1.3B 480p",
        heads=12,
        head_dim=128,
        band=_band(21, 1560),
        tiles=TileLayout(21, 30, 52, tile=(21, 2, 3), window=(21, 6, 8)),
    ),
    *_model(
        "HunyuanVideo 720p",
        heads=24,
        head_dim=128,
        band=_band(33, 3600, 256, text_first=False),
        tiles=TileLayout(33, 45, 80, tile=(4, 4, 8), window=(12, 12, 24), text_tokens=256, text_first=False),
    ),
    *_model(
        "PixArt 1024",
        heads=16,
        head_dim=72,
        band=_IMAGE_4096,
        tiles=TileLayout(1, 64, 64, tile=(1, 8, 16), window=(1, 12, 20)),
    ),
    *_model(
        "FLUX 1024",
        heads=24,
        head_dim=128,
        band=_band(1, 4096, 512),
        tiles=TileLayout(1, 64, 64, tile=(1, 8, 16), window=(1, 12, 20), text_tokens=512),
    ),
)

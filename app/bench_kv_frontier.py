"""Which cache methods are worth a look: constraints first, then the frontier of bytes and likeness among what is left.

A lexicographic order would let the first figure decide alone; six objectives at once would leave nearly everything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Constraints:
    """
    What a method has to keep to; None asks nothing.

    Args:
        min_psnr (`float`, *optional*): dB, over the whole video.
        min_last_psnr (`float`, *optional*): dB, in the last stretch of time, where drift is greatest.
        min_ssim (`float`, *optional*): 0 to 1.
        min_accuracy (`float`, *optional*): Share of videos true to their caption, 0 to 1; unknown is not enough.
        max_seconds_ratio (`float`, *optional*): Seconds in those of the plain window.
        max_bytes (`int`, *optional*): Of the cache.
        max_peak_bytes (`int`, *optional*): Of the whole call; unknown is too many.
    """

    min_psnr: float | None = None
    min_last_psnr: float | None = None
    min_ssim: float | None = None
    min_accuracy: float | None = None
    max_seconds_ratio: float | None = None
    max_bytes: int | None = None
    max_peak_bytes: int | None = None

    def broken_by(self, row: dict[str, Any]) -> list[str]:
        """Names of the constraints that a row of `bench_kv` does not keep to."""
        figures = {
            "psnr": row["psnr"],
            "last_psnr": row["drift"][-1],
            "ssim": row["ssim"],
            "accuracy": row["caption_accuracy"],
            "seconds_ratio": row["seconds_ratio"],
            "bytes": row["kv_bytes"],
            "peak_bytes": row["peak_bytes"],
        }
        broken = []
        for name, bound in vars(self).items():
            side, _, figure = name.partition("_")
            value = figures[figure]
            if bound is not None and (value is None or (value < bound if side == "min" else value > bound)):
                broken.append(name)
        return broken


def judge_rows(rows: Sequence[dict[str, Any]], constraints: Constraints) -> list[dict[str, Any]]:
    """The rows of `bench_kv` with `breaks`, the constraints that each one breaks, and `on_frontier`.

    On the frontier are those that break none and that no other one of these beats: fewer bytes at no lower PSNR, or a
    higher PSNR in no more bytes.
    """
    judged = [{**row, "breaks": constraints.broken_by(row) if "why" not in row else []} for row in rows]
    allowed = [row for row in judged if "why" not in row and not row["breaks"]]
    return [
        {**row, "on_frontier": row in allowed and not any(_beats(other, row) for other in allowed)} for row in judged
    ]


def _beats(row: dict[str, Any], other: dict[str, Any]) -> bool:
    no_worse = row["kv_bytes"] <= other["kv_bytes"] and row["psnr"] >= other["psnr"]
    return no_worse and (row["kv_bytes"] < other["kv_bytes"] or row["psnr"] > other["psnr"])

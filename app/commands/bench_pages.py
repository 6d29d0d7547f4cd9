"""`hasten bench pages`: attention over quantized pages of keys and values."""

from typing import Annotated

import typer

from hasten.app import options
from hasten.app.console import screen


def pages(
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls of each side of a ratio.")] = 5,
    dtype: options.DtypeName = "bfloat16",
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Attention over quantized pages against dense attention to the same keys in 16 bits: seconds and bytes."""
    with screen(json) as shown:
        from hasten.app.bench_paged import run
        from hasten.app.machine import choose_device

        shown.result = run(
            dtype="bfloat16" if dtype == "auto" else dtype, repeats=repeats, device=choose_device(device)
        )
        shown.table(
            "16,384 keys, 1,536 queries, 12 heads of 128 channels; ratios to dense attention",
            ("pages", "seconds", "bytes", "max error", "extra MB", "implementation"),
            [
                (
                    row["name"],
                    f"{row['seconds_ratio']:.2f}",
                    f"{1 / row['bytes_ratio']:.3f}",
                    f"{row['max_error']:.1e}",
                    f"{row['extra_bytes'] / 1e6:,.0f}",
                    row["implementation"],
                )
                for row in shown.result["rows"]
            ],
        )

"""`hasten bench min-tokens`: from where on sparse attention pays on this machine."""

from typing import Annotated

import typer

from hasten.app import options
from hasten.app.console import screen


def min_tokens(
    density: Annotated[float, typer.Option(help="Size of the window, as in RettentionConfig.")] = 0.03125,
    window: Annotated[str, typer.Option(help="band or tiles.")] = "band",
    batch: Annotated[int, typer.Option(min=1, help="Batch rows; 2 with classifier-free guidance.")] = 2,
    heads: Annotated[int, typer.Option(min=1, help="Attention heads.")] = 16,
    head_dim: Annotated[int, typer.Option(min=1, help="Channels of a head.")] = 64,
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls of each side of a ratio.")] = 5,
    dtype: options.DtypeName = "auto",
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Sparse steps of ever larger pictures against dense attention: the `min_tokens` to give to RettentionConfig."""
    with screen(json) as shown:
        import hasten
        from hasten.app.bench_attention import DTYPES
        from hasten.app.break_even import measure_break_even
        from hasten.app.machine import choose_device

        config = hasten.RettentionConfig(density=density, window=window)  # type: ignore[arg-type]
        chosen = choose_device(device)
        shown.result = measure_break_even(
            config,
            batch=batch,
            heads=heads,
            head_dim=head_dim,
            dtype=dtype if dtype != "auto" else DTYPES.get(chosen.type, ("float32",))[0],
            device=chosen,
            repeats=repeats,
        )
        least = shown.result["min_tokens"]
        verdict = f"min_tokens={least}" if least is not None else "dense attention is faster at all of these sizes"
        shown.table(
            f"a sparse step against dense attention: {verdict}",
            ("picture", "tokens", "density", "speed-up"),
            [
                (row["name"], str(row["tokens"]), f"{row['density']:.3f}", f"{row['speedup']:.2f}")
                for row in shown.result["rows"]
            ],
        )

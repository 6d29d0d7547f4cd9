"""`hasten bench rollout`: whole rollouts of Wan 2.1 with random weights over the study's cache, the ring and ours."""

from typing import Annotated, Any

import typer

from hasten.app import options
from hasten.app.console import quiet_libraries, screen
from hasten.app.tables import DASH


def rollout(
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Measure this cache method; may be repeated.")
    ] = None,
    latent_frames: Annotated[int, typer.Option(min=3, help="Latent frames of the video, 3 to a chunk.")] = 42,
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls of each cache.")] = 3,
    dtype: options.DtypeName = "auto",
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Caches on a whole rollout of Wan 2.1 1.3B at 480p with random weights, beside the study's layout: for a GPU."""
    with screen(json) as shown:
        import hasten
        from hasten.app.bench_kv_rollout import RolloutCase, run
        from hasten.app.machine import choose_device, choose_dtype

        quiet_libraries()
        names = [hasten.KVCacheConfig(name).method for name in only or ()]
        case = RolloutCase(latent_frames=latent_frames)
        target = choose_device(device)
        shown.result = run(
            case, device=target, dtype=choose_dtype(dtype, target), repeats=repeats, only=names, say=shown.say
        )
        shown.table(
            f"{case.model.name}, {latent_frames} latent frames, a window of {case.window_frames}: whole calls",
            ("cache", "seconds", "× ring", "kv GB", "× ring", "peak GB", "× study"),
            [_cells(row) for row in shown.result["rows"]],
        )


def _cells(row: dict[str, Any]) -> list[str]:
    if "why" in row:
        return [f"{row['name']}: {row['why']}", *6 * [DASH]]

    def cell(name: str, form: str, unit: float = 1) -> str:
        return DASH if row[name] is None else format(row[name] / unit, form)

    return [
        row["name"],
        cell("seconds", ".2f"),
        cell("seconds_ratio", ".2f"),
        cell("kv_bytes", ".3f", 1e9),
        cell("kv_ratio", ".3f"),
        cell("peak_bytes", ".2f", 1e9),
        cell("peak_ratio", ".2f"),
    ]

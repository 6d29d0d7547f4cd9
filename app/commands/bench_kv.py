"""`hasten bench kv`: cache methods × prompts × seeds on a model that generates chunk by chunk."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from hasten.app import options
from hasten.app.console import Screen, quiet_libraries, screen
from hasten.app.tables import DASH

TABLE = "methods.csv"
PARETO = "pareto.png"
MEMORY = "memory.png"
COLUMNS = ("ratio", "study", "kv MB", "peak MB", "× time", "PSNR", "last", "SSIM", "captions")


def kv(
    model: options.Model = "emoji-rollout",
    prompt: options.Prompt = None,
    prompts: options.Prompts = None,
    num_prompts: options.NumPrompts = None,
    num_seeds: options.NumSeeds = 1,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Measure this cache method; may be repeated; all otherwise.")
    ] = None,
    window: options.WindowFrames = None,
    sink_frames: options.SinkFrames = None,
    height: options.Height = None,
    width: options.Width = None,
    frames: options.Frames = None,
    steps: options.Steps = None,
    segments: Annotated[int, typer.Option(min=1, max=8, help="Stretches of time that drift is measured in.")] = 4,
    min_psnr: Annotated[float | None, typer.Option(help="Least PSNR to the plain window's video, dB.")] = None,
    min_last_psnr: Annotated[float | None, typer.Option(help="The same in the last stretch of time alone.")] = None,
    min_ssim: Annotated[float | None, typer.Option(help="Least SSIM.")] = None,
    min_accuracy: Annotated[float | None, typer.Option(help="Least share of videos true to their caption.")] = None,
    max_seconds_ratio: Annotated[float | None, typer.Option(help="Most seconds, in those of the plain window.")] = None,
    max_bytes: Annotated[int | None, typer.Option(help="Most bytes of the cache.")] = None,
    max_peak_bytes: Annotated[int | None, typer.Option(help="Most bytes of the whole call at its peak.")] = None,
    seed: options.Seed = 0,
    dtype: options.DtypeName = "auto",
    device: options.Device = "auto",
    out: options.Out = Path("outputs/bench-kv"),
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """KV cache methods against the plain window: real bytes, peak, seconds, likeness, drift, captions; the frontier."""
    with screen(json) as shown:
        from hasten.app.bench_kv import bench_kv, cache_configs
        from hasten.app.bench_kv_frontier import Constraints, judge_rows
        from hasten.app.bench_kv_table import write_table
        from hasten.app.bench_pipeline import with_seeds
        from hasten.app.machine import provenance
        from hasten.app.output import output_folder, write_result
        from hasten.app.workload import prepare

        quiet_libraries()
        configs = cache_configs(only, window, sink_frames)
        constraints = Constraints(
            min_psnr, min_last_psnr, min_ssim, min_accuracy, max_seconds_ratio, max_bytes, max_peak_bytes
        )
        with output_folder(out, force=force) as folder:
            loaded, workload = prepare(
                model,
                prompt=prompt,
                prompts=prompts,
                num_prompts=num_prompts,
                height=height,
                width=width,
                steps=steps,
                guidance=None,
                seed=seed,
                dtype=dtype,
                device=device,
                frames=frames,
                videos=True,
            )
            workload = with_seeds(workload, num_seeds)
            rows = judge_rows(bench_kv(loaded, configs, workload, shown.say, segments), constraints)
            write_table(rows, folder / TABLE)
            chunk_frames = loaded.pipe.config.chunk_frames
            shown.result = {
                "model": model,
                "constraints": vars(constraints),
                "rows": rows,
                "frontier": [row["method"] for row in rows if row["on_frontier"]],
                "chunk_frames": chunk_frames,
                "out": str(out),
                "files": [TABLE, *_draw(rows, chunk_frames, f"{model}, {loaded.pipe.device.type}", folder, shown)],
                **workload.describe(),
                **provenance(loaded.pipe.device),
            }
            write_result(folder, shown.result)
        shown.table(
            f"{model}: {len(workload.requests)} video(s); ratio of real bytes to the window in 16 bits",
            ("method", "", *COLUMNS),
            [_cells(row) for row in rows],
            texts=2,
        )
        shown.text(
            "+: on the frontier of bytes and PSNR; x: breaks a constraint. PSNR in dB to the plain window's videos, =: "
            f"identical, last: in the last of {segments} stretches of time. study: against twice that window."
        )


def _draw(rows: list[dict[str, Any]], chunk_frames: int, title: str, folder: Path, shown: Screen) -> list[str]:
    try:
        from hasten.app.bench_kv_figures import memory, pareto
    except ImportError as error:
        shown.say(f"no figure was drawn ({error}); install hasten[bench] for it")
        return []
    pareto(rows, title, folder / PARETO)
    memory(rows, chunk_frames, title, folder / MEMORY)
    return [PARETO, MEMORY]


def _cells(row: dict[str, Any]) -> list[str]:
    if "why" in row:
        return [f"{row['method']}: {row['why']}", "", *(DASH for _ in COLUMNS)]

    def cell(value: float | None, form: str, unit: float = 1) -> str:
        return DASH if value is None else format(value / unit, form)

    return [
        row["method"],
        "+" if row["on_frontier"] else "x" if row["breaks"] else "",
        cell(row["ratio"], ".2f"),
        cell(row["published_ratio"], ".2f"),
        cell(row["kv_bytes"], ",.2f", 1e6),
        cell(row["peak_bytes"], ",.0f", 1e6),
        cell(row["seconds_ratio"], ".2f"),
        _decibels(row["psnr"]),
        _decibels(row["drift"][-1]),
        cell(row["ssim"], ".3f"),
        cell(row["caption_accuracy"], ".0%"),
    ]


def _decibels(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "="

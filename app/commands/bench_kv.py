"""`hasten bench kv`: cache methods × prompts × seeds on a model that generates chunk by chunk."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from hasten.app import options
from hasten.app.console import quiet_libraries, screen
from hasten.app.tables import DASH

DEFAULT_MODEL = "emoji-rollout"
COLUMNS = ("ratio", "study", "kv MB", "peak MB", "× time", "PSNR", "last", "SSIM", "captions")

Only = Annotated[
    list[str] | None, typer.Option("--only", help="Measure this cache method; may be repeated; all otherwise.")
]
Segments = Annotated[int, typer.Option(min=1, max=8, help="Stretches of time that drift is measured in.")]
MinPsnr = Annotated[float | None, typer.Option(help="Least PSNR to the plain window's video, dB.")]
MinLastPsnr = Annotated[float | None, typer.Option(help="The same in the last stretch of time alone.")]
MinSsim = Annotated[float | None, typer.Option(help="Least SSIM.")]
MinAccuracy = Annotated[float | None, typer.Option(help="Least share of videos true to their caption.")]
MaxSecondsRatio = Annotated[float | None, typer.Option(help="Most seconds, in those of the plain window.")]
MaxBytes = Annotated[int | None, typer.Option(help="Most bytes of the cache.")]
MaxPeakBytes = Annotated[int | None, typer.Option(help="Most bytes of the whole call at its peak.")]


def kv(
    model: options.Model = DEFAULT_MODEL,
    prompt: options.Prompt = None,
    prompts: options.Prompts = None,
    num_prompts: options.NumPrompts = None,
    num_seeds: options.NumSeeds = 1,
    only: Only = None,
    window: options.WindowFrames = None,
    sink_frames: options.SinkFrames = None,
    height: options.Height = None,
    width: options.Width = None,
    frames: options.Frames = None,
    steps: options.Steps = None,
    segments: Segments = 4,
    min_psnr: MinPsnr = None,
    min_last_psnr: MinLastPsnr = None,
    min_ssim: MinSsim = None,
    min_accuracy: MinAccuracy = None,
    max_seconds_ratio: MaxSecondsRatio = None,
    max_bytes: MaxBytes = None,
    max_peak_bytes: MaxPeakBytes = None,
    seed: options.Seed = 0,
    dtype: options.DtypeName = "auto",
    device: options.Device = "auto",
    out: options.Out = Path("outputs/bench-kv"),
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """KV cache methods against the plain window: real bytes, peak, seconds, likeness, drift, captions; the frontier."""
    with screen(json) as shown:
        from hasten.app.bench_kv import cache_configs
        from hasten.app.bench_kv_frontier import Constraints
        from hasten.app.bench_kv_output import bench_into
        from hasten.app.bench_pipeline import with_seeds
        from hasten.app.machine import provenance
        from hasten.app.output import output_folder, write_result
        from hasten.app.workload import prepare

        quiet_libraries()
        configs = cache_configs(only, window, sink_frames)
        constraints = Constraints(
            min_psnr=min_psnr,
            min_last_psnr=min_last_psnr,
            min_ssim=min_ssim,
            min_accuracy=min_accuracy,
            max_seconds_ratio=max_seconds_ratio,
            max_bytes=max_bytes,
            max_peak_bytes=max_peak_bytes,
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
            rows, files = bench_into(folder, loaded, configs, workload, constraints, segments, shown.say)
            shown.result = {
                "model": model,
                "constraints": vars(constraints),
                "rows": rows,
                "frontier": [row["method"] for row in rows if row["on_frontier"]],
                "chunk_frames": loaded.pipe.config.chunk_frames,
                "out": str(out),
                "files": files,
                **workload.describe(),
                **provenance(loaded.pipe.device),
            }
            write_result(folder, shown.result)
        title = f"{model}: {len(workload.requests)} video(s); ratio of real bytes to the window in 16 bits"
        shown.table(title, ("method", "", *COLUMNS), map(_cells, rows), texts=2)
        shown.text(_LEGEND.format(segments=segments))


_LEGEND = (
    "+: on the frontier of bytes and PSNR; x: breaks a constraint. PSNR in dB to the plain window's videos, =: "
    "identical, last: in the last of {segments} stretches of time. study: against twice that window."
)


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

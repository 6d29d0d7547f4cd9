"""Times whole denoising runs of published architectures with random weights, plain and at the paper's schedule."""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

import hasten
from hasten.app.machine import provenance
from hasten.app.memory import out_of_memory, peak_memory
from hasten.app.published_models import PublishedModel
from hasten.fields import check_names

DENSITY = 0.03125
PLAIN = "plain"


def methods(model: PublishedModel, steps: int) -> dict[str, hasten.RettentionConfig]:
    """The configurations to time: the paper's with three sizes of state, ours, and output reuse."""
    dense = min(model.dense_steps, max(0, steps - 2))
    paper = hasten.RettentionConfig(density=DENSITY, dense_steps=dense, refresh_interval=5)
    ours = replace(paper, correction="fitted")
    return {
        "Re-ttention": paper,
        "Re-ttention, state in 8 bits": replace(paper, state_bits=8),
        "Re-ttention, state in 4 bits": replace(paper, state_bits=4),
        "fitted": ours,
        "fitted, state in 4 bits": replace(ours, state_bits=4),
        "Re-ttention, tiles": replace(paper, window="tiles"),
        "output reuse": replace(paper, correction="reuse"),
    }


def run(
    model: PublishedModel,
    *,
    device: torch.device,
    dtype: torch.dtype,
    steps: int | None = None,
    layers: int | None = None,
    only: Sequence[str] = (),
) -> dict[str, Any]:
    """Time the denoiser of one model: every method twice, of which the second time counts.

    Args:
        model: Architecture and size.
        device, dtype: Where, and in what.
        steps: Steps of a run, the model's own by default.
        layers: At most so many blocks of each kind; then the times are of a part of the model, and `layers` says so.
        only: Names of methods beside "plain", which always runs; all by default.

    Returns:
        `dict`: `rows` with `name`, `seconds` in the denoiser, `speedup`, `density`, the median seconds of a
        `dense_step`, a `refresh_step` and a `sparse_step`, `attention_share` (what a step without self-attention saves
        of a dense one; in the row of output reuse), `peak_bytes` and `state_bytes`; and where and how it was measured.

    Raises:
        AccelerationError: a name is unknown.
    """
    steps = model.steps if steps is None else steps
    plain = hasten.RettentionConfig(dense_steps=steps)  # as stock, with a report of its steps
    known = {PLAIN: plain, **methods(model, steps)}
    check_names(only, known, "method to time")
    pipeline = model.build(device, dtype, layers)
    arguments = {**model.arguments(device, dtype), "num_inference_steps": steps}
    chosen = {name: config for name, config in known.items() if not only or name in (PLAIN, *only)}
    rows: list[dict[str, Any]] = []
    for name, config in chosen.items():
        pipeline.enable_acceleration(attention=config)
        try:
            rows.append(_measure(name, pipeline, arguments, device))
        except torch.OutOfMemoryError:
            rows.append({"name": name, "why": out_of_memory(device)})
        pipeline.disable_acceleration()
    dense = rows[0].get("dense_step")
    for row in rows:
        row["speedup"] = rows[0]["seconds"] / row["seconds"] if "seconds" in row and dense else None
        if row["name"] == "output reuse" and row.get("sparse_step") and dense:
            row["attention_share"] = 1 - row["sparse_step"] / dense
    return {"model": model.name, "layers": layers, "steps": steps, "rows": rows, **provenance(device)}


def _measure(name: str, pipeline: Any, arguments: dict[str, Any], device: torch.device) -> dict[str, Any]:
    pipeline(**arguments, generator=torch.Generator().manual_seed(0))
    with peak_memory(device) as peak:
        pipeline(**arguments, generator=torch.Generator().manual_seed(0))
    report = pipeline.acceleration_report()
    by_kind = {
        f"{kind}_step": statistics.median(seconds) if (seconds := _seconds(report, kind)) else None
        for kind in ("dense", "refresh", "sparse")
    }
    return {
        "name": name,
        "seconds": report.seconds,
        "density": report.density,
        **by_kind,
        "peak_bytes": peak.bytes,
        "state_bytes": report.state_bytes,
        "fallbacks": [f"{fallback.where}: {fallback.reason}" for fallback in report.fallbacks],
    }


def _seconds(report: hasten.AccelerationReport, kind: str) -> list[float]:
    return [step.seconds for step in report.steps if step.kind == kind]

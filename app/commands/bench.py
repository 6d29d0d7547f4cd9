"""`hasten bench`: the measurements behind the published tables."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from hasten.app import options
from hasten.app.commands.bench_diff import diff
from hasten.app.commands.bench_kv import kv
from hasten.app.commands.bench_pages import pages
from hasten.app.commands.bench_pipeline import pipeline
from hasten.app.commands.bench_rollout import rollout
from hasten.app.commands.bench_sampling import sampling
from hasten.app.commands.bench_stages import stages
from hasten.app.commands.min_tokens import min_tokens
from hasten.app.console import quiet_libraries, screen
from hasten.app.tables import DASH


class AttentionDtype(StrEnum):
    """What `hasten bench attention` measures in; an enumeration because typer takes no list of literals."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


bench = typer.Typer(help="Measure kernels and methods: ratios from one process, plain baselines always among them.")
for command in (pipeline, sampling, stages, kv, rollout, pages, min_tokens, diff):
    bench.command()(command)


@bench.command()
def attention(
    dtype: Annotated[
        list[AttentionDtype] | None, typer.Option(help="May be repeated; float32 and bfloat16, on a GPU bfloat16.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls of each side of a ratio.")] = 5,
    device: Annotated[str, typer.Option(help="cpu, or the shapes of large models on cuda, cuda:1, …")] = "cpu",
    json: options.Json = False,
) -> None:
    """Window and refresh attention against dense attention: speed-up, efficiency, error and extra memory."""
    with screen(json) as shown:
        from hasten.app.bench_attention import run
        from hasten.app.machine import choose_device

        shown.result = run(dtype, repeats=repeats, device=choose_device(device))
        shown.table(
            "attention against scaled_dot_product_attention; efficiency = speed-up × density",
            ("name", "dtype", "tokens", "density", "speed-up", "efficiency", "max error", "extra MB"),
            [_attention_row(row) for row in shown.result["rows"]],
            texts=2,
        )


@bench.command()
def transformer(
    model: options.PublishedModel = "all",
    layers: options.Layers = None,
    steps: options.Steps = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Time this method; may be repeated.")] = None,
    dtype: options.DtypeName = "auto",
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Whole denoising runs of published architectures with random weights, at the paper's schedule: for a GPU."""
    with screen(json) as shown:
        from hasten.app.bench_transformer import run
        from hasten.app.machine import choose_device, choose_dtype
        from hasten.app.published_models import published_models

        quiet_libraries()
        chosen, target = published_models(model), choose_device(device)
        precision = choose_dtype(dtype, target)
        shown.result = {"models": []}
        for one in chosen:
            shown.say(f"{one.name}: {steps or one.steps} steps")
            result = run(one, device=target, dtype=precision, steps=steps, layers=layers, only=only or ())
            shown.result["models"].append(result)
            shown.table(
                f"{one.name}: seconds in the denoiser, medians of a step",
                ("method", "seconds", "speed-up", "dense", "refresh", "sparse", "density", "peak GB", "state GB"),
                [_transformer_row(row) for row in result["rows"]],
            )


def _transformer_row(row: dict[str, Any]) -> list[str]:
    if "why" in row:
        return [row["name"], row["why"], *7 * [DASH]]

    def cell(name: str, form: str, unit: float = 1, sign: str = "") -> str:
        return DASH if row[name] is None else format(row[name] / unit, form) + sign

    return [
        row["name"],
        cell("seconds", ".2f"),
        cell("speedup", ".2f", sign="×"),
        *(cell(f"{kind}_step", ".3f") for kind in ("dense", "refresh", "sparse")),
        cell("density", ".3f"),
        cell("peak_bytes", ".2f", 1e9),
        cell("state_bytes", ".2f", 1e9),
    ]


def _attention_row(row: dict[str, Any]) -> list[str]:
    return [
        row["name"],
        row["dtype"],
        f"{row['tokens']:,}",
        f"{row['density']:.4f}",
        f"{row['speedup']:.2f}×",
        f"{row['efficiency']:.2f}",
        f"{row['max_error']:.1e}",
        f"{row['extra_bytes'] / 1e6:,.0f}",
    ]

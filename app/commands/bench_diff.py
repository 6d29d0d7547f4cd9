"""`hasten bench diff`: what changed from one benchmark to another, beyond noise."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hasten.app import options
from hasten.app.console import screen
from hasten.app.tables import DASH

SOMETHING_CHANGED = 1


def diff(
    a: Annotated[
        Path, typer.Argument(help="result.json, or its folder, of bench pipeline, bench sampling or compare.")
    ],
    b: Annotated[Path, typer.Argument(help="Another one.")],
    fail_on_change: Annotated[
        bool, typer.Option("--fail-on-change", help="End with exit code 1 if anything changed.")
    ] = False,
    json: options.Json = False,
) -> None:
    """What changed from A to B beyond noise: speed-ups (ratios within each run, never seconds), quality, memory."""
    with screen(json) as shown:
        from hasten.app.benchmark.diff import SAME, differences
        from hasten.app.benchmark.results import read_result

        shown.result = differences(read_result(a), read_result(b))
        for note in shown.result["notes"]:
            shown.text(note)
        told = [change for change in shown.result["changes"] if change["verdict"] != SAME]
        if told:
            header = ("method", "figure", "A", "B", "change", "noise", "")
            shown.table(f"A: {a}, B: {b}", header, [_row(change) for change in told], texts=2)
        rest = len(shown.result["changes"]) - len(told)
        shown.text(f"{rest} figure(s) of {len(shown.result['changes'])} are the same within noise.")
        for side in ("a", "b"):
            if shown.result[f"only_in_{side}"]:
                shown.text(f"Only in {side.upper()}: {'; '.join(shown.result[f'only_in_{side}'])}.")
    if fail_on_change and shown.result["changed"]:
        raise typer.Exit(SOMETHING_CHANGED)


def _row(change: dict[str, Any]) -> list[str]:
    from hasten.app.benchmark.diff import FIGURES

    figure = FIGURES[change["figure"]]
    form = ".1%" if figure.is_ratio else ".4g"
    moved = DASH if change["change"] is None else format(change["change"], f"+{form}")
    noise = DASH if change["noise"] is None else "±" + format(change["noise"], form)
    sides = [_side(change[side], change["figure"]) for side in ("a", "b")]
    return [change["method"], figure.label, *sides, moved, noise, change["verdict"]]


def _side(value: float | None, figure: str) -> str:
    if value is None:  # only PSNR is without a value: pictures are identical
        return "identical"
    return f"{value:.2f}×" if figure == "speedup" else f"{value:.4g}"

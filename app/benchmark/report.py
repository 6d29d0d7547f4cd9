"""The report of a benchmark: figures, frontier and pictures on one page that needs nothing else."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from hasten.app.benchmark.chart import frontier, quality_chart
from hasten.app.benchmark.media import still
from hasten.app.methods import PLAIN
from hasten.app.page import definitions, page, picture_source, scrolled
from hasten.app.series import Call, Series
from hasten.app.tables import DASH, figure_row, known_columns

REPORT = "report.html"
PICTURE_BYTES = 8_000_000
"""Pictures together take at most about so much of the page; the rest lie beside it."""

_CHARTS = {
    "psnr": "PSNR to the plain picture, dB",
    "ssim": "SSIM to the plain picture",
    "lpips": "LPIPS, less is closer",
}
_NOTES = {
    "seconds": "Seconds are medians over the requests, after a warm-up; all methods take turns on each request.",
    "denoise": "“denoise” is from the denoiser’s first call to its last, “decode” what follows; the rest is the text.",
    "PSNR dB": "PSNR and SSIM compare with the plain picture of the same prompt and seed.",
    "LPIPS": "LPIPS does so too, 0 is identical.",
    "CLIP": "CLIP is 100 times the cosine of picture and prompt.",
    "captions": "“captions” is the share of pictures that show what their prompt says.",
    "density": "Density is the share of query-key pairs that were computed.",
}
_FEWER_STEPS = (
    "“plain, N steps” is the plain pipeline with as many steps as fit into a method’s seconds: where it is closer to "
    "plain than that method, take fewer steps."
)
_BEST = "◆ faster than plain, and no other method is both faster and closer to the plain picture (PSNR)."


def report(result: Mapping[str, Any], rows: Sequence[dict[str, Any]], series: Mapping[str, Series]) -> str:
    """The page.

    Args:
        result: As in `result.json`.
        rows: Those of `result`, with figures that JSON does not hold.
        series: What the calls of the rows made; the page links to the files beside it that have all of it.
    """
    count = len(result["requests"])
    title = f"{result['model']}: {len(rows)} methods, {count} request{'s' if count > 1 else ''}"
    charts = [(label, quality_chart(rows, key, label)) for key, label in _CHARTS.items()]
    figures = [f"<figure>{scrolled(f'Chart: {label}', chart)}</figure>" for label, chart in charts if chart]
    return page(
        title,
        [
            f"<header><h1>{escape(title)}</h1>",
            f'<p class="faint">{escape(_subtitle(result))}</p></header>',
            "<main>",
            _figures(rows),
            _notes(rows),
            "<h2>Quality against seconds</h2>" if figures else "",
            f'<div class="charts">{"".join(figures)}</div>',
            *_pictures(result, rows, series),
            *_reproduction(result),
            "</main>",
        ],
    )


def _subtitle(result: Mapping[str, Any]) -> str:
    arguments = result["arguments"]
    facts = [f"{arguments['num_inference_steps']} steps"]
    if "width" in arguments and "height" in arguments:
        facts.insert(0, f"{arguments['width']}×{arguments['height']}")
    return " · ".join([*facts, result["device"]])


def _figures(rows: Sequence[dict[str, Any]]) -> str:
    columns = known_columns(rows)
    measured = [row for row in rows if "why" not in row]
    best = {row["name"] for row in frontier(measured, "psnr")}
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("method", *columns))
    lines = []
    for row in rows:
        name = f'<th scope="row">{escape(row["name"])}</th>'
        if "why" in row:
            lines.append(
                f'<tr>{name}<td class="why" colspan="{len(columns)}">did not run: {escape(row["why"])}</td></tr>'
            )
            continue
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in figure_row(row["name"], row, columns)[1:])
        mark = ' class="best"' if row["name"] in best else ""
        lines.append(f"<tr{mark}>{name}{cells}</tr>")
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    key = f'<p class="faint">{_BEST}</p>' if best else ""
    return scrolled("Figures of every method", table) + key


def _notes(rows: Sequence[dict[str, Any]]) -> str:
    columns = known_columns(rows)
    told = [note for column, note in _NOTES.items() if column in columns]
    return f'<p class="faint">{" ".join([*told, _FEWER_STEPS])}</p>'


def _pictures(result: Mapping[str, Any], rows: Sequence[dict[str, Any]], series: Mapping[str, Series]) -> list[str]:
    measured = [(row, series[row["name"]].calls) for row in rows if row["name"] in series]
    requests = result["requests"]
    sections: list[str] = []
    taken = 0
    for index, request in enumerate(requests):
        pictures = "".join(_picture(row, index, calls[index], request) for row, calls in measured)
        section = (
            f"<section><h3>{escape(request['prompt'])} <small>seed {request['seed']}</small></h3>"
            f'<div class="row">{pictures}</div></section>'
        )
        taken += len(section)
        if sections and taken > PICTURE_BYTES:
            break
        sections.append(section)
    left = len(requests) - len(sections)
    note = f"<p>The first {len(sections)} of {len(requests)} requests; the other pictures lie beside this page.</p>"
    return ["<h2>Pictures</h2>", note if left else "", *sections]


def _picture(row: Mapping[str, Any], index: int, call: Call, request: Mapping[str, Any]) -> str:
    file, figures = row["pictures"][index], row["per_request"][index]
    label = f"{row['name']}: {request['prompt']}, seed {request['seed']}"
    # alone in somebody's mail box the page still shows everything; beside its files the links work
    return (
        f'<figure><a href="{escape(quote(file))}"><img alt="{escape(label)}" src="{picture_source(still(call))}"></a>'
        f"<figcaption>{escape(row['name'])}<small>{escape(_about(row['name'], figures))}</small></figcaption></figure>"
    )


def _about(name: str, figures: Mapping[str, Any]) -> str:
    facts = [f"{figures['seconds']:.2f} s"]
    if name != PLAIN.name:
        identical = math.isinf(figures["psnr"])
        facts.append("identical" if identical else f"{figures['psnr']:.1f} dB · SSIM {figures['ssim']:.3f}")
    if figures["caption_accuracy"] is not None:
        facts.append("caption right" if figures["caption_accuracy"] == 1 else "caption wrong")
    return " · ".join(facts)


def _reproduction(result: Mapping[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    arguments = ", ".join(f"{name}={value}" for name, value in result["arguments"].items())
    facts = [("device", result["device"]), ("versions", versions), ("pipeline arguments", arguments or DASH)]
    return [
        "<h2>How to make this again</h2>",
        f"<pre><code>{escape(result['command'])}</code></pre>",
        definitions(facts),
        "<p><code>hasten bench diff</code> with the folders of two such runs says what changed beyond noise.</p>",
    ]

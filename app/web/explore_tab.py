"""Benchmark results on a frontier chart: constraints as sliders, and the pictures behind a point."""

from html import escape
from typing import Any

import gradio as gr

from hasten.app.ablations import CORRECTIONS, PLAIN_NAME
from hasten.app.web.benchmarks import Benchmark, Benchmarks
from hasten.app.web.charts import Dot, scatter_chart
from hasten.app.web.components import chooser, medium
from hasten.app.web.frontier import COSTS, FIGURES, QUALITIES, Figure, name_of, number, pareto, within
from hasten.app.web.services import Services
from hasten.presets import presets

_STYLES = {"ours": "hasten", "other": "other methods", "plain": "plain, fewer steps"}
_NOTHING = '<p class="empty">No benchmark results yet: hasten bench pipeline makes some.</p>'


def build_explore_tab(services: Services, tab: gr.Tab) -> None:
    """Lay the tab out in the current context."""
    gr.HTML("<h2>Explore</h2><p>What each method costs and how close it comes, from benchmark results.</p>")
    tables = Benchmarks(services.store.outputs)
    titles = list(tables.look())
    first = tables.get(titles[0]) if titles else None
    with gr.Row(elem_classes="filters"):
        table = gr.Dropdown(
            titles, value=titles[0] if titles else None, label="Results", elem_id="table", min_width=260
        )
        cost = gr.Dropdown(_columns(first, COSTS), label="Across", elem_id="cost", min_width=260)
        quality = gr.Dropdown(_columns(first, QUALITIES), label="Up", elem_id="quality", min_width=260)
    with gr.Row(elem_classes="filters"):
        speedup = gr.Slider(0, 4, value=0, step=0.05, label="Least speed-up", buttons=[], min_width=260)
        psnr = gr.Slider(0, 60, value=0, step=0.5, label="Least PSNR, dB", buttons=[], min_width=260)
        ssim = gr.Slider(0, 1, value=0, step=0.005, label="Least SSIM", buttons=[], min_width=260)
    chart = chooser(_chart(first, "speedup", "psnr", {}), elem_id="frontier")
    detail = gr.HTML(elem_id="point")

    def draw(title: str, x: str, y: str, *bounds: float) -> str:
        least = {name: bound for name, bound in zip(("speedup", "psnr", "ssim"), bounds, strict=True) if bound}
        return _chart(tables.get(title), x, y, least)

    def other_table(title: str) -> list[Any]:
        chosen = tables.get(title)
        return [
            gr.Dropdown(choices, value=choices[0][1] if choices else None)
            for choices in (_columns(chosen, COSTS), _columns(chosen, QUALITIES))
        ]

    def look(title: str, event: gr.EventData) -> str:
        return _detail(tables.get(title), str(event._data["choice"]))

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    inputs = [table, cost, quality, speedup, psnr, ssim]
    tab.select(lambda: gr.Dropdown(list(tables.look())), None, table, **quiet)
    table.input(other_table, table, [cost, quality], **quiet).then(draw, inputs, chart, **quiet)
    gr.on([cost.input, quality.input, speedup.input, psnr.input, ssim.input], draw, inputs, chart, **quiet)
    chart.choose(look, table, detail, **quiet)


def _columns(table: Benchmark | None, known: dict[str, Figure]) -> list[tuple[str, str]]:
    return [(figure.label, column) for column, figure in table.columns(known).items()] if table else []


def _chart(table: Benchmark | None, cost: str, quality: str, least: dict[str, float]) -> str:
    if table is None:
        return _NOTHING
    rows = within(table.rows, cost, quality, least)
    dots = [Dot(name_of(row), _style(name_of(row)), *_point(row, cost, quality), name_of(row)) for row in rows]
    best = [_point(row, cost, quality) for row in pareto(rows, cost, quality)]
    return scatter_chart(dots, best, COSTS[cost].label, QUALITIES[quality].label, _STYLES)


def _point(row: dict[str, Any], cost: str, quality: str) -> tuple[float, float]:
    return row[cost] / FIGURES[cost].unit, row[quality] / FIGURES[quality].unit


def _style(name: str) -> str:
    if name.startswith(PLAIN_NAME):
        return "plain"
    return "ours" if name in presets() or name in CORRECTIONS else "other"


def _detail(table: Benchmark | None, name: str) -> str:
    row = next((row for row in table.rows if name_of(row) == name), None) if table else None
    if table is None or row is None:
        return ""
    figures = "".join(
        f"<div><dt>{figure.label}</dt><dd>{value:.4g}</dd></div>"
        for column, figure in FIGURES.items()
        if (value := number(row, column)) is not None
    )
    pictures = "".join(medium(file, name) for file in table.pictures(name))
    shown = pictures or '<p class="note">This table has no pictures; hasten bench pipeline and bench kv make some.</p>'
    return (
        f'<section class="point"><h3>{escape(name)}</h3><dl>{figures}</dl><div class="thumbs">{shown}</div></section>'
    )

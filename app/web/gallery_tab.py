"""Past comparisons: the latest as cards that open in the first tab, and all of them as one archive."""

from html import escape
from typing import Any

import gradio as gr

from hasten import AccelerationError
from hasten.app.errors import UserError
from hasten.app.web import panels
from hasten.app.web.archive import pack
from hasten.app.web.compare_tab import CompareTab
from hasten.app.web.components import chooser, media_url
from hasten.app.web.runs import PastRun
from hasten.app.web.services import Services

MOST_SHOWN = 60
_FETCH_ARCHIVE = '() => document.querySelector("#archive").click()'
_HEADER = (
    "<h2>Past comparisons</h2><p>Choose one to open it with its settings. "
    "Everybody who can open this page sees all of them.</p>"
)


def build_gallery_tab(services: Services, tab: gr.Tab, tabs: gr.Tabs, compare: CompareTab) -> None:
    """Lay the tab out in the current context; a chosen card opens in `compare`."""
    with gr.Row(elem_classes="bar"):
        gr.HTML(_HEADER)
        download = gr.Button("Download all", elem_id="download-all", scale=0, min_width=160)
    # Gradio's own button downloads what it had before the click that makes the file
    archive = gr.DownloadButton(visible="hidden", elem_id="archive")
    problem = gr.HTML()
    cards = chooser(elem_id="cards")

    def show() -> str:
        return _cards(services.store.newest(MOST_SHOWN))

    def download_all() -> str:
        try:
            return str(pack(services.store.newest(), services.store.own / "downloads"))
        except UserError as error:
            raise gr.Error(str(error), title="Nothing to download", print_exception=False) from error

    def open_run(event: gr.EventData) -> list[Any]:
        return opened(services, compare, str(event._data["choice"]))

    tab.select(show, None, cards, api_visibility="private", show_progress="hidden")
    packed = download.click(download_all, None, archive, api_visibility="private")
    packed.success(None, None, None, js=_FETCH_ARCHIVE, api_visibility="private")
    cards.choose(
        open_run,
        None,
        [tabs, problem, *compare.form.outputs, *compare.outputs],
        api_visibility="private",
        show_progress="hidden",
    )


def opened(services: Services, compare: CompareTab, name: str) -> list[Any]:
    """Values that show the run called `name` in the first tab: tabs, problem, form, outputs."""
    try:
        run = services.store.get(name)
        settings = run.settings()
        services.shelf.check(settings.model)
    except (UserError, AccelerationError) as error:
        untouched = [gr.skip()] * (len(compare.form.outputs) + len(compare.outputs))
        return [gr.skip(), panels.message(str(error), "error"), *untouched]
    return [gr.Tabs(selected="compare"), "", *compare.form.write(settings), *compare.shown(run)]


def _cards(runs: list[PastRun]) -> str:
    if not runs:
        return '<p class="empty">No comparison yet. The first one you make appears here.</p>'
    return f'<ul class="cards">{"".join(_card(run) for run in runs)}</ul>'


def _card(run: PastRun) -> str:
    fast = run.result["accelerated"]
    likeness = "identical" if fast["psnr"] is None else f"{fast['psnr']:.1f} dB"
    pictures = "".join(
        f'<img src="{media_url(run.poster(lane))}" alt="{title}" loading="lazy">'
        for lane, title in (("baseline", "plain"), ("accelerated", "accelerated"))
    )
    return (
        f'<li><button type="button" class="card" data-choice="{escape(run.name)}"><span class="pair">{pictures}</span>'
        f'<span class="card-title">{escape(run.prompt)}</span>'
        f'<span class="card-line">{escape(run.result["recipe"]["name"])} · {fast["speedup"]:.2f}× · {likeness}</span>'
        "</button></li>"
    )

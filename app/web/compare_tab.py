"""The first tab: a form, and beside it both results as they come."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from hasten.app.web import panels, results
from hasten.app.web.components import viewer
from hasten.app.web.form import Form, build_form
from hasten.app.web.runs import PastRun
from hasten.app.web.services import Services

WELCOME = "Both results appear here, with what each took and how close they are."


@dataclass(frozen=True)
class CompareTab:
    """The form, and what shows a comparison."""

    form: Form
    progress: gr.HTML
    viewer: gr.HTML
    figures: gr.HTML

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What a comparison changes, in the order of `shown`."""
        return [self.progress, self.viewer, self.figures]

    @staticmethod
    def shown(run: PastRun) -> list[Any]:
        """Values of `outputs` for a finished comparison."""
        return ["", results.finished_view(run), results.figures(run)]


def build_compare_tab(services: Services) -> CompareTab:
    """Lay the tab out in the current context and connect its buttons."""
    with gr.Row(elem_classes="compare-layout"):
        with gr.Column(scale=4, min_width=320, elem_classes="form"):
            form = build_form(services.shelf)
        with gr.Column(scale=7, min_width=320, elem_classes="results"):
            progress = gr.HTML(panels.message(WELCOME), elem_id="progress")
            shown = viewer(elem_id="viewer")
            figures = gr.HTML(elem_id="figures")
    tab = CompareTab(form, progress, shown, figures)

    async def run(request: gr.Request, *values: Any) -> AsyncIterator[list[Any]]:
        async for update in _updates(services, form, request.session_hash or "", values):
            yield update

    def stop(request: gr.Request) -> None:
        services.engine.cancel(request.session_hash or "")

    gr.on(
        [form.compare.click, form.prompt.submit],
        run,
        form.inputs,
        [*tab.outputs, form.compare, form.stop],
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None,
    )
    form.stop.click(stop, None, None, api_visibility="private", queue=False, show_progress="hidden")
    return tab


async def _updates(services: Services, form: Form, session: str, values: Any) -> AsyncIterator[list[Any]]:
    """Everything that a click on Compare shows, until the comparison is over."""
    try:
        job = services.start(session, form.read(values))
    except Exception as error:
        yield [panels.failure(error), gr.skip(), gr.skip(), gr.skip(), gr.skip()]
        return
    yield [panels.running(job.progress, services.engine.ahead(job)), {"kind": "live"}, "", *_buttons(busy=True)]
    try:
        async for ahead in services.engine.follow(job):
            yield [panels.running(job.progress, ahead), panels.live_view(job.progress), *[gr.skip()] * 3]
        ended = CompareTab.shown(services.store.get(job.result()))
    except Exception as error:
        ended = [panels.failure(error), {"kind": "empty"}, gr.skip()]
    yield [*ended, *_buttons(busy=False)]


def _buttons(*, busy: bool) -> list[gr.Button]:
    """Compare and Stop, of which one can be pressed."""
    return [gr.Button(interactive=not busy), gr.Button(interactive=busy)]

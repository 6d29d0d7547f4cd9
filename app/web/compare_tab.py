"""The first tab: a form, and beside it both results as they come."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from hasten import AccelerationError
from hasten.app.errors import UserError
from hasten.app.web import panels
from hasten.app.web.components import viewer
from hasten.app.web.engine import CancelledError, Job
from hasten.app.web.form import Form, build_form
from hasten.app.web.runs import PastRun
from hasten.app.web.services import Services
from hasten.app.web.settings import Settings

POLL_SECONDS = 0.15
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
        return ["", panels.finished_view(run), panels.figures(run)]


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
        settings = form.read(values)
        job = services.start(session, settings)
    except (UserError, AccelerationError) as error:
        yield [panels.message(str(error), "error"), gr.skip(), gr.skip(), gr.skip(), gr.skip()]
        return
    idle = [gr.Button(interactive=True), gr.Button(interactive=False)]
    yield [panels.running(job.progress, services.engine.ahead(job)), {"kind": "live"}, "", *_busy()]
    try:
        async for progress, view in follow(services, job, settings):
            yield [progress, view, gr.skip(), gr.skip(), gr.skip()]
        yield [*CompareTab.shown(services.store.get(job.result())), *idle]
    except CancelledError:
        yield [panels.message("Stopped. Nothing was kept."), {"kind": "empty"}, gr.skip(), *idle]
    except (UserError, AccelerationError) as error:
        yield [panels.message(str(error), "error"), {"kind": "empty"}, gr.skip(), *idle]


async def follow(services: Services, job: Job, settings: Settings) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Progress panel and viewer of a job whenever there is news. Whoever stops listening cancels the job."""
    seen: tuple[int, int] | None = None
    aspect = settings.width / settings.height if settings.width and settings.height else 1.0
    try:
        while not job.finished:
            news = (job.progress.version, services.engine.ahead(job))
            if news != seen:
                seen = news
                yield panels.running(job.progress, news[1]), panels.live_view(job.progress, aspect)
            await asyncio.sleep(POLL_SECONDS)
    finally:
        job.cancel()


def _busy() -> list[gr.Button]:
    return [gr.Button(interactive=False), gr.Button(interactive=True)]

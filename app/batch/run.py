"""A whole batch as one process of it sees it: prepare, work, finish."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hasten.app.batch.claims import registered
from hasten.app.batch.finishing import finish
from hasten.app.batch.folder import BatchFolder
from hasten.app.batch.launch import Launch, after_first, device_of
from hasten.app.batch.opening import check_batch_folder, open_batch, read_plan
from hasten.app.batch.plan import Plan, Settings
from hasten.app.batch.planning import Defaults, plan_items
from hasten.app.batch.progress import BatchProgress
from hasten.app.batch.rendering import Renderer
from hasten.app.batch.rows import Rows, read_rows
from hasten.app.batch.sources import open_sources
from hasten.app.batch.worker import Worker
from hasten.app.console import Screen
from hasten.app.loading import load_model
from hasten.app.machine import provenance, versions
from hasten.app.media import video_rate


@dataclass(frozen=True)
class Order:
    """What the command line asks for; `prompts` are files, patterns or `-`, and no `fps` is the model's own rate."""

    prompts: Sequence[str]
    model: str
    dtype: str
    picture_format: str
    fps: int | None
    compare: bool
    defaults: Defaults
    device: str
    resume: bool
    force: bool


def run_batch(order: Order, folder: BatchFolder, launch: Launch, shown: Screen) -> dict[str, Any]:
    """Work on the batch until it is finished; gives its result.

    Raises:
        UserError, AccelerationError: it cannot be begun, or the folder cannot be written any more.
        FirstRefused: the first process of the launch refused to begin.
    """
    rows = _prepared(order, folder, shown) if launch.is_first else Rows((), ())
    model = load_model(order.model, dtype=order.dtype, device=device_of(launch, order.device), videos=True)
    rate = video_rate(model, order.fps)
    render = Renderer(model)

    def begin() -> None:
        settings = Settings(order.model, order.dtype, order.picture_format, rate, order.compare)
        plan = Plan(settings, plan_items(rows.rows, order.defaults, model))
        open_batch(folder, plan, force=order.force)
        for item in plan.items:
            if item.error is not None:
                shown.say(f"{item.source}: {item.error}")

    after_first(launch, begin)
    plan = read_plan(folder)
    with registered(folder) as name:
        worker = Worker(folder, plan, name, render, versions())
        with BatchProgress(shown, worker.board) as progress:
            worker.run(progress.update)
    about = {"model": order.model, "out": str(folder.root), **provenance(model.pipe.device)}
    return finish(folder, plan, about)


def _prepared(order: Order, folder: BatchFolder, shown: Screen) -> Rows:
    """The rows, after all that can be refused before the model is loaded."""
    order.defaults.method()
    rows = read_rows(open_sources(order.prompts))
    check_batch_folder(folder, resume=order.resume, force=order.force)
    if rows.ignored:
        shown.say(f"ignored columns: {', '.join(rows.ignored)}")
    return rows

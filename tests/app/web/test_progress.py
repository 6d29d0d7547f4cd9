"""What is told while a comparison runs: the seconds of a step, and what ends badly."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hasten.app.errors import UserError
from hasten.app.web import compare_tab, panels
from hasten.app.web.engine import Engine, Job
from hasten.app.web.progress import Lane, Progress, StepObserver, StepPlan


def test_no_step_counts_the_text_or_the_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    lane = Lane([StepPlan("dense", 0, (64, 64))] * 2)
    observer = StepObserver(lane, lambda: None)
    for now, event in ((5.0, "call"), (6.0, "step"), (6.5, "call"), (8.0, "step")):
        clock[0] = now
        observer.begin() if event == "call" else observer(torch.zeros(1))
    assert [mark.seconds for mark in lane.marks] == [1.0, 2.0]


def test_lanes_that_somebody_reads_do_not_change() -> None:
    progress = Progress()
    progress.begin("baseline", Lane([StepPlan("dense", 0, (96, 64))]))
    read = iter(progress.lanes.items())
    progress.begin("accelerated", Lane([StepPlan("dense", 0, (96, 64))]))
    assert [name for name, _ in read] == ["baseline"]
    assert list(progress.lanes) == ["baseline", "accelerated"]
    assert panels.live_view(progress)["aspect"] == 1.5


def test_a_warm_up_tells_its_whole() -> None:
    progress = Progress("warming up")
    lane = Lane([StepPlan("dense", 0, (64, 64))] * 4, warm_up=1, warm_up_steps=2)
    progress.begin("baseline", lane)
    assert "warm-up, step 1 of 2" in panels.running(progress, 0)


@pytest.mark.parametrize(
    ("error", "told"), [(UserError("Too large."), "Too large."), (RuntimeError("a fault"), "The page failed")]
)
@pytest.mark.parametrize("at_start", [True, False])
def test_whatever_fails_is_told_and_compare_can_be_pressed_again(error: Exception, told: str, at_start: bool) -> None:
    def get(_name: str) -> None:
        raise error

    def start(session: str, _settings: Any) -> Job:
        if at_start:
            raise error
        return engine.submit(session, lambda _job: "name")

    engine = Engine(1)
    services: Any = SimpleNamespace(start=start, engine=engine, store=SimpleNamespace(get=get))
    form: Any = SimpleNamespace(read=lambda _values: None)

    async def all_updates() -> list[list[Any]]:
        return [update async for update in compare_tab._updates(services, form, "a", ())]

    with ThreadPoolExecutor(1) as apart:  # the browser's tests leave an event loop running in this thread
        *_, last = apart.submit(asyncio.run, all_updates()).result()
    assert told in last[0]
    assert 'role="alert"' in last[0]
    if not at_start:
        compare, stop = last[3:]
        assert (compare.interactive, stop.interactive) == (True, False)

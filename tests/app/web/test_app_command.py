"""`hasten app`: what it passes on, and how it ends."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import Result

from hasten.app.cli import app
from hasten.app.web.application import Page
from hasten.app.web.engine import Job
from hasten.app.web.limits import Limits
from hasten.app.web.settings import Settings

Run = Callable[..., Result]


@pytest.mark.parametrize("ending", [None, OSError("in use"), KeyboardInterrupt()], ids=["end", "port", "interrupt"])
def test_however_it_ends_the_running_job_ends_too(
    run_hasten: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: BaseException | None
) -> None:
    jobs: list[Job] = []

    def endless(job: Job) -> None:
        begun.set()
        while True:
            job.check()

    def launch(page: Page, **_options: Any) -> None:
        jobs.append(page.services.engine.submit("a", endless))
        assert begun.wait(10)
        if ending is not None:
            raise ending

    begun = threading.Event()
    monkeypatch.setattr(Page, "launch", launch)
    result = run_hasten("app", "--out", tmp_path)
    assert jobs[0].finished
    assert result.exit_code == {type(None): 0, OSError: 2, KeyboardInterrupt: 130}[type(ending)]


def test_its_limits_are_those_of_the_page(run_hasten: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals: list[str] = []

    def launch(page: Page, **_options: Any) -> None:
        for given in ({"width": 65}, {"num_frames": 10}, {"steps": 8}):
            with pytest.raises(ValueError, match="at most") as refused:
                page.services.start("a", Settings("emoji-image", "a cat", **given))  # type: ignore[arg-type]
            refusals.append(str(refused.value))

    monkeypatch.setattr(Page, "launch", launch)
    given = ("--most-side", 64, "--most-frames", 9, "--most-steps", 7, "--most-waiting", 0)
    assert run_hasten("app", *given, "--out", tmp_path).exit_code == 0
    assert [sentence.split("give ")[1] for sentence in refusals] == ["64 at most.", "9 at most.", "7 at most."]


@pytest.mark.parametrize(
    ("option", "limit"),
    [
        ("--most-side", "side"),
        ("--most-frames", "num_frames"),
        ("--most-steps", "steps"),
        ("--most-waiting", "waiting"),
    ],
)
def test_the_help_tells_the_limit_that_holds_without_an_option(option: str, limit: str) -> None:
    command = get_command(app).commands["app"]  # type: ignore[attr-defined]
    told = next(one.help for one in command.params if option in one.opts)
    assert told.endswith(f"; {getattr(Limits(), limit)} if left out.")

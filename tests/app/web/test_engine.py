import threading
from concurrent.futures import CancelledError

import pytest

from hasten.app.errors import UserError
from hasten.app.web.engine import Engine, Job

SECONDS = 10


def finish(job: Job) -> None:
    for _ in range(SECONDS * 100):
        if job.finished:
            return
        threading.Event().wait(0.01)
    raise AssertionError("the job did not end")


@pytest.fixture
def engine() -> Engine:
    return Engine(waiting=1)


def test_jobs_run_one_at_a_time_in_their_order(engine: Engine) -> None:
    order: list[str] = []
    first_may_end, first_runs = threading.Event(), threading.Event()

    def first(_job: Job) -> None:
        first_runs.set()
        first_may_end.wait(SECONDS)
        order.append("first")

    running = engine.submit("a", first)
    waiting = engine.submit("b", lambda _job: order.append("second"))
    assert first_runs.wait(SECONDS)
    assert (engine.ahead(running), engine.ahead(waiting)) == (0, 1)
    assert not order
    first_may_end.set()
    finish(waiting)
    assert order == ["first", "second"]


def test_a_session_has_one_job_and_a_full_queue_takes_no_more(engine: Engine) -> None:
    may_end = threading.Event()
    engine.submit("a", lambda _job: may_end.wait(SECONDS))
    with pytest.raises(UserError, match="still running"):
        engine.submit("a", lambda _job: None)
    last = engine.submit("b", lambda _job: None)
    with pytest.raises(UserError, match="waiting already"):
        engine.submit("c", lambda _job: None)
    may_end.set()
    finish(last)
    finish(engine.submit("c", lambda _job: None))


def test_a_cancelled_job_ends_at_its_next_check_and_one_that_waits_never_begins(engine: Engine) -> None:
    begun, cancelled = threading.Event(), threading.Event()
    touched: list[str] = []

    def endless(job: Job) -> None:
        begun.set()
        cancelled.wait(SECONDS)
        job.check()
        touched.append("after the check")

    running = engine.submit("a", endless)
    waiting = engine.submit("b", lambda _job: touched.append("began"))
    assert begun.wait(SECONDS)
    engine.cancel("b")
    engine.cancel("a")
    cancelled.set()
    for job in (running, waiting):
        finish(job)
        with pytest.raises(CancelledError):
            job.result()
    assert not touched


def test_a_job_that_waits_leaves_the_queue_while_the_one_ahead_still_runs(engine: Engine) -> None:
    may_end = threading.Event()
    engine.submit("a", lambda _job: may_end.wait(SECONDS))
    waiting = engine.submit("b", lambda _job: None)
    engine.cancel("b")
    assert waiting.finished
    with pytest.raises(CancelledError):
        waiting.result()
    successor = engine.submit("b", lambda _job: "its turn")
    assert engine.ahead(successor) == 1
    may_end.set()
    finish(successor)
    assert successor.result() == "its turn"


def test_a_job_cancelled_around_its_beginning_ends_and_so_does_the_next_one(engine: Engine) -> None:
    for _ in range(200):
        job = engine.submit("a", lambda job: job.check())
        engine.cancel("a")
        finish(job)
    last = engine.submit("a", lambda _job: "fine")
    finish(last)
    assert last.result() == "fine"


def test_programs_may_have_several_jobs_in_one_session(engine: Engine) -> None:
    may_end = threading.Event()
    engine.submit("agents", lambda _job: may_end.wait(SECONDS), several=True)
    second = engine.submit("agents", lambda _job: "second", several=True)
    may_end.set()
    finish(second)
    assert second.result() == "second"


def test_closing_ends_the_running_job_at_its_next_check(engine: Engine) -> None:
    begun = threading.Event()

    def endless(job: Job) -> None:
        begun.set()
        while True:
            job.check()

    running, waiting = engine.submit("a", endless), engine.submit("b", endless)
    assert begun.wait(SECONDS)
    engine.close()
    for job in (running, waiting):
        with pytest.raises(CancelledError):
            job.result()


def test_work_that_fails_is_told_in_a_sentence_and_the_queue_goes_on(engine: Engine) -> None:
    def fail(_job: Job) -> None:
        raise RuntimeError("out of everything\nwith details")

    failed = engine.submit("a", fail)
    finish(failed)
    with pytest.raises(UserError, match=r"The run failed \(out of everything\)"):
        failed.result()
    next_one = engine.submit("a", lambda _job: "fine")
    finish(next_one)
    assert next_one.result() == "fine"

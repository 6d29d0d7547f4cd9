import threading

import pytest

from hasten.app.errors import UserError
from hasten.app.web.engine import CancelledError, Engine, Job

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

"""One device, one job at a time: a queue that knows who waits, can be cancelled, and survives what fails."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

from hasten import AccelerationError
from hasten.app.errors import UserError
from hasten.app.web.progress import Progress

_LOG = logging.getLogger(__name__)
_POLL_SECONDS = 0.15

Work = Callable[["Job"], Any]


class Job:
    """
    A piece of work on the device, before, while and after it runs.

    Args:
        session (`str`): Whose it is.
        work (`Callable[[Job], Any]`): Runs in the engine's thread; calls `check` often.
    """

    def __init__(self, session: str, work: Work) -> None:
        self.session = session
        self.progress = Progress()
        self._work = work
        self._cancelled = threading.Event()
        self._future: Future[Any] = Future()

    def cancel(self) -> None:
        """Ask the job to end at the next step; one that has not begun is over at once."""
        self._cancelled.set()
        self._future.cancel()

    def check(self) -> None:
        """Called by the work: there is news, and this may be the time to end.

        Raises:
            CancelledError: the job was asked to end.
        """
        if self._cancelled.is_set():
            raise CancelledError
        self.progress.changed()

    @property
    def finished(self) -> bool:
        """Whether it is over, one way or another."""
        return self._future.done()

    def result(self) -> Any:
        """What the work returned.

        Raises:
            CancelledError: it was cancelled.
            UserError: it failed; one sentence for the visitor.
        """
        return self._future.result()

    def run(self) -> None:
        """Do the work unless it was cancelled before; what it raises reaches the one who asks for the result."""
        if not self._future.set_running_or_notify_cancel():
            return
        try:
            self._future.set_result(self._work(self))
        except (CancelledError, UserError, AccelerationError) as error:
            self._future.set_exception(error)
        except Exception as error:  # a model may fail in any way, and the next visitor's job must still run
            _LOG.exception("A job failed.")
            reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
            self._future.set_exception(
                UserError(f"The run failed ({reason.rstrip('.')}); try another size or model, or see the app's log.")
            )


class Engine:
    """
    The queue of a device. All jobs run in one thread, in the order in which they came.

    Args:
        waiting (`int`): Jobs that may wait; one more is refused.
    """

    def __init__(self, waiting: int) -> None:
        self._most_waiting = waiting
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hasten-device")
        self._jobs: list[Job] = []
        self._prepared: set[Callable[[], object]] = set()
        self._lock = threading.Lock()

    def submit(self, session: str, work: Work, *, several: bool = False) -> Job:
        """Queue `work` for a session.

        Args:
            session (`str`): Whose it is.
            work (`Callable[[Job], Any]`): What to do.
            several (`bool`): Whether the session may have more than one job: all agents come as one session.

        Raises:
            UserError: the session has a job already, or too many wait.
        """
        job = Job(session, work)
        with self._lock:
            unfinished = self._unfinished()
            if not several and any(other.session == session for other in unfinished):
                raise UserError("A comparison of yours is still running; wait for it, or stop it.")
            if len(unfinished) > self._most_waiting:
                raise UserError(f"{len(unfinished) - 1} comparisons are waiting already; try again in a while.")
            unfinished.append(job)
            self._thread.submit(job.run)
        return job

    def prepare(self, load: Callable[[], object]) -> None:
        """Have the thread call `load` before the jobs that are yet to come, unless it did so before."""
        with self._lock:
            if load not in self._prepared:
                self._prepared.add(load)
                self._thread.submit(load)

    def cancel(self, session: str) -> None:
        """End the session's jobs, if it has any. A job that waits leaves the queue at once."""
        with self._lock:
            for job in self._unfinished():
                if job.session == session:
                    job.cancel()

    def ahead(self, job: Job) -> int:
        """Jobs that run before `job`."""
        with self._lock:
            unfinished = self._unfinished()
            return unfinished.index(job) if job in unfinished else 0

    async def follow(self, job: Job) -> AsyncIterator[int]:
        """The number of jobs ahead whenever there is news, until `job` is over. Who stops listening cancels it."""
        seen: tuple[int, int] | None = None
        try:
            while not job.finished:
                news = (job.progress.version, self.ahead(job))
                if news != seen:
                    seen = news
                    yield news[1]
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            job.cancel()

    def close(self) -> None:
        """Cancel everything and wait until the thread has ended: at the next step of the job that runs."""
        with self._lock:
            for job in self._unfinished():
                job.cancel()
        self._thread.shutdown(wait=True)

    def _unfinished(self) -> list[Job]:
        """The jobs that are not over, in their order; for those who hold the lock."""
        self._jobs = [job for job in self._jobs if not job.finished]
        return self._jobs

"""One device, one job at a time: a queue that knows who waits, can be cancelled, and survives what fails."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from hasten import AccelerationError
from hasten.app.errors import UserError
from hasten.app.web.progress import Progress

_LOG = logging.getLogger(__name__)

Work = Callable[["Job"], Any]


class CancelledError(Exception):
    """The job was asked to end."""


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
        """Ask the job to end at the next step, or never to begin."""
        self._cancelled.set()

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
        """Do the work; what it raises reaches the one who asks for the result."""
        try:
            self.check()
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
        self._lock = threading.Lock()

    def submit(self, session: str, work: Work) -> Job:
        """Queue `work` for a session.

        Raises:
            UserError: the session has a job already, or too many wait.
        """
        job = Job(session, work)
        with self._lock:
            if any(other.session == session and not other.finished for other in self._jobs):
                raise UserError("A comparison of yours is still running; wait for it, or stop it.")
            if len(self._jobs) > self._most_waiting:
                raise UserError(f"{len(self._jobs) - 1} comparisons are waiting already; try again in a while.")
            self._jobs.append(job)
        self._thread.submit(self._run, job)
        return job

    def cancel(self, session: str) -> None:
        """End the session's job, if it has one. A job that waits leaves the queue at once."""
        with self._lock:
            for job in self._jobs:
                if job.session == session:
                    job.cancel()

    def ahead(self, job: Job) -> int:
        """Jobs that run before `job`."""
        with self._lock:
            return self._jobs.index(job) if job in self._jobs else 0

    def close(self) -> None:
        """Cancel everything and end the thread."""
        with self._lock:
            for job in self._jobs:
                job.cancel()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _run(self, job: Job) -> None:
        job.run()
        with self._lock:
            self._jobs.remove(job)

"""The loop of one process: claim an item, make it, publish it, until nothing is left to do."""

import time
import traceback
from collections.abc import Callable

from hasten.app.batch.board import FAILED, Board, Record
from hasten.app.batch.claims import Claims
from hasten.app.batch.folder import BatchFolder, OutputError
from hasten.app.batch.items import Item
from hasten.app.batch.making import Maker, Render
from hasten.app.batch.plan import Plan

POLL_SECONDS = 0.5
"""Pause between two looks at what other workers are doing, when nothing else is left."""


class Worker:
    """
    One process of a batch.

    Args:
        folder, plan: The batch.
        name (`str`): As `registered` gives it.
        render, versions: As for `Maker`.
    """

    def __init__(self, folder: BatchFolder, plan: Plan, name: str, render: Render, versions: dict[str, str]) -> None:
        self.board = Board(folder, plan)
        self._name = name
        self._claims = Claims(folder, name)
        self._maker = Maker(folder, plan, self.board, render, versions)
        self._mark = time.perf_counter()

    def run(self, on_settled: Callable[[Item | None], None]) -> None:
        """Work until every item of the batch is settled, by this worker or another.

        Args:
            on_settled: Called after each item of this worker, and with `None` after each wait for the others.

        Raises:
            OutputError: the folder cannot be written any more; the item at hand stays unsettled.
        """
        self.board.write_manifest()
        while self.board.waiting:
            item = self._claim()
            if item is None:
                time.sleep(POLL_SECONDS)
                self.board.refresh()
                self._mark = time.perf_counter()
            else:
                self._settle(item)
                self.board.write_manifest()
            on_settled(item)

    def _claim(self) -> Item | None:
        """The next item that is now this worker's: first those that nobody tried, then those whose owner is gone.

        So an item that takes its process down with it does not keep the others from being made.
        """
        self.board.refresh()
        attempts = self._claims.attempts()
        waiting = self.board.waiting
        fresh = [(item, 0) for item in waiting if item.key not in attempts]
        tried = [(item, attempts[item.key] + 1) for item in waiting if item.key in attempts]
        for item, attempt in (*fresh, *tried):
            if attempt and self._claims.is_held(item.key, attempt - 1):
                continue
            if self._claims.take(item.key, attempt):
                # its last owner may have finished it since we looked
                self.board.refresh()
                if item in self.board.waiting:
                    return item
        return None

    def _settle(self, item: Item) -> None:
        before = self._maker.seconds
        content: bytes | None = None
        try:
            record, content = self._maker.make(item)
        except OutputError:
            raise
        except Exception as error:
            record = _failure(error)
        if self.board.finished(item) is not None:  # by a worker that took us for gone: it was the first
            return
        now = time.perf_counter()
        overhead = now - self._mark - (self._maker.seconds - before)
        self._mark = now
        self.board.record(item, {**record, "overhead_seconds": overhead, "worker": self._name}, content)


def _failure(error: Exception) -> Record:
    reason = " ".join(str(error).split())
    kind = type(error).__name__
    return {
        "status": FAILED,
        "error": f"{kind}: {reason}" if reason else kind,
        "traceback": "".join(traceback.format_exception(error)),
    }

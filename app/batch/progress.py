"""How far a batch is, and when it will be over."""

import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from hasten.app.batch.board import FAILED, Board
from hasten.app.batch.items import Item
from hasten.app.console import Screen


class BatchProgress(AbstractContextManager["BatchProgress"]):
    """A bar for people who watch, a line an item for log files, nothing for machines.

    Args:
        shown: Where to.
        board: The batch as it stands at the beginning.
    """

    def __init__(self, shown: Screen, board: Board) -> None:
        self._shown = shown
        self._board = board
        self._before = board.settled
        self._began = time.monotonic()
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=shown.messages, disable=not shown.shows_progress, transient=True)
        self._task = self._bar.add_task("", total=len(board.rows), completed=board.settled)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, item: Item | None) -> None:
        """Tell that `item` is settled, or with `None` that others may have settled some."""
        left = self._time_left()
        self._bar.update(self._task, completed=self._board.settled, description=left)
        if item is None:
            return
        row = self._board.rows[item.key]
        if row["status"] == FAILED:
            self._shown.say(f"{item.key} failed ({item.source}): {row['error']}")
        elif not self._shown.shows_progress:
            done = f"{self._board.settled}/{len(self._board.rows)}"
            self._shown.say(f"{done} {row['file']}: {row['seconds']:.2f} s{left and f', {left}'}")

    def _time_left(self) -> str:
        """From the pace of all workers since this one began; empty before the first item and after the last."""
        settled = self._board.settled - self._before
        left = len(self._board.rows) - self._board.settled
        if not settled or not left:
            return ""
        return f"about {describe_duration((time.monotonic() - self._began) * left / settled)} left"


def describe_duration(seconds: float) -> str:
    """Seconds in the two largest units that matter to somebody who waits."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02} min"

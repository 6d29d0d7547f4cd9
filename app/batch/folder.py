"""The output folder of a batch: where everything lies, and writing that is complete or did not happen."""

import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from hasten.app.errors import UserError
from hasten.app.files import refusing, write_whole

STATE = ".hasten"
MANIFEST = "manifest.jsonl"
CONTACT_SHEET = "contact-sheet.html"


class OutputError(UserError):
    """The output folder refuses to be written; it says nothing about the item that was to be written there."""


@dataclass(frozen=True)
class BatchFolder:
    """Results lie in `root` for people; what processes tell each other lies in a folder of its own below it."""

    root: Path

    @property
    def state(self) -> Path:
        """Everything that is not a result."""
        return self.root / STATE

    @property
    def plan(self) -> Path:
        """The items of the run, and all that decides how they look."""
        return self.state / "plan.json"

    @property
    def records(self) -> Path:
        """One file for each rendering that ended, well or not."""
        return self.state / "records"

    @property
    def claims(self) -> Path:
        """One file for each attempt at an item: whose it is."""
        return self.state / "claims"

    @property
    def workers(self) -> Path:
        """One file for each process that ever worked here: locked and touched while it lives."""
        return self.state / "workers"

    @property
    def parts(self) -> Path:
        """Files that are being written."""
        return self.state / "parts"

    @property
    def manifest(self) -> Path:
        """One row an item."""
        return self.root / MANIFEST

    @property
    def contact_sheet(self) -> Path:
        """All results on one page."""
        return self.root / CONTACT_SHEET

    def create(self) -> None:
        """Make the folder and what belongs into it, as far as it is missing.

        Raises:
            OutputError: that is not possible.
        """
        with self.refusing():
            for folder in (self.records, self.claims, self.workers, self.parts):
                folder.mkdir(parents=True, exist_ok=True)

    def write(self, target: Path, content: bytes, *, lasting: bool = True) -> None:
        """Put `content` at `target`, below this folder: all of it or, whatever happens meanwhile, nothing.

        Args:
            lasting: Wait until it would outlast a loss of power; not needed where it can be made again from the rest.

        Raises:
            OutputError: it cannot be written; `target` is as it was.
        """
        part = self.parts / f"{target.name}.{secrets.token_hex(4)}"
        with self.refusing():
            write_whole(target, content, part=part, lasting=lasting)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of this block; the lock of a process that is killed is free."""
        with self.refusing():
            lock = FileLock(self.state / "lock")
            lock.acquire(poll_interval=0.01)
        try:
            yield
        finally:
            lock.release()

    def refusing(self) -> AbstractContextManager[None]:
        """Turn what the file system refuses into one sentence."""
        return refusing(self.root, OutputError)

"""Who works on which item: claims that at most one process wins, and that fall free when their owner is gone.

An attempt at an item is a file that its owner creates exclusively and that nobody ever changes or removes. Taking over
is the next attempt, which again only one process can create: there is no moment at which two believe that they won.
"""

import contextlib
import os
import platform
import re
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from hasten.app.batch.folder import BatchFolder

BEAT_SECONDS = 10.0
LOST_SECONDS = 120.0
"""Silence after which a worker on another machine counts as gone; file attributes may reach us a minute late."""


@contextmanager
def registered(folder: BatchFolder) -> Iterator[str]:
    """Make this process known as a worker for the time of the block, and give its name.

    Its file is locked, which tells processes of the same machine at once when it is gone, and touched every
    `BEAT_SECONDS`, which tells those of other machines later.
    """
    name = f"{machine()}.{os.getpid()}.{secrets.token_hex(4)}"
    path = folder.workers / name
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):  # a folder that is out of reach ends the run where it is written
                os.utime(path)

    with folder.refusing():
        lock = FileLock(path)
        lock.acquire()
    heart = threading.Thread(target=beat, name="heartbeat", daemon=True)
    heart.start()
    try:
        yield name
    finally:
        ended.set()
        heart.join()
        lock.release()


def machine() -> str:
    """A name for this machine that another one hardly has, fit for file names."""
    return f"{re.sub(r'[^A-Za-z0-9-]', '-', platform.node())}-{uuid.getnode():012x}"


class Watch:
    """Which workers live, as seen by the worker `me`.

    Args:
        now: Seconds of a clock that only goes forward.
    """

    def __init__(self, folder: BatchFolder, me: str, now: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._me = me
        self._now = now
        self._heard: dict[Path, tuple[int, float]] = {}

    def is_held(self, claim: Path) -> bool:
        """Whether the owner of `claim` may still be working on it. A worker that asks is not working."""
        owner = claim.read_text(encoding="utf-8")
        if owner == self._me:
            return False
        if not owner:  # killed between creating the claim and signing it, or about to sign
            return self._is_heard(claim)
        path = self._folder.workers / owner
        return not is_unlocked(path) if owner.split(".")[0] == machine() else self._is_heard(path)

    def _is_heard(self, path: Path) -> bool:
        """Whether `path` was touched within `LOST_SECONDS` by our own clock: those of two machines may disagree."""
        try:
            touched = path.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        now = self._now()
        last, since = self._heard.get(path, (None, now))
        if touched != last:
            since = now
        self._heard[path] = (touched, since)
        return now - since < LOST_SECONDS


def is_unlocked(path: Path) -> bool:
    """Whether no process of this machine holds the worker file `path`."""
    try:
        with FileLock(path, blocking=False):
            return True
    except Timeout:
        return False


class Claims:
    """The attempts at the items of a batch."""

    def __init__(self, folder: BatchFolder, me: str) -> None:
        self._folder = folder
        self._me = me
        self._watch = Watch(folder, me)

    def attempts(self) -> dict[str, int]:
        """Number of the latest attempt at each item that was ever claimed, from 0, by the item's key."""
        latest: dict[str, int] = {}
        with self._folder.refusing():
            names = os.listdir(self._folder.claims)
        for name in names:
            key, _, attempt = name.rpartition(".")
            if attempt.isdecimal():  # file systems put files of their own into folders
                latest[key] = max(latest.get(key, 0), int(attempt))
        return latest

    def is_held(self, key: str, attempt: int) -> bool:
        """Whether another worker that lives made that attempt."""
        with self._folder.refusing():
            return self._watch.is_held(self._path(key, attempt))

    def take(self, key: str, attempt: int) -> bool:
        """Make attempt number `attempt` at an item; False where another worker was first."""
        path = self._path(key, attempt)
        with self._folder.refusing():
            try:
                with path.open("x", encoding="utf-8") as file:
                    file.write(self._me)
            except FileExistsError:
                return False
            except OSError:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
                raise
        return True

    def _path(self, key: str, attempt: int) -> Path:
        return self._folder.claims / f"{key}.{attempt}"

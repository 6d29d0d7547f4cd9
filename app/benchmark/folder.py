"""The output folder of a benchmark: begun, or gone on with; what is measured lies there as soon as it is."""

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hasten.app.errors import UserError
from hasten.app.files import append_line, refusing, write_whole
from hasten.app.folders import Resumable, check_folder

STATE = Path(".hasten", "bench")


@dataclass(frozen=True)
class BenchFolder:
    """Results lie in `root` once all are there; until then, and for `--resume`, each call lies in a folder below it."""

    root: Path

    @property
    def state(self) -> Path:
        """Everything that is not a result."""
        return self.root / STATE

    @property
    def settings(self) -> Path:
        """All that decides what is measured."""
        return self.state / "settings.json"

    @property
    def calls(self) -> Path:
        """One line for each call that was measured."""
        return self.state / "calls.jsonl"

    @property
    def is_begun(self) -> bool:
        """Whether there is something to go on with."""
        return self.settings.exists()

    def check(self, *, resume: bool, force: bool) -> None:
        """Refuse, before anything is loaded, a folder in which this run cannot take place.

        Raises:
            UserError: as `check_folder`.
        """
        benchmark = Resumable("benchmark", self.settings.relative_to(self.root))
        check_folder(self.root, force=force, resume=resume, resumable=benchmark, traces=(STATE.parts[0],))

    @contextmanager
    def opened(self, settings: Mapping[str, Any], *, force: bool) -> Iterator[None]:
        """Let this process alone measure here for the time of the block.

        Args:
            settings: All that decides what is measured, as JSON can hold it.
            force: Forget the calls of the run that is there; its results stay until the new ones replace them.

        Raises:
            UserError: another process measures here, the run that is there has other settings, or the folder cannot be
                written.
        """
        with self._refusing():
            self.state.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.state / "lock")
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise UserError(
                    f"Another process measures in '{self.root}'; wait for it, or choose another --out."
                ) from error
        try:
            with self._refusing():
                self._begin(json.loads(json.dumps(settings)), force=force)
            yield
        finally:
            lock.release()

    def keep_pixels(self, name: str, content: bytes) -> None:
        """Write a file below `state`: all of it, or nothing.

        Raises:
            UserError: it cannot be written.
        """
        with self._refusing():
            write_whole(self.state / name, content)

    def keep_line(self, line: str) -> None:
        """Add a line to `calls`; a line that an interruption tore is closed first.

        Raises:
            UserError: it cannot be written.
        """
        with self._refusing():
            append_line(self.calls, line)

    def _begin(self, settings: dict[str, Any], *, force: bool) -> None:
        if self.is_begun and not force:
            difference = _difference(self._earlier_settings(), settings)
            if difference is not None:
                raise UserError(
                    f"Folder '{self.root}' holds another benchmark ({difference}); give the command that began it, "
                    "or choose another --out."
                )
            return
        for path in self.state.iterdir():
            if path.name != "lock":
                path.unlink()
        write_whole(self.settings, json.dumps(settings, indent=2).encode())

    def _earlier_settings(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.settings.read_bytes()))
        except (ValueError, TypeError) as error:
            raise UserError(f"The settings in '{self.state}' are damaged; begin anew in another --out.") from error

    def _refusing(self) -> AbstractContextManager[None]:
        return refusing(self.root)


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first setting that is not what it was, in words; None if all are."""
    for name in {**before, **now}:
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            return _difference(old, new)
        label = name.replace("_", " ")
        if any(isinstance(value, dict | list) for value in (old, new)):
            return f"with other {label}"
        return f"{label} was {old}, now it is {new}"
    return None

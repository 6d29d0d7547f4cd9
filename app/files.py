"""Writing files that are complete or did not happen, and that outlast an interruption."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hasten.app.errors import UserError


def write_whole(target: Path, content: bytes, *, part: Path | None = None, lasting: bool = True) -> None:
    """Put `content` at `target`: all of it or, whatever happens meanwhile, nothing.

    Args:
        part: Where it is written first, on the same file system; beside `target` if left out.
        lasting: Wait until it would outlast a loss of power; not needed where it can be made again.

    Raises:
        OSError: it cannot be written; `target` is as it was.
    """
    part = part or target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        part.replace(target)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def append_line(target: Path, line: str) -> None:
    """Add a line to a file; a line that an interruption tore is closed first.

    Raises:
        OSError: it cannot be written.
    """
    with target.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else "\n" + line
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def refusing(
    folder: Path,
    error_type: type[UserError] = UserError,
    *,
    remedy: str = "correct that and go on with --resume, or choose another --out",
) -> Iterator[None]:
    """Turn what the file system refuses in the block into one sentence about the output folder."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise error_type(f"Folder '{folder}' cannot be written ({reason}); {remedy}.") from error

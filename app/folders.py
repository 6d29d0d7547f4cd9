"""Whether a run can write where it is to: asked before anything is loaded."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from hasten.app.errors import UserError
from hasten.app.files import refusing

REMEDY = "choose another --out"


@dataclass(frozen=True)
class Resumable:
    """How to tell whether a folder holds a run that can be gone on with.

    Args:
        kind (`str`): What such a run is called.
        marker (`Path`): There once it has begun, relative to the folder.
    """

    kind: str
    marker: Path


def check_folder(
    folder: Path, *, force: bool, resume: bool = False, resumable: Resumable | None = None, traces: tuple[str, ...] = ()
) -> None:
    """Refuse a folder in which a run cannot take place.

    Args:
        force: Write over what is there.
        resume: Go on with the run that is there; in a folder that is empty there is nothing to lose, and it begins.
        resumable: What there may be to go on with.
        traces: How names begin that a run leaves which is killed before it has begun: nothing is lost with them.

    Raises:
        UserError: it holds something and neither is asked for; it is not there, or holds nothing to go on with, and
            that is asked for; it cannot be written.
    """
    if resume and force:
        raise UserError("Give either --resume, which goes on, or --force, which begins anew.")
    with refusing(folder, remedy=REMEDY):
        is_there = folder.exists()
        left = [path for path in folder.iterdir() if not path.name.startswith(traces)] if is_there else []
        is_begun = resumable is not None and (folder / resumable.marker).exists()
        _probe(folder)
    if resume and resumable is not None and not is_begun and (left or not is_there):
        raise UserError(
            f"Folder '{folder}' holds no {resumable.kind} to go on with; leave --resume out, or correct --out."
        )
    if (left or is_begun) and not resume and not force:
        going_on = f"pass --resume to go on with the {resumable.kind} there, " if resumable and is_begun else ""
        ways = f"{going_on}choose another --out, or pass --force to write over its results"
        raise UserError(f"Folder '{folder}' is not empty; {ways}.")


def check_file(file: Path, *, force: bool) -> None:
    """Refuse a file that cannot be written, or that is there and may not be written over by `force`.

    Raises:
        UserError: it is so.
    """
    if file.is_dir():
        raise UserError(f"'{file}' is a folder; give --out the name of a file.")
    if file.exists() and not force:
        raise UserError(f"'{file}' exists; choose another --out, or pass --force to write over it.")
    with refusing(file.parent, remedy=REMEDY):
        _probe(file.parent)


def _probe(folder: Path) -> None:
    """Write where `folder` is or will be, and leave nothing behind."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    tempfile.TemporaryFile(dir=existing).close()

"""Results appear in their folder complete or not at all."""

import errno
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hasten.app.console import to_json
from hasten.app.errors import UserError
from hasten.app.files import refusing
from hasten.app.folders import REMEDY, check_folder

RESULT = "result.json"


UNFINISHED = ".unfinished-"
"""How the names of folders begin whose files are still being made."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a file system without room answers."""


@contextmanager
def output_folder(target: Path, *, force: bool) -> Iterator[Path]:
    """A temporary folder whose files move to `target` when the block ends without an error.

    With `force` the files that an earlier result names are replaced; anything else in `target` stays.

    Raises:
        UserError: `target` holds something and `force` is false, or it cannot be written.
    """
    check_folder(target, force=force, traces=(UNFINISHED,))
    with refusing(target, remedy=REMEDY):
        # in a folder that is there, which may be a file system of its own; else beside it, to be renamed at once
        where = target if target.is_dir() else target.parent
        where.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=where))
    try:
        yield unfinished
        with refusing(target, remedy=REMEDY):
            _publish(unfinished, target)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UserError(f"Folder '{target}' cannot be written ({error.strerror}); make room for it.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_result(folder: Path, result: dict[str, Any]) -> None:
    """Write `result.json`."""
    (folder / RESULT).write_text(to_json(result) + "\n", encoding="utf-8")


def _publish(unfinished: Path, target: Path) -> None:
    if not target.exists():
        unfinished.chmod(0o755)
        unfinished.rename(target)
        return
    for stale in _files_of_earlier_run(target):
        stale.unlink(missing_ok=True)
    # the result comes last: where it is, everything that it names is there
    for path in sorted(unfinished.iterdir(), key=lambda path: path.name == RESULT):
        path.replace(target / path.name)


def _files_of_earlier_run(target: Path) -> list[Path]:
    try:
        names = json.loads((target / RESULT).read_text())["files"]
        return [target / RESULT, *(target / Path(name).name for name in names)]
    except (OSError, ValueError, KeyError, TypeError):
        return []

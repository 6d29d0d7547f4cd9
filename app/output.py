"""Results appear in their folder complete or not at all."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hasten.app.console import to_json
from hasten.app.errors import UserError

RESULT = "result.json"


@contextmanager
def output_folder(target: Path, *, force: bool) -> Iterator[Path]:
    """A temporary folder beside `target` whose files move there when the block ends without an error.

    With `force` the files that an earlier result names are replaced; anything else in `target` stays.

    Raises:
        UserError: `target` holds something and `force` is false, or it cannot be written.
    """
    try:
        if target.is_dir() and any(target.iterdir()) and not force:
            raise UserError(
                f"Folder '{target}' is not empty; choose another --out, or pass --force to write over its results."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not target.is_dir():
            raise NotADirectoryError(f"'{target}' is a file")
        unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"Folder '{target}' cannot be written ({reason}); choose another --out.") from error
    try:
        yield unfinished
        _publish(unfinished, target)
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

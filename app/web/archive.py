"""Past comparisons as one ZIP file to download."""

import hashlib
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from hasten.app.errors import UserError
from hasten.app.output import RESULT
from hasten.app.web.runs import PastRun
from hasten.app.web.tidying import keep_newest, modified

_MOST_KEPT = 2
"""One to be downloaded while the next one is packed."""


def pack(runs: Sequence[PastRun], folder: Path) -> Path:
    """A ZIP file in `folder` of all that `runs` have written; the same runs are packed once, earlier archives go.

    Raises:
        UserError: there is nothing to pack.
    """
    if not runs:
        raise UserError("There is nothing to download yet; make a comparison first.")
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"hasten-{len(runs)}-comparisons-{_digest(runs)}.zip"
    if archive.exists():
        archive.touch()
    else:
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            _write(runs, Path(unfinished, archive.name)).replace(archive)
    keep_newest(folder.glob("hasten-*.zip"), _MOST_KEPT)
    return archive


def _digest(runs: Sequence[PastRun]) -> str:
    """A short text that changes with the runs."""
    written = [(run.name, modified(run.folder / RESULT)) for run in runs]
    return hashlib.sha256(repr(written).encode()).hexdigest()[:12]


def _write(runs: Sequence[PastRun], archive: Path) -> Path:
    # not compressed: pictures and videos are as small as they get
    with zipfile.ZipFile(archive, "w", strict_timestamps=False) as packed:
        for run in runs:
            for name in (RESULT, *run.result["files"]):
                file = run.folder / Path(name).name
                if file.is_file():
                    packed.write(file, Path(run.name, file.name))
    return archive

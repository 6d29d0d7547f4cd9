"""Begin a batch in a folder, or go on with the one that is there."""

import contextlib
import json
import os
import shutil

from hasten.app.batch.board import FAILED
from hasten.app.batch.claims import is_unlocked
from hasten.app.batch.folder import CONTACT_SHEET, MANIFEST, STATE, BatchFolder
from hasten.app.batch.plan import Plan
from hasten.app.errors import UserError
from hasten.app.folders import Resumable, check_folder
from hasten.app.output import RESULT


def check_batch_folder(folder: BatchFolder, *, resume: bool, force: bool) -> None:
    """Refuse, before anything is loaded, a folder in which this run cannot take place.

    Raises:
        UserError: as `check_folder`; or with `force`, a run is going on in it.
    """
    batch = Resumable("batch", folder.plan.relative_to(folder.root))
    check_folder(folder.root, force=force, resume=resume, resumable=batch, traces=(STATE,))
    if force:
        _refuse_a_running_batch(folder)


def open_batch(folder: BatchFolder, plan: Plan, *, force: bool) -> None:
    """Make `plan` the plan of `folder`; what an earlier run of the same plan finished is kept, what failed is not.

    Args:
        force: Remove the results of the run that is there.

    Raises:
        UserError: the folder holds a different run, or cannot be written.
    """
    folder.create()
    with folder.locked():
        if force:
            _remove_results(folder)
        elif folder.plan.exists():
            difference = plan.difference(Plan.from_json(folder.plan.read_bytes()))
            if difference is not None:
                raise UserError(
                    f"Folder '{folder.root}' holds a different run ({difference}); give the command that began it, "
                    "or choose another --out."
                )
        _forget_failures(folder)
        folder.write(folder.plan, plan.to_json())


def read_plan(folder: BatchFolder) -> Plan:
    """The plan of a batch that was opened.

    Raises:
        UserError: it is damaged, or cannot be read.
    """
    with folder.refusing():
        return Plan.from_json(folder.plan.read_bytes())


def _forget_failures(folder: BatchFolder) -> None:
    """What failed is tried again: the cause may be gone."""
    for path in folder.records.iterdir():
        with contextlib.suppress(ValueError):
            if json.loads(path.read_bytes())["status"] == FAILED:
                path.unlink()


def _refuse_a_running_batch(folder: BatchFolder) -> None:
    workers = list(folder.workers.iterdir()) if folder.workers.is_dir() else []
    if not all(is_unlocked(worker) for worker in workers):
        raise UserError(f"A batch is running in '{folder.root}'; end it before you write over it with --force.")


def _remove_results(folder: BatchFolder) -> None:
    """Remove what an earlier batch made and nothing else; a record in a foreign hand cannot point outside."""
    for path in folder.records.iterdir():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            (folder.root / os.path.basename(json.loads(path.read_bytes())["file"])).unlink(missing_ok=True)
    for name in (MANIFEST, CONTACT_SHEET, RESULT):
        (folder.root / name).unlink(missing_ok=True)
    for state in (folder.records, folder.claims, folder.workers, folder.parts):
        shutil.rmtree(state)
    folder.plan.unlink(missing_ok=True)
    folder.create()

"""What stands in the folder at the end: manifest, contact sheet, and the result that names them."""

import hashlib
import json
from typing import Any

from hasten.app.batch.board import Board
from hasten.app.batch.contact_sheet import contact_sheet
from hasten.app.batch.folder import CONTACT_SHEET, MANIFEST, BatchFolder
from hasten.app.batch.items import PLAIN_KIND
from hasten.app.batch.plan import Plan
from hasten.app.batch.summary import summarise
from hasten.app.console import to_json
from hasten.app.output import RESULT


def finish(folder: BatchFolder, plan: Plan, about: dict[str, Any]) -> dict[str, Any]:
    """Write the contact sheet and `result.json`, unless a process that ended with the same manifest did, and read it.

    Args:
        about: What else the result says.

    Raises:
        OutputError: the folder cannot be written.
    """
    board = Board(folder, plan)
    board.write_manifest()
    with folder.locked():
        digest = hashlib.sha256(folder.manifest.read_bytes()).hexdigest()
        written = _written(folder)
        if written.get("manifest_sha256") == digest:
            return written
        rows = list(board.rows.values())
        summary = summarise(rows)
        page = contact_sheet(rows, summary, plan.settings.model, folder.root)
        folder.write(folder.contact_sheet, page.encode())
        made = [record for row in rows for record in (row, row.get(PLAIN_KIND)) if record and record["file"]]
        result = {
            **summary,
            **about,
            "manifest_sha256": digest,
            "files": [MANIFEST, CONTACT_SHEET, *sorted(record["file"] for record in made)],
        }
        # the result comes last: where it is, everything that it names is there
        folder.write(folder.root / RESULT, (to_json(result) + "\n").encode())
        for part in folder.parts.iterdir():
            part.unlink(missing_ok=True)
    return _written(folder)


def _written(folder: BatchFolder) -> dict[str, Any]:
    """The result of this folder, empty if there is none or a part of it is gone."""
    try:
        result = json.loads((folder.root / RESULT).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return result if folder.contact_sheet.exists() else {}

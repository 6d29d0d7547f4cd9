"""What is settled in a batch, as the records in its folder tell, and the manifest that is made of them.

A rendering is finished at one moment: when its file appears under its name. The record of it is written just before and
counts only from then on. The manifest holds nothing that records and plan do not; it is made anew with every change.
"""

import json
import os
from typing import Any

from hasten.app.batch.folder import BatchFolder
from hasten.app.batch.items import PLAIN_KIND, Item
from hasten.app.batch.plan import Plan

WAITING = "waiting"
DONE = "done"
FAILED = "failed"
REFUSED = "refused"

Record = dict[str, Any]


class Board:
    """The rows of the manifest, kept up to date with the folder."""

    def __init__(self, folder: BatchFolder, plan: Plan) -> None:
        self._folder = folder
        self._plan = plan
        self.rows = {item.key: _first_row(item) for item in plan.items}
        self._lines = {key: _line(row) for key, row in self.rows.items()}
        self._waiting = {item.key: item for item in plan.items if item.error is None}
        self.refresh()

    @property
    def waiting(self) -> list[Item]:
        """Items that nobody finished yet, in the order of the plan."""
        return list(self._waiting.values())

    @property
    def settled(self) -> int:
        """Number of items that are done, failed or refused."""
        return len(self.rows) - len(self._waiting)

    def refresh(self) -> None:
        """Take in what all workers recorded since."""
        with self._folder.refusing():
            recorded = set(os.listdir(self._folder.records))
        for item in self.waiting:
            if _record_name(item.key) not in recorded:
                continue
            record = self.finished(item)
            if record is not None and record["status"] == DONE and self._plan.has_plain(item):
                plain = self.finished(item, PLAIN_KIND)
                record = plain and {**record, PLAIN_KIND: plain}
            if record is not None:
                self._settle(item, record)

    def finished(self, item: Item, kind: str = "") -> Record | None:
        """The record of a rendering that ended: it failed, or its file is there as recorded.

        A record that lost its content with the power of the machine is none.
        """
        try:
            record = json.loads((self._folder.records / _record_name(item.key, kind)).read_bytes())
            if record["status"] == DONE and (self._folder.root / record["file"]).stat().st_size != record["bytes"]:
                return None
        except (FileNotFoundError, ValueError):
            return None
        return record

    def record(self, item: Item, record: Record, content: bytes | None = None, kind: str = "") -> None:
        """Publish how a rendering ended; `content` is its file, which comes last because it is what counts.

        Raises:
            OutputError: the folder cannot be written.
        """
        self._folder.write(self._folder.records / _record_name(item.key, kind), json.dumps(record).encode())
        if content is not None:
            self._folder.write(self._folder.root / record["file"], content)

    def write_manifest(self) -> None:
        """Write the manifest with all that is settled, by whomever; other processes wait, so that no row is lost.

        Raises:
            OutputError: the folder cannot be written.
        """
        with self._folder.locked():
            self.refresh()
            self._folder.write(self._folder.manifest, "".join(self._lines.values()).encode(), lasting=False)

    def _settle(self, item: Item, record: Record) -> None:
        told = {name: value for name, value in record.items() if name != "traceback"}
        self.rows[item.key] = {**self.rows[item.key], **told}
        self._lines[item.key] = _line(self.rows[item.key])
        del self._waiting[item.key]


def _record_name(key: str, kind: str = "") -> str:
    return f"{key}.{kind}.json" if kind else f"{key}.json"


def _first_row(item: Item) -> dict[str, Any]:
    arguments = item.arguments
    return {
        "item": item.key,
        "id": item.id,
        "source": item.source,
        "status": WAITING if item.error is None else REFUSED,
        "error": item.error,
        "prompt": item.prompt,
        "negative_prompt": arguments.get("negative_prompt"),
        "seed": item.seed,
        "width": arguments.get("width"),
        "height": arguments.get("height"),
        "frames": arguments.get("num_frames"),
        "steps": arguments.get("num_inference_steps"),
        "guidance": arguments.get("guidance_scale"),
        "method": item.method,
        "file": None,
    }


def _line(row: dict[str, Any]) -> str:
    """One line of strict JSON in ASCII: no reader can take a character in it for a line end."""
    return json.dumps(row, allow_nan=False) + "\n"

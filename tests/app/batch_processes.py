"""Batches of invented pictures, and what one process does with them: it can be forked cheaply, and killed."""

import contextlib
import hashlib
import io
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

import hasten.app.cli
from hasten.app.batch.claims import registered
from hasten.app.batch.finishing import finish
from hasten.app.batch.folder import BatchFolder
from hasten.app.batch.items import Item
from hasten.app.batch.making import Render
from hasten.app.batch.media import Rendering
from hasten.app.batch.opening import check_batch_folder, open_batch
from hasten.app.batch.plan import Plan, Settings
from hasten.app.batch.worker import Worker

Image.init()  # once, and not in every fork
SIDE = 16
SETTINGS = Settings(model="invented", dtype="auto", picture_format="png", fps=8, compare=False)
RECIPE = {"invented": True}


def invented_item(number: int, **changes: Any) -> Item:
    values: dict[str, Any] = {
        "number": number,
        "variant": None,
        "id": None,
        "source": f"prompts.txt line {number}",
        "prompt": f"picture {number}",
        "seed": number,
        "arguments": {"num_inference_steps": 2},
        "method": "invented",
        "recipe": RECIPE,
    }
    return Item(**{**values, **changes})


def invented_plan(items: int, **settings: Any) -> Plan:
    changed = Settings(**{**vars(SETTINGS), **settings})
    return Plan(changed, tuple(invented_item(number) for number in range(1, items + 1)))


def invented_picture(seed: int, plain: bool) -> Image.Image:
    pixels = np.random.default_rng([seed, plain]).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def invented_render(pause: float = 0.0, log: Path | None = None) -> Render:
    """Renders invented pictures, and notes in `log` which item it begins."""

    def render(item: Item, recipe: dict[str, Any] | None) -> Rendering:
        if log is not None:
            with log.open("a") as file:
                file.write(f"{item.key}\n")
        time.sleep(pause)
        return Rendering([invented_picture(item.seed, recipe is None)], False, 0.01 + pause, None, [])

    return render


def work(root: Path, plan: Plan, pause: float = 0.0, log: Path | None = None) -> None:
    """All that one process does in a batch, without the model."""
    folder = BatchFolder(root)
    with patch("os.fsync"):  # kills are no loss of power: nothing has to wait for the disk
        root.mkdir(exist_ok=True)
        check_batch_folder(folder, resume=True, force=False)
        open_batch(folder, plan, force=False)
        with registered(folder) as name:
            Worker(folder, plan, name, invented_render(pause, log), {}).run(lambda _item: None)
        finish(folder, plan, {"model": plan.settings.model})


def work_until_killed(root: Path, plan: Plan, moment: int) -> None:
    """`work`, but killed right before the `moment`-th access to the file system below `root`."""
    seen = 0

    def count(_event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if arguments and isinstance(arguments[0], str | Path) and str(arguments[0]).startswith(str(root)):
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    work(root, plan)


def command_line(arguments: list[str], environment: dict[str, str], log: Path) -> None:
    """A `hasten` process on one core, its outputs in `log` and, with the suffix `.err`, beside it."""
    os.environ.update(environment)
    sys.argv = ["hasten", *arguments]
    torch.set_num_threads(1)
    with (
        log.open("a") as out,
        log.with_suffix(".err").open("a") as err,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        hasten.app.cli.main()


def rows_of(root: Path) -> list[dict[str, Any]]:
    """The manifest, read as anybody would."""
    return [json.loads(line) for line in (root / "manifest.jsonl").read_text().splitlines()]


def check_manifest(root: Path, items: int, checked: set[tuple[str, int, int]] | None = None) -> set[str]:
    """Assert that the manifest is valid as it stands; gives the items that it says are done.

    Files in `checked` are known to be right; those that are found right join them.
    """
    checked = set() if checked is None else checked
    rows = rows_of(root)
    assert len(rows) == items
    assert len({row["item"] for row in rows}) == items
    done = [row for row in rows if row["status"] == "done"]
    for record in (*done, *(row["plain"] for row in done if "plain" in row)):
        stat = (root / record["file"]).stat()
        identity = (record["sha256"], stat.st_ino, stat.st_mtime_ns)
        if identity in checked:
            continue
        checked.add(identity)
        content = (root / record["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == record["sha256"], record["file"]
        Image.open(io.BytesIO(content)).load()
    return {row["item"] for row in done}


class Witness(threading.Thread):
    """Looks at a batch all the time while it runs: is the manifest valid, does a finished file ever change?"""

    def __init__(self, root: Path, items: int) -> None:
        super().__init__(daemon=True)
        self._root = root
        self._items = items
        self._ended = threading.Event()
        self._done: set[str] = set()
        self._checked: set[tuple[str, int, int]] = set()
        self.first_seen: dict[str, tuple[int, int]] = {}
        self.looks = 0
        self.problems: list[str] = []

    def __enter__(self) -> "Witness":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        while not self._ended.wait(0.02):
            self._look()
        self._look()

    def _look(self) -> None:
        try:
            if (self._root / "manifest.jsonl").exists():
                done = check_manifest(self._root, self._items, self._checked)
                assert done >= self._done, f"lost from the manifest: {self._done - done}"
                self._done = done
                self.looks += 1
            for name, identity in identities(self._root).items():
                assert self.first_seen.setdefault(name, identity) == identity, f"{name} was made twice"
        except Exception as error:
            self.problems.append(f"{type(error).__name__}: {error}")


def identities(root: Path) -> dict[str, tuple[int, int]]:
    """What changes when a picture is written again, even with the same content."""
    stats = {path.name: path.stat() for path in root.glob("*.png")}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}

"""From an item to what is published of it: a file, and a record of how it came about."""

import hashlib
import math
from collections.abc import Callable
from typing import Any

from hasten.app.batch.board import DONE, Board, Record
from hasten.app.batch.folder import BatchFolder
from hasten.app.batch.items import PLAIN_KIND, Item
from hasten.app.batch.media import Rendering, decode, encode, suffix_of
from hasten.app.batch.plan import Plan
from hasten.app.methods import PLAIN
from hasten.app.metrics.similarity import clip_psnr, clip_ssim

Render = Callable[[Item, dict[str, Any] | None], Rendering]
"""Renders an item with a recipe, or plain."""


class Maker:
    """
    Makes the files of items.

    Args:
        folder, plan, board: The batch.
        render (`Render`): Makes the pictures.
        versions (`dict`): Of the packages that decide the pictures; every file names them.
    """

    def __init__(self, folder: BatchFolder, plan: Plan, board: Board, render: Render, versions: dict[str, str]) -> None:
        self._folder = folder
        self._plan = plan
        self._board = board
        self._render = render
        self._versions = versions
        self.seconds = 0.0
        """Spent in the pipeline so far."""

    def make(self, item: Item) -> tuple[Record, bytes]:
        """The record and the file of `item`; the plain rendering beside it, if there is to be one, is published."""
        plain = self._plain(item) if self._plan.has_plain(item) else None
        record, content = self._made(item, item.recipe)
        if plain is not None:
            record["speedup"] = plain["seconds"] / record["seconds"]
            record |= self._likeness(record, content, plain)
        return record, content

    def _plain(self, item: Item) -> Record:
        record = self._board.finished(item, PLAIN_KIND)
        if record is None:
            record, content = self._made(item, None, PLAIN_KIND)
            self._board.record(item, record, content, PLAIN_KIND)
        return record

    def _made(self, item: Item, recipe: dict[str, Any] | None, kind: str = "") -> tuple[Record, bytes]:
        rendering = self._render(item, recipe)
        self.seconds += rendering.seconds
        settings = self._plan.settings
        suffix = suffix_of(rendering, settings.picture_format)
        content = encode(rendering, settings.picture_format, settings.fps, self._about(item, recipe))
        record = {
            "status": DONE,
            "file": item.file_name(suffix, kind),
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "seconds": rendering.seconds,
            "density": rendering.density,
            "fallbacks": rendering.fallbacks,
        }
        return record, content

    def _about(self, item: Item, recipe: dict[str, Any] | None) -> dict[str, Any]:
        """What it takes to make the same file again, and nothing that differs from machine to machine."""
        return {
            "prompt": item.prompt,
            "seed": item.seed,
            "arguments": item.arguments,
            "model": self._plan.settings.model,
            "method": PLAIN.name if recipe is None else item.method,
            "recipe": recipe,
            "item": item.key,
            "id": item.id,
            "versions": self._versions,
        }

    def _likeness(self, record: Record, content: bytes, plain: Record) -> dict[str, float | None]:
        """PSNR and SSIM of the two files, over all their frames; no PSNR where they are identical."""
        suffix = "." + record["file"].rpartition(".")[2]
        frames = decode(content, suffix)
        reference = decode((self._folder.root / plain["file"]).read_bytes(), suffix)
        decibels = clip_psnr(frames, reference)
        return {"psnr": decibels if math.isfinite(decibels) else None, "ssim": clip_ssim(frames, reference)}

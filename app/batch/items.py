"""The items of a batch: what one picture or video is made of, and what its files are called."""

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any

LONGEST_SLUG = 48
PLAIN_KIND = "plain"
"""Stands in the name of the plain rendering beside an accelerated one."""


@dataclass(frozen=True)
class Item:
    """
    One row of the manifest.

    Args:
        number (`int`): Position of its row among all rows of the prompt files, from 1.
        variant (`int | None`): From 1, where rows have several.
        id (`str | None`): As the user calls it.
        source (`str`): File and line that ask for it.
        prompt (`str`): What to draw.
        seed (`int`): Of the initial noise.
        arguments (`dict`): All other pipeline arguments.
        method (`str`): As in tables.
        recipe (`dict | None`): The acceleration as JSON; `None` for the pipeline as it is.
        error (`str | None`): Why it cannot run; the other fields are then what could be understood.
    """

    number: int
    variant: int | None
    id: str | None
    source: str = field(compare=False)
    prompt: str
    seed: int
    arguments: dict[str, Any]
    method: str
    recipe: dict[str, Any] | None
    error: str | None = None

    @property
    def key(self) -> str:
        """Unique in the batch, independent of the number of items, and fit for file names."""
        return f"{self.number:04}" if self.variant is None else f"{self.number:04}-{self.variant}"

    def file_name(self, suffix: str, kind: str = "") -> str:
        """Name of a result: unique by its key, readable by the prompt, safe on every file system."""
        return f"{self.key}-{slug(self.id or self.prompt)}".rstrip("-") + (f".{kind}" if kind else "") + suffix


def slug(text: str) -> str:
    """Lower-case ASCII letters and digits of `text` with single hyphens between them; empty if there are none."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_text.lower()).strip("-")[:LONGEST_SLUG].rstrip("-")

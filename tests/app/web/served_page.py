"""A page that is being served, and the windows that look at it."""

from dataclasses import dataclass
from pathlib import Path

WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


@dataclass(frozen=True)
class Served:
    """A page that is being served, and the folder that it writes to."""

    url: str
    outputs: Path

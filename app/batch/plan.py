"""The plan of a batch: its items and all that decides how they look. Two runs are one run if their plans agree."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Self

from hasten.app.batch.items import Item
from hasten.app.errors import UserError

FORMAT = "hasten-batch"
VERSION = 1


@dataclass(frozen=True)
class Settings:
    """
    What all items share.

    Args:
        model (`str`): As the user gave it.
        dtype (`str`): As the user gave it.
        picture_format (`str`): `"png"` or `"webp"`.
        fps (`int`): Frames a second of videos.
        compare (`bool`): Whether the plain rendering is made beside each accelerated one.
    """

    model: str
    dtype: str
    picture_format: str
    fps: int
    compare: bool


@dataclass(frozen=True)
class Plan:
    """What a batch is to make."""

    settings: Settings
    items: tuple[Item, ...]

    def has_plain(self, item: Item) -> bool:
        """Whether the plain rendering of `item` is made beside it."""
        return self.settings.compare and item.recipe is not None

    def to_json(self) -> bytes:
        """The plan as a file."""
        return json.dumps({"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """The plan in a file that `to_json` made.

        Raises:
            UserError: it is damaged, or from a newer version.
        """
        try:
            values = json.loads(content)
            if values["format"] == FORMAT and values["version"] > VERSION:
                raise UserError(
                    f"The batch has version {values['version']}, this hasten reads up to {VERSION}; upgrade hasten."
                )
            return cls(Settings(**values["settings"]), tuple(Item(**item) for item in values["items"]))
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError("The plan of this batch is damaged; begin anew in another --out.") from error

    def difference(self, earlier: "Plan") -> str | None:
        """What keeps this plan from going on where `earlier` was interrupted; `None` if nothing does.

        Further rows at the end, and rows that were broken before, may be new.
        """
        for field in dataclasses.fields(Settings):
            before, now = getattr(earlier.settings, field.name), getattr(self.settings, field.name)
            if before != now:
                return f"{field.name.replace('_', ' ')} was {before}, now it is {now}"
        mine = {item.key: item for item in self._through_json().items}
        for item in earlier.items:
            if item.error is None and mine.get(item.key) != item:
                return f"{item.source} was another item: {_changes(item, mine.get(item.key))}"
        return None

    def _through_json(self) -> Self:
        return self.from_json(self.to_json())


def _changes(before: Item, now: Item | None) -> str:
    if now is None or now.error is not None:
        return "it is gone or broken now"
    names = (field.name for field in dataclasses.fields(Item) if field.compare)
    return f"its {' and '.join(name for name in names if getattr(now, name) != getattr(before, name))} changed"

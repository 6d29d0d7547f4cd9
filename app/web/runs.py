"""Past comparisons, each in a folder of its own with pictures and `result.json`, as `hasten compare` leaves them."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL.Image import open as open_image

from hasten.app.errors import UserError
from hasten.app.output import RESULT
from hasten.app.web.progress import LANES
from hasten.app.web.settings import Settings
from hasten.app.web.tidying import modified

RUNS = "app"


@dataclass(frozen=True)
class PastRun:
    """A comparison on disk: its name (the folder, relative to the outputs), its folder, and its `result.json`."""

    name: str
    folder: Path
    result: dict[str, Any]

    @property
    def prompt(self) -> str:
        """What was asked for."""
        return self.result["requests"][0]["prompt"]

    @property
    def seed(self) -> int:
        """Seed of the first prompt."""
        return self.result["requests"][0]["seed"]

    def media(self, lane: str) -> Path:
        """File that shows the first prompt of `lane`: a picture, or a video."""
        stem = f"{lane.replace('_', '-')}-01"
        video = self.folder / f"{stem}.mp4"
        return video if video.exists() else self.folder / f"{stem}.png"

    def poster(self, lane: str) -> Path:
        """Picture of `lane`: of a video, its first frame."""
        return self.media(lane).with_suffix(".png")

    @property
    def aspect(self) -> float:
        """Width over height."""
        with open_image(self.poster("baseline")) as image:
            return image.width / image.height

    def settings(self) -> Settings:
        """What to ask for to get the results of the first prompt again.

        Raises:
            UserError, AccelerationError: an older hasten wrote it, with values that this one does not take.
        """
        if "settings" in self.result:
            return Settings.from_dict(self.result["settings"])
        recipe = dict(self.result["recipe"])
        arguments = self.result["arguments"]
        return Settings.from_dict(
            {
                "model": self.result["model"],
                "prompt": self.prompt,
                "seed": self.seed,
                "preset": recipe.pop("name"),
                "recipe": recipe,
                "negative_prompt": arguments.get("negative_prompt") or "",
                "height": arguments.get("height"),
                "width": arguments.get("width"),
                "num_frames": arguments.get("num_frames"),
                "steps": arguments.get("num_inference_steps"),
                "guidance": arguments.get("guidance_scale"),
            }
        )


class RunStore:
    """
    The comparisons under one folder.

    Args:
        outputs (`Path`): Where `hasten` writes; the page's own runs go to `app` in it.
        most (`int`, *optional*): How many of the page's own runs stay, the newest ones; all if None. What the command
            line has written always stays.
    """

    def __init__(self, outputs: Path, most: int | None = None) -> None:
        self.outputs = outputs.resolve()
        self._most = most

    @property
    def own(self) -> Path:
        """The folder of what the page itself writes: its runs, votes, and copies for visitors."""
        return self.outputs / RUNS

    def forget_the_oldest(self) -> None:
        """Remove those of the page's own runs that are beyond the most that stay."""
        if self._most is None:
            return
        own = [path.parent for path in self.own.glob(f"*/{RESULT}")]
        own.sort(key=lambda folder: modified(folder / RESULT), reverse=True)
        for folder in own[self._most :]:
            shutil.rmtree(folder, ignore_errors=True)

    def get(self, name: str) -> PastRun:
        """The run called `name`.

        Raises:
            UserError: there is none; a name that leads out of the outputs names none.
        """
        folder = (self.outputs / name).resolve()
        if folder.is_relative_to(self.outputs):
            run = _read(folder, self.outputs)
            if run is not None:
                return run
        raise UserError("There is no such run any more; choose another from the gallery.")

    def newest(self, most: int | None = None) -> list[PastRun]:
        """The latest runs, newest first; all if `most` is None."""
        results = sorted(self.outputs.rglob(RESULT), key=modified, reverse=True)
        found: list[PastRun] = []
        for path in results:
            run = _read(path.parent, self.outputs)
            if run is not None:
                found.append(run)
            if len(found) == most:
                break
        return found


def _read(folder: Path, outputs: Path) -> PastRun | None:
    """The comparison in `folder`, None where there is none."""
    try:
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        run = PastRun(str(folder.relative_to(outputs)), folder, result)
        complete = {*LANES, "requests", "arguments", "recipe", "files"} <= set(result) and bool(run.prompt)
        return run if complete and run.poster("accelerated").exists() else None
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None

"""Past comparisons, each in a folder of its own with pictures and `result.json`, as `hasten compare` leaves them."""

import json
import secrets
import shlex
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL.Image import open as open_image

from hasten import Recipe
from hasten.app.comparison import Comparison
from hasten.app.errors import UserError
from hasten.app.loading import LoadedModel
from hasten.app.machine import provenance
from hasten.app.media import write_media
from hasten.app.output import RESULT, output_folder, write_result
from hasten.app.rollouts import frame_rate
from hasten.app.series import Call
from hasten.app.web.progress import LANES
from hasten.app.web.settings import CUSTOM, Settings
from hasten.app.web.tidying import modified

RUNS = "app"
RECIPE = "recipe.json"
PICTURE = "side-by-side.png"


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

    def keep(
        self,
        settings: Settings,
        recipe: Recipe,
        comparison: Comparison,
        model: LoadedModel,
        steps: dict[str, list[dict[str, Any]]],
        facts: Mapping[str, Any],
    ) -> str:
        """Write a comparison as `settings` asked for it and as `recipe` ran, with more `facts`, and give its name."""
        name = f"{RUNS}/{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        rate = frame_rate(model)
        with output_folder(self.outputs / name, force=False) as folder:
            for lane, series in comparison.series.items():
                stem, call = f"{lane.replace('_', '-')}-01", series.calls[0]
                write_media(call, folder, stem, fps=rate, title=settings.prompt, comment=command_line(settings))
                if call.video:
                    call.image.save(folder / f"{stem}.png")  # its poster
            if not comparison.baseline.calls[0].video:
                comparison.picture().save(folder / PICTURE)
            recipe.save(folder / RECIPE)
            write_result(
                folder,
                {
                    "model": settings.model,
                    "recipe": {"name": settings.preset, **recipe.to_dict()},
                    "speedup": comparison.figures["accelerated"]["speedup"],
                    **comparison.figures,
                    "files": sorted(path.name for path in folder.iterdir()),
                    "requests": [{"prompt": settings.prompt, "seed": settings.seed}],
                    "arguments": _plain_arguments(comparison),
                    "settings": settings.to_dict(),
                    "step_by_step": steps,
                    "fallbacks": list(comparison.accelerated.calls[0].fallbacks),
                    **_shape(comparison.baseline.calls[0], rate),
                    **facts,
                    **provenance(model.pipe.device),
                    "command": command_line(settings),
                },
            )
        self._forget_the_oldest()
        return name

    def _forget_the_oldest(self) -> None:
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


def command_line(settings: Settings) -> str:
    """The command that makes the same comparison; a recipe of one's own is read from the file beside the result."""
    chosen = ["--recipe", RECIPE] if settings.preset == CUSTOM else ["--preset", settings.preset]
    words = ["hasten", "compare", "--model", settings.model, "--prompt", settings.prompt, *chosen]
    size = {"height": settings.height, "width": settings.width, "frames": settings.num_frames}
    call = {"steps": settings.steps, "guidance": settings.guidance, "seed": settings.seed}
    given = {"negative-prompt": settings.negative_prompt or None, **size, **call}
    for name, value in given.items():
        words += [] if value is None else [f"--{name}", str(value)]
    return shlex.join(words)


def _shape(call: Call, rate: int) -> dict[str, Any]:
    """Width and height in pixels; of a video, its frames and their rate too."""
    return {"size": call.image.size, **({"frames": len(call.video), "fps": rate} if call.video else {})}


def _plain_arguments(comparison: Comparison) -> dict[str, Any]:
    """The pipeline's arguments without those that only this page gives."""
    arguments = comparison.baseline.workload.arguments
    return {name: value for name, value in arguments.items() if not name.startswith("callback")}


def _read(folder: Path, outputs: Path) -> PastRun | None:
    """The comparison in `folder`, None where there is none."""
    try:
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        run = PastRun(str(folder.relative_to(outputs)), folder, result)
        complete = {*LANES, "requests", "arguments", "recipe", "files"} <= set(result) and bool(run.prompt)
        return run if complete and run.poster("accelerated").exists() else None
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None

"""Pictures of every change of resolution of calls that are run in stages."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL.Image import Image, Resampling

import hasten
from hasten.app.errors import UserError
from hasten.app.loading import LoadedModel
from hasten.app.methods import accelerated
from hasten.app.pictures import Column, side_by_side
from hasten.app.series import Method
from hasten.app.workload import Request
from hasten.pipelines.bottleneck import StageBoundary

OVERVIEW = "stages.png"
MOST_ROWS = 4


class StageWatch:
    """Notes the changes of resolution of each call of a method, as latents: nothing is decoded while it is timed."""

    def __init__(self, name: str, recipe: hasten.Recipe) -> None:
        """Watch `recipe`, called `name`.

        Raises:
            UserError: it has no change of resolution.
        """
        if recipe.sampling is None or not recipe.sampling.changes_resolution:
            raise UserError("--stages shows changes of resolution, and this call has none; give --sampling as well.")
        self._method = accelerated(name, recipe)
        self._calls: list[list[StageBoundary]] = []

    @property
    def method(self) -> Method:
        """The method, watched."""
        return replace(self._method, active=self._active)

    def save(self, model: LoadedModel, requests: Sequence[Request], images: Sequence[Image], folder: Path) -> list[str]:
        """Write the pictures of the latest calls, one call for each request, and an overview.

        Args:
            model: Whose VAE decodes.
            requests: What the latest calls were asked for.
            images: What they gave.
            folder: Where to write.

        Returns:
            `list[str]`: names of the files, the overview first.
        """
        calls = [
            [(boundary, _first_pictures(model, boundary)) for boundary in boundaries]
            for boundaries in self._calls[-len(requests) :]
        ]
        files = [OVERVIEW]
        for number, boundaries in enumerate(calls, start=1):
            for boundary, pictures in boundaries:
                for moment, picture in zip(("before", "after"), pictures, strict=True):
                    files.append(f"stage-{number:02}-{boundary.stage + 1}-{moment}.png")
                    picture.save(folder / files[-1])
        prompts = [request.prompt for request in requests[:MOST_ROWS]]
        _overview(calls[:MOST_ROWS], images[:MOST_ROWS], prompts).save(folder / OVERVIEW)
        return files

    @contextmanager
    def _active(self, model: LoadedModel) -> Iterator[Any]:
        with self._method.active(model), hasten.watch_stages(model.pipe) as boundaries:
            self._calls.append(boundaries)
            yield


def _first_pictures(model: LoadedModel, boundary: StageBoundary) -> tuple[Image, Image]:
    """Of the first row of the batch; of a video its first frame, as in the column of results."""
    sides = [rows[0] for rows in hasten.stage_pictures(model.pipe, boundary)]
    before, after = (side[0] if isinstance(side, list) else side for side in sides)
    return before, after


def _overview(
    calls: Sequence[Sequence[tuple[StageBoundary, tuple[Image, Image]]]],
    images: Sequence[Image],
    prompts: Sequence[str],
) -> Image:
    """A column for each side of each change of resolution, and one for what the calls gave."""
    columns = []
    for crossing in zip(*calls, strict=True):
        boundary = crossing[0][0]
        titles = (f"end of stage {boundary.stage + 1}", f"start of stage {boundary.stage + 2}")
        lines = ("clean picture predicted at", "resized; goes on at")
        for side in (0, 1):
            pictures = [pictures[side] for _, pictures in crossing]
            width, height = pictures[0].size
            # no signs that Pillow's own font lacks
            caption = [f"{width} x {height} pixels", f"{lines[side]} sigma {boundary.sigmas[side]:.3f}"]
            alike = [one.resize(images[0].size, Resampling.NEAREST) for one in pictures]
            columns.append(Column(titles[side], caption, alike))
    columns.append(Column("result", [f"{images[0].width} x {images[0].height} pixels"], images))
    return side_by_side(columns, prompts)

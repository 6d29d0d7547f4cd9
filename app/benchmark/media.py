"""The pictures and videos of a benchmark as files, and as stills."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from hasten.app import media
from hasten.app.loading import LoadedModel
from hasten.app.series import Call, Series


def still(call: Call) -> Image:
    """The picture, or the middle frame of the video, that a call made."""
    return call.frames[len(call.frames) // 2]


def write_media(
    folder: Path, model: LoadedModel, rows: Sequence[dict[str, Any]], series: Mapping[str, Series]
) -> list[str]:
    """Write what every call made as PNG or MP4; the rows get the names in `pictures`, one a request.

    Returns:
        All names.
    """
    files = []
    for row in rows:
        one = series.get(row["name"])
        row["pictures"] = (
            [] if one is None else [_write(folder, model, row["name"], one, n) for n in range(len(one.calls))]
        )
        files += row["pictures"]
    return files


def _write(folder: Path, model: LoadedModel, name: str, series: Series, index: int) -> str:
    request = series.workload.requests[index]
    slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
    return media.write_media(
        series.calls[index],
        folder,
        f"{slug}-{index + 1:02}",
        fps=media.video_rate(model),
        title=request.prompt,
        comment=f"{model.name}, {name}, seed {request.seed}",
    )

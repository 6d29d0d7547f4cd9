"""A comparison as files: what every call made, and all of it side by side."""

from pathlib import Path

from hasten.app.comparison import Comparison
from hasten.app.media import write_media
from hasten.app.series import Series
from hasten.app.video import encode_video

PICTURE = "side-by-side.png"
VIDEO = "side-by-side.mp4"


def write_comparison(comparison: Comparison, folder: Path, model: str, rate: int) -> list[str]:
    """Write pictures, or videos of `rate` frames a second, with `model` and seed in them.

    Returns:
        `list[str]`: names of the files, the one with all side by side first.
    """
    files = [_write_overview(comparison, folder, rate)]
    for kind, series in comparison.series.items():
        files += _write_series(series, folder, kind, model, rate)
    return files


def _write_overview(comparison: Comparison, folder: Path, rate: int) -> str:
    if not comparison.baseline.calls[0].video:
        comparison.picture().save(folder / PICTURE)
        return PICTURE
    title, comment = comparison.baseline.workload.requests[0].prompt, comparison.accelerated.method.name
    (folder / VIDEO).write_bytes(encode_video(list(comparison.video()), rate, title=title, comment=comment))
    return VIDEO


def _write_series(series: Series, folder: Path, kind: str, model: str, rate: int) -> list[str]:
    files = []
    for number, (call, request) in enumerate(zip(series.calls, series.workload.requests, strict=True), start=1):
        stem, comment = f"{kind.replace('_', '-')}-{number:02}", f"{model}, {kind}, seed {request.seed}"
        files.append(write_media(call, folder, stem, fps=rate, title=request.prompt, comment=comment))
        if call.video:  # a poster, for pages
            files.append(f"{stem}.png")
            call.image.save(folder / files[-1])
    return files

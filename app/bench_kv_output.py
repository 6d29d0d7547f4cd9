"""All that `hasten bench kv` leaves in its folder: a table, figures, and the first video of each method."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hasten
from hasten.app.bench_kv import bench_kv
from hasten.app.bench_kv_frontier import Constraints, judge_rows
from hasten.app.bench_kv_table import write_table
from hasten.app.benchmark.media import write_media
from hasten.app.errors import UserError
from hasten.app.loading import LoadedModel
from hasten.app.methods import PLAIN
from hasten.app.series import Call, Series
from hasten.app.video import find_ffmpeg
from hasten.app.workload import Workload

TABLE = "methods.csv"
PARETO = "pareto.png"
MEMORY = "memory.png"


def bench_into(
    folder: Path,
    model: LoadedModel,
    configs: Sequence[hasten.KVCacheConfig],
    workload: Workload,
    constraints: Constraints,
    segments: int,
    say: Callable[[str], None],
) -> tuple[list[dict[str, Any]], list[str]]:
    """Measure as `bench_kv` does, and write the table, the figures and the videos.

    Returns:
        The rows of `judge_rows`, and the names of the files in `folder`.
    """
    videos = _Videos(folder, model, workload, say)
    rows = judge_rows(bench_kv(model, configs, workload, say, segments, videos.write), constraints)
    write_table(rows, folder / TABLE)
    title = f"{model.name}, {model.pipe.device.type}"
    return rows, [TABLE, *_draw(rows, model.pipe.config.chunk_frames, title, folder, say), *videos.files]


class _Videos:
    """Writes videos of the first request as they are made, where there is something to write them with."""

    def __init__(self, folder: Path, model: LoadedModel, workload: Workload, say: Callable[[str], None]) -> None:
        self.files: list[str] = []
        self._folder, self._model = folder, model
        self._first = dataclasses.replace(workload, requests=workload.requests[:1])
        try:
            find_ffmpeg()
        except UserError as error:
            say(f"no video will be kept: {error}")
            self._writes = False
        else:
            self._writes = True

    def write(self, name: str, call: Call) -> None:
        """Write the video of a method."""
        if self._writes:
            series = {name: Series(PLAIN, self._first, [call])}
            self.files += write_media(self._folder, self._model, [{"name": name}], series)


def _draw(
    rows: Sequence[dict[str, Any]], chunk_frames: int, title: str, folder: Path, say: Callable[[str], None]
) -> list[str]:
    try:
        from hasten.app.bench_kv_figures import memory, pareto
    except ImportError as error:
        say(f"no figure was drawn ({error}); install hasten[bench] for it")
        return []
    pareto(rows, title, folder / PARETO)
    memory(rows, chunk_frames, title, folder / MEMORY)
    return [PARETO, MEMORY]

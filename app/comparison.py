"""The comparison that `hasten compare` shows: plain, accelerated, and plain with fewer steps at equal seconds."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import ImageOps
from PIL.Image import Image

from hasten.app.judging import judge_captions
from hasten.app.loading import LoadedModel
from hasten.app.measure import equal_seconds_steps, run_interleaved, warm_up
from hasten.app.methods import PLAIN
from hasten.app.pictures import PAPER, Column, side_by_side
from hasten.app.series import Method, Series
from hasten.app.tables import COLUMNS
from hasten.app.workload import Workload

MOST_ROWS = 4


@dataclass(frozen=True)
class Comparison:
    """Three series over the same requests, and their figures under the names that `result.json` gives them."""

    baseline: Series
    accelerated: Series
    fewer_steps: Series
    figures: dict[str, dict[str, Any]]

    @property
    def series(self) -> dict[str, Series]:
        """The three by the names of `figures`."""
        return {"baseline": self.baseline, "accelerated": self.accelerated, "fewer_steps": self.fewer_steps}

    def picture(self) -> Image:
        """The first few prompts side by side, with the figures of all prompts."""
        return self._side_by_side([series.images[:MOST_ROWS] for series in self.series.values()])

    def video(self) -> Iterator[Image]:
        """The videos of the first prompt side by side, frame by frame, with the figures of all prompts."""
        videos = [series.calls[0].video for series in self.series.values()]
        for frames in zip(*videos, strict=False):  # a cancelled one may be shorter
            picture = self._side_by_side([[frame] for frame in frames])
            yield ImageOps.expand(picture, (0, 0, picture.width % 2, picture.height % 2), PAPER)  # H.264 halves colours

    def _side_by_side(self, pictures: Sequence[Sequence[Image]]) -> Image:
        columns = [
            Column(_title(name, series), _lines(name, self.figures[name]), own)
            for (name, series), own in zip(self.series.items(), pictures, strict=True)
        ]
        rows = self.baseline.workload.requests[: len(pictures[0])]
        return side_by_side(columns, [request.prompt for request in rows])


def compare_with_plain(
    model: LoadedModel, method: Method, workload: Workload, say: Callable[[str], None]
) -> Comparison:
    """Run the three after a warm-up: plain and accelerated interleaved, then plain at the latter's seconds."""
    say("warming up")
    warm_up(model, [PLAIN, method], workload)
    baseline, accelerated = run_interleaved(model, [PLAIN, method], workload, say)
    steps = equal_seconds_steps(baseline, accelerated.seconds)
    (fewer_steps,) = run_interleaved(model, [PLAIN], workload.with_steps(steps), say)
    named = {"baseline": baseline, "accelerated": accelerated, "fewer_steps": fewer_steps}
    figures = {
        name: {**series.figures(baseline), "caption_accuracy": judge_captions(model, series)}
        for name, series in named.items()
    }
    return Comparison(baseline, accelerated, fewer_steps, figures)


def _title(name: str, series: Series) -> str:
    return {
        "baseline": "plain",
        "accelerated": f"hasten: {series.method.name}",
        "fewer_steps": "plain, equal seconds",
    }[name]


def _lines(name: str, figures: dict[str, Any]) -> list[str]:
    cost = f"{COLUMNS['steps'].cell(figures)} steps, {figures['seconds']:.2f} s"
    if name == "baseline":
        accuracy = figures["caption_accuracy"]
        return [cost, *([] if accuracy is None else ["", f"captions right: {accuracy:.0%}"])]
    likeness = "the plain picture itself" if math.isinf(figures["psnr"]) else f"PSNR {figures['psnr']:.1f} dB"
    lines = [f"{cost}, speed-up {figures['speedup']:.2f}", f"{likeness}, SSIM {figures['ssim']:.3f}"]
    if figures["caption_accuracy"] is not None:
        lines.append(f"captions right: {figures['caption_accuracy']:.0%}")
    return lines

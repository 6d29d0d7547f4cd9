"""Metrics that need weights of their own: optional columns of a benchmark."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from PIL.Image import Image

from hasten.app.metrics.clip_score import load_clip_score
from hasten.app.metrics.perceptual_distance import load_perceptual_distance

Score = Callable[[Sequence[str], Sequence[Image], Sequence[Image]], list[float]]
"""From prompts, pictures and the plain pipeline's pictures to a figure for each."""


@dataclass(frozen=True)
class Judge:
    """A metric that can be loaded.

    Args:
        column (`str`): Key of its figures in results.
        label (`str`): As in tables.
        load (`Callable[[], Score]`): Reads its weights. Raises `UserError` where they are not there.
    """

    column: str
    label: str
    load: Callable[[], Score]


def choose_judges(*, clip: str | None, lpips: bool) -> list[Judge]:
    """The judges that `--clip` and `--lpips` ask for."""
    judges = [Judge("lpips", "LPIPS", load_perceptual_distance)] if lpips else []
    return judges + ([] if clip is None else [Judge("clip", "CLIP", partial(load_clip_score, clip))])

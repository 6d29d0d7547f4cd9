"""Whether pictures and videos are true to their captions, where these are held-out ones of a bundled model."""

from typing import Any

from hasten.app.loading import LoadedModel
from hasten.app.metrics.caption_accuracy import caption_accuracy
from hasten.app.metrics.motion_accuracy import LAG, motion_accuracy
from hasten.app.series import Series


def judge_captions(model: LoadedModel, series: Series) -> float | None:
    """Share of pictures true to their caption; None unless all prompts are held-out prompts of a bundled model.

    A video is true to its caption when thing, colour and motion are; one that is too short for that is not judged.
    """
    if series.calls[0].video:
        motion = judge_motion(model, series)
        return None if motion is None else motion[0]["all"]
    scenes = _scenes(series)
    return None if scenes is None else caption_accuracy(model.name, scenes, series.images)


def judge_motion(model: LoadedModel, series: Series, segments: int = 1) -> list[dict[str, float]] | None:
    """`motion_accuracy` of the videos in so many stretches of time; None where there is nothing to judge it by."""
    scenes = _scenes(series)
    clips = [call.video for call in series.calls]
    if scenes is None or min(map(len, clips)) // segments <= LAG:
        return None
    return motion_accuracy(model.name, scenes, clips, segments)


def _scenes(series: Series) -> list[dict[str, Any]] | None:
    """What the held-out prompts describe; None unless all prompts are such."""
    scenes = [request.scene for request in series.workload.requests if request.scene is not None]
    return scenes if len(scenes) == len(series.calls) else None

"""A pipeline's progress bar over the steps of its stages."""

import types
import weakref
from collections.abc import Callable
from typing import Any

from hasten.pipelines.bottleneck import BottleneckRun


def fit_progress_bar(pipeline: Any, run: BottleneckRun) -> Callable[[], None]:
    """Have the bars of `pipeline` end with the last step of `run`.

    Many pipelines take `num_inference_steps` for the total, which stages may stay below. Where they are more, a
    pipeline counts only the last `num_inference_steps` of them, and its total is right.

    Returns:
        `Callable[[], None]`: gives the pipeline its own bars back.
    """
    owner: Callable[[], Any] = weakref.ref(pipeline)
    before = vars(pipeline).get("progress_bar")

    def progress_bar(iterable: Any = None, total: int | None = None) -> Any:
        pipeline = owner()
        stock = before or types.MethodType(type(pipeline).progress_bar, pipeline)
        if total is not None and getattr(pipeline.scheduler, "bottleneck", None) is run:
            total = min(total, run.num_steps)
        return stock(iterable, total)

    def restore() -> None:
        if vars(pipeline).get("progress_bar") is progress_bar:
            del pipeline.progress_bar
            if before is not None:
                pipeline.progress_bar = before

    pipeline.progress_bar = progress_bar
    return restore

"""One item through the pipeline."""

import gc
import time
from typing import Any

import torch

import hasten
from hasten.app.batch.items import Item
from hasten.app.batch.media import Rendering
from hasten.app.loading import LoadedModel, makes_videos
from hasten.app.measure import make, synchronize
from hasten.app.methods import PLAIN, accelerated
from hasten.app.workload import Request


class Renderer:
    """Renders items with one pipeline, which stays loaded."""

    def __init__(self, model: LoadedModel) -> None:
        model.pipe.set_progress_bar_config(disable=True)
        self._model = model
        self._makes_videos = makes_videos(model.pipe)
        self._is_clean = True

    def __call__(self, item: Item, recipe: dict[str, Any] | None) -> Rendering:
        """Render `item` with the acceleration `recipe`, or plain. The noise comes from the item's seed alone."""
        if not self._is_clean:
            self._free_memory()
        self._is_clean = False
        pipe = self._model.pipe
        method = PLAIN if recipe is None else accelerated(item.method, hasten.Recipe.from_dict(recipe))
        with method.active(self._model):
            began = time.perf_counter()
            frames = make(self._model, Request(item.prompt, item.seed), item.arguments)
            synchronize(pipe.device)
            seconds = time.perf_counter() - began
            report = pipe.acceleration_report().to_dict() if method.reports else {"density": None, "fallbacks": []}
        self._is_clean = True
        return Rendering(
            frames=frames,
            is_video=self._makes_videos,
            seconds=seconds,
            density=report["density"],
            fallbacks=report["fallbacks"],
        )

    def _free_memory(self) -> None:
        """Let go of what a call that failed, perhaps for want of memory, still held while it was reported."""
        gc.collect()
        if self._model.pipe.device.type != "cpu":
            torch.accelerator.memory.empty_cache()

"""What a user hears of a running rollout: progress, and the callback of diffusers' pipelines."""

from collections.abc import Callable
from typing import Any

from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from torch import Tensor

from .options import RolloutOptions


class StepCallback:
    """Counts the steps of all chunks and tells the user's callback.

    Args:
        pipe (`SelfForcingWanPipeline`): handed to the callback.
        options (`RolloutOptions`): with the callback, and the tensors that it wants.
        progress (`Callable[[], object]`): moves the progress bar by a step.
    """

    def __init__(self, pipe: Any, options: RolloutOptions, progress: Callable[[], object]) -> None:
        self._pipe = pipe
        self._callback = options.callback_on_step_end
        self._inputs = options.callback_on_step_end_tensor_inputs
        if isinstance(self._callback, PipelineCallback | MultiPipelineCallbacks):
            self._inputs = self._callback.tensor_inputs
        self._progress = progress
        self._steps = 0

    def __call__(self, timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors that the callback replaces."""
        self._pipe._current_timestep = timestep
        self._progress()
        step, self._steps = self._steps, self._steps + 1
        if self._callback is None:
            return {}
        wanted = {name: tensors.get(name) for name in self._inputs}
        return self._callback(self._pipe, step, timestep, wanted)

"""Following a pipeline's call step by step, through whichever callback the pipeline has."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor


def step_callbacks(pipe: Any, observe: Callable[[Tensor], None]) -> dict[str, Any]:
    """Pipeline arguments with which `observe` is given the latents at the end of every step; none if it has none.

    An exception from `observe` ends the call.
    """
    known = inspect.signature(type(pipe).__call__).parameters

    def on_step_end(_pipe: Any, _step: int, _timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        observe(values["latents"])
        return values

    def on_step(_step: int, _timestep: Any, latents: Tensor) -> None:
        observe(latents)

    if "callback_on_step_end" in known:
        return {"callback_on_step_end": on_step_end}
    return {"callback": on_step, "callback_steps": 1} if "callback" in known else {}

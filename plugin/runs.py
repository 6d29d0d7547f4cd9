"""Tells when a pipeline call begins: every pipeline calls `scheduler.set_timesteps` exactly then."""

import functools
import types
from collections.abc import Callable
from typing import Any


def observe_runs(scheduler: Any, begin_run: Callable[[int], None]) -> Callable[[], None]:
    """Call `begin_run(number of denoiser steps)` after each `scheduler.set_timesteps`.

    The signal is an instance attribute on the scheduler, shared by all observers of a scheduler and gone with the last
    one. As a bound method it follows its scheduler through `copy.deepcopy`.

    Returns:
        `Callable[[], None]`: ends the observation.
    """
    if not hasattr(scheduler.set_timesteps, "observers"):
        scheduler.set_timesteps = types.MethodType(_observed(type(scheduler).set_timesteps), scheduler)
    observers: list[tuple[Any, Callable[[int], None]]] = scheduler.set_timesteps.observers
    entry = (scheduler, begin_run)
    observers.append(entry)

    def end_observation() -> None:
        observers.remove(entry)
        if not observers:
            del scheduler.set_timesteps

    return end_observation


def _observed(stock: Callable[..., None]) -> Callable[..., None]:
    observers: list[tuple[Any, Callable[[int], None]]] = []

    @functools.wraps(stock)  # pipelines look at the signature to learn whether custom sigmas or timesteps are accepted
    def set_timesteps(self: Any, *args: Any, **kwargs: Any) -> None:
        stock(self, *args, **kwargs)
        for scheduler, begin_run in observers:
            if scheduler is self:
                begin_run(len(self.timesteps))

    set_timesteps.observers = observers  # type: ignore[attr-defined]
    return set_timesteps

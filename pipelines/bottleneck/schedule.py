"""Stages, and the noise levels that they run through."""

import math
from typing import Any, NamedTuple

import numpy as np


class Stage(NamedTuple):
    """
    A part of the schedule at one resolution.

    Args:
        steps (`int`):
            Denoiser steps that are really run.
        scale (`float`, defaults to `1.0`):
            Sides as a share of the full ones.
        start, end (`float`, defaults to `1.0` and `0.0`):
            Times, before the shift, between which the steps are spread; 1 is pure noise. The paper's "strength" is
            `start`. The last step leads to the next stage, or to the clean picture.
        shift (`float`, *optional*):
            Timestep shift of flow matching; the scheduler's own if left out.
        size (`tuple[int, int]`, *optional*):
            Rows and columns of tokens, in place of `scale`.
    """

    steps: int
    scale: float = 1.0
    start: float = 1.0
    end: float = 0.0
    shift: float | None = None
    size: tuple[int, int] | None = None

    @property
    def follows_scheduler(self) -> bool:
        """Whether its noise levels are those of the scheduler itself."""
        return self.shift is None and (self.start, self.end) == (1.0, 0.0)

    @property
    def run_steps(self) -> int:
        """Steps of a whole run, from pure noise to the clean picture, with its steps as close together."""
        return max(self.steps, round(self.steps / (self.start - self.end)))

    def grid(self, full: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of its tokens when the full picture has `full`."""
        if self.size:
            return self.size
        height, width = (max(1, round(side * self.scale)) for side in full)
        return height, width


def shifted(time: Any, shift: float) -> Any:
    """Timestep shift s·t / (1 + (s - 1)·t) of flow matching: multiplies the odds t / (1 - t) by `shift`."""
    return shift * time / (1 + (shift - 1) * time)


def shift_of_mu(mu: float, kind: str = "exponential") -> float:
    """The shift that diffusers' dynamic `mu` stands for; `kind` is its `time_shift_type`."""
    return math.exp(mu) if kind == "exponential" else mu


def stage_sigmas(stage: Stage, shift: float, law: Any = None, terminal: float | None = None) -> np.ndarray:
    """Flow-matching σ before each step of `stage`, and at its end, float64 [steps + 1].

    Args:
        stage (`Stage`):
            The stage.
        shift (`float`):
            Used where the stage has no shift of its own.
        law (array, *optional*):
            Unshifted times of a whole run from 1 down, evenly many per step, to be followed between the stage's start
            and end; a straight line if left out.
        terminal (`float`, *optional*):
            The scheduler's `shift_terminal`: the shifted levels are stretched away from 1 so that the last one of a
            whole run, with its steps as close together, comes to lie there.
    """
    times = np.array([1.0, 0.0]) if law is None else np.append(np.asarray(law, dtype=np.float64), 0.0)
    progress = np.linspace(0, 1, len(times))
    begin, end = (np.interp(-time, -times, progress) for time in (stage.start, stage.end))
    last = 1 - (end - begin) / stage.steps
    spread = np.append(np.linspace(begin, end, stage.steps + 1), last)
    *sigmas, last_sigma = shifted(np.interp(spread, progress, times), stage.shift or shift)
    if terminal and last_sigma < 1:
        sigmas = [1 - (1 - sigma) * (1 - terminal) / (1 - last_sigma) for sigma in sigmas]
    return np.array([*sigmas[:-1], max(0.0, sigmas[-1]) if stage.end else 0.0])

"""How the noise is taken out of a chunk: a distilled model's few steps with re-noising, or a stock solver's many."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from ..bottleneck import NoiseLevel, predict_x0, renoise, shifted

Generators = torch.Generator | list[torch.Generator] | None


class Sampler(Protocol):
    """Turns the noise of one chunk after another into clean latents."""

    @property
    def steps(self) -> int:
        """Steps of each chunk."""

    def begin_chunk(self, device: torch.device) -> Tensor:
        """Timesteps of the next chunk, (steps,), from noise to clean."""

    def step(self, index: int, velocity: Tensor, latents: Tensor, generator: Generators) -> Tensor:
        """Latents after step `index`, where the model predicted `velocity` = ε - x̂0 at `latents`."""


class FewSteps(NamedTuple):
    """Predict x̂0, add fresh noise of the next level, repeat: no ODE is solved, and the last x̂0 is the chunk.

    Args:
        sigmas (`tuple[float, ...]`): noise level σ before each step, falling from 1.
        train_timesteps (`int`): the timestep that stands for σ = 1.
    """

    sigmas: tuple[float, ...]
    train_timesteps: int

    @property
    def steps(self) -> int:
        """Steps of each chunk."""
        return len(self.sigmas)

    def begin_chunk(self, device: torch.device) -> Tensor:
        """Timesteps 1000·σ, (steps,), float32: they are not rounded to whole numbers."""
        return torch.tensor([self.train_timesteps * sigma for sigma in self.sigmas], device=device)

    def step(self, index: int, velocity: Tensor, latents: Tensor, generator: Generators) -> Tensor:
        """x̂0 with fresh noise of the next level; x̂0 itself after the last step."""
        clean = predict_x0(latents, velocity, _level(self.sigmas[index]), "flow")
        if index + 1 == len(self.sigmas):
            return clean
        noise = randn_tensor(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
        return renoise(clean, noise, _level(self.sigmas[index + 1]))


class Solver(NamedTuple):
    """A stock scheduler, started afresh for each chunk: for models that are not distilled.

    Args:
        scheduler (`SchedulerMixin`): of flow matching; it brings its own shift.
        steps (`int`): steps of each chunk.
    """

    scheduler: Any
    steps: int

    def begin_chunk(self, device: torch.device) -> Tensor:
        """The scheduler's timesteps."""
        self.scheduler.set_timesteps(self.steps, device=device)
        self.scheduler.set_begin_index(0)
        return self.scheduler.timesteps

    def step(self, index: int, velocity: Tensor, latents: Tensor, generator: Generators) -> Tensor:
        """The scheduler's step."""
        return self.scheduler.step(velocity, self.scheduler.timesteps[index], latents, return_dict=False)[0]


def few_steps(denoising_steps: Sequence[float], shift: float, train_timesteps: int = 1000) -> FewSteps:
    """The schedule of Self-Forcing, from steps as its configurations list them.

    The published one is (1000, 750, 500, 250) with a shift of 5: timesteps 1000, 937.5, 833.3 and 625.

    Args:
        denoising_steps (`Sequence[float]`): timesteps before the shift.
        shift (`float`): σ = shift·u / (1 + (shift - 1)·u) of u = step / `train_timesteps`.

    Raises:
        ValueError: the steps do not fall from `train_timesteps` towards 0, or the shift is not positive.
    """
    steps = tuple(denoising_steps)
    falling = all(later < earlier for earlier, later in itertools.pairwise(steps))
    if not steps or steps[0] != train_timesteps or steps[-1] <= 0 or not falling:
        raise ValueError(
            f"denoising_steps are {list(steps)}; give timesteps that fall from {train_timesteps} and stay above 0."
        )
    if shift <= 0:
        raise ValueError(f"timestep_shift is {shift}; give a number above 0.")
    return FewSteps(tuple(shifted(step / train_timesteps, shift) for step in steps), train_timesteps)


def even_steps(count: int, train_timesteps: int = 1000) -> tuple[float, ...]:
    """`count` timesteps spread evenly from `train_timesteps` towards 0; 4 of them are the published ones.

    Raises:
        ValueError: there is no step.
    """
    if count < 1:
        raise ValueError(f"num_inference_steps is {count}; give at least 1.")
    return tuple(train_timesteps * (1 - index / count) for index in range(count))


def _level(sigma: float) -> NoiseLevel:
    return NoiseLevel(signal=1 - sigma, noise=sigma)

"""What a run in stages does, and where it is."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .choices import Interpolation, Transition
from .dynamic_shift import LINEAR_MU, MuLaw
from .resizing import resize
from .schedule import Stage


class StageBoundary(NamedTuple):
    """
    A change of resolution.

    Args:
        stage (`int`):
            Index of the stage that ended.
        before, after (`Tensor`):
            The predicted clean latents before and after the resize: (batch, ..., height, width), those of pipelines
            that pack theirs as (batch, channels, frames, height, width).
        sigmas (`tuple[float, float]`):
            Share of noise in the state that they were predicted from, and at the start of the next stage.
    """

    stage: int
    before: Tensor
    after: Tensor
    sigmas: tuple[float, float]


@dataclass
class BottleneckRun:
    """
    What a bottleneck scheduler does, and where it is in a run.

    Args:
        plan (`Callable[[int], Sequence[Stage]]`):
            The stages of a call with that many `num_inference_steps`.
        transition, interpolation:
            What happens to the noise, and how the clean picture is resized, when the resolution changes.
        resize (`Callable[[Tensor, tuple[int, int]], Tensor]`, *optional*):
            Resizes the clean latents to a height and width, in place of `interpolation`.
        patch (`int`):
            Side of the square of latents in a packed token.
        mu (`MuLaw`):
            How the pipeline finds the `mu` of its dynamic shift.
        error (`type[ValueError]`):
            What is raised on a call that cannot be served.
        grid (`tuple[int, int]`, *optional*):
            Rows and columns of tokens at full resolution; has to be set before the first stage ends.
        on_begin (`Callable[[], None]`, *optional*):
            Told of every run.
        watchers (`list[Callable[[StageBoundary], None]]`):
            Shown every change of resolution.
    """

    plan: Callable[[int], Sequence[Stage]]
    transition: Transition = "fresh"
    interpolation: Interpolation = "lanczos"
    resize: Callable[[Tensor, tuple[int, int]], Tensor] | None = None
    patch: int = 2
    mu: MuLaw = LINEAR_MU
    error: type[ValueError] = ValueError
    grid: tuple[int, int] | None = None
    on_begin: Callable[[], None] | None = None
    watchers: list[Callable[[StageBoundary], None]] = field(default_factory=list)
    stages: Sequence[Stage] = ()
    schedulers: list[Any] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    index: int = 0
    step: int = 0
    generators: list[torch.Generator] = field(default_factory=list)

    @property
    def stage(self) -> Stage:
        """The running stage."""
        return self.stages[self.index]

    @property
    def scheduler(self) -> Any:
        """The stock scheduler of the running stage."""
        return self.schedulers[self.index]

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return sum(stage.steps for stage in self.stages)

    @property
    def overall_step(self) -> int:
        """Index of the next step in the whole run."""
        return self.step + sum(stage.steps for stage in self.stages[: self.index])

    def begin(self, schedulers: list[Any], ends: list[float]) -> None:
        """A run begins; each stage has a scheduler, and a share of noise at its end."""
        self.schedulers, self.ends, self.index, self.step, self.generators = schedulers, ends, 0, 0, []
        if self.on_begin:
            self.on_begin()

    def resized(self, x0: Tensor, size: tuple[int, int]) -> Tensor:
        """Clean latents at another height and width."""
        if self.resize is None:
            return resize(x0, size, self.interpolation)
        return self.resize(x0, size)

    def fresh_noise(self, like: Tensor) -> Tensor:
        """White noise, each row of the batch from its own generator."""
        rows = [torch.randn(like.shape[1:], generator=generator, dtype=like.dtype) for generator in self.generators]
        return torch.stack(rows).to(like.device)

    def seed(self, sample: Tensor) -> None:
        """Seed the noise of a run by the latents that it begins with, which the user's generator has made."""
        for row in sample.flatten(1)[:, :256].float().cpu():
            self.generators.append(torch.Generator().manual_seed(zlib.crc32(row.numpy().tobytes())))

"""Bottleneck Sampling: high, low, high resolution inside one call of an unchanged pipeline.

Tian et al., "Training-free Diffusion Acceleration with Bottleneck Sampling", 2025, arXiv 2503.18940.
"""

import inspect
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from diffusers.hooks import ModelHook
from torch import Tensor

from hasten.pipelines.bottleneck import (
    BottleneckRun,
    Container,
    Interpolation,
    Stage,
    Transition,
    bottleneck_scheduler,
    check_scheduler,
    has_shift,
    mu_of_tokens,
    noise_level,
    pack,
    resize,
    unpack,
)

from .. import fields
from ..errors import AccelerationError
from ..families import Family, TokenGrid, UnknownTokensError
from ..report import RunLog
from ..state import Latents, attach_hook

_BOTTLENECK_HOOK = "hasten_bottleneck"


@dataclass(frozen=True)
class BottleneckStage:
    r"""
    A part of the denoising steps, at one resolution.

    Args:
        steps (`float`, *optional*):
            Steps that are really run; below 1, a share of the call's `num_inference_steps`. All of them if left out.
        scale (`float`, defaults to `1.0`):
            Height and width as a share of the full ones, rounded to whole tokens.
        height (`int`, *optional*):
            Height in pixels, in place of `scale`.
        width (`int`, *optional*):
            Width in pixels, in place of `scale`.
        start (`float`, defaults to `1.0`):
            Time at which the stage starts, before the shift; 1 is pure noise. The paper's noise-reintroducing strength.
        end (`float`, defaults to `0.0`):
            Time towards which its steps are spread. Whatever it is, the last step predicts the clean picture.
        shift (`float`, *optional*):
            Timestep shift, for flow-matching schedulers; the scheduler's own if left out.

    Raises:
        AccelerationError: a field has the wrong type or is out of bounds.
    """

    steps: float | None = field(default=None, metadata={"exclusiveMinimum": 0})
    scale: float = field(default=1.0, metadata={"exclusiveMinimum": 0, "maximum": 1})
    height: int | None = field(default=None, metadata={"minimum": 1})
    width: int | None = field(default=None, metadata={"minimum": 1})
    start: float = field(default=1.0, metadata={"exclusiveMinimum": 0, "maximum": 1})
    end: float = field(default=0.0, metadata={"minimum": 0, "maximum": 1})
    shift: float | None = field(default=None, metadata={"exclusiveMinimum": 0})

    def __post_init__(self) -> None:
        fields.check_fields(self)
        if self.steps is not None and self.steps >= 1 and self.steps != int(self.steps):
            raise AccelerationError(
                f"A stage was given steps={self.steps}; give a whole number, or a share of the steps below 1."
            )
        if (self.height is None) != (self.width is None):
            raise AccelerationError("A stage was given one of height and width; give both, or a scale.")
        if self.height is not None and self.scale != 1:
            raise AccelerationError("A stage was given a scale and a size; give one of them.")
        if self.end >= self.start:
            raise AccelerationError(f"A stage runs from start={self.start} down to end={self.end}; give a lower end.")

    def count(self, num_inference_steps: int) -> int:
        """Steps that it runs in a call of `num_inference_steps`."""
        if self.steps is None:
            return num_inference_steps
        return int(self.steps) if self.steps >= 1 else max(1, round(self.steps * num_inference_steps))


@dataclass(frozen=True)
class BottleneckConfig:
    r"""
    Configuration of Bottleneck Sampling. The default is one stage of all steps: the plain sampler, bit for bit.

    Args:
        stages (`tuple[BottleneckStage, ...]`, defaults to one stage):
            The stages in order; the last one is at full resolution.
        transition (`"fresh"` or `"correlated"`, defaults to `"fresh"`):
            Noise at the start of a stage: fresh, as in the paper, or what the denoiser found at the end of the stage
            before, with fresh noise only in the frequencies that are new.
        interpolation (`"lanczos"`, `"bicubic"`, `"bilinear"`, `"nearest"` or `"area"`, defaults to `"lanczos"`):
            How the predicted clean latents are resized.

    Raises:
        AccelerationError: a field has the wrong type, or the stages do not follow each other.
    """

    stages: tuple[BottleneckStage, ...] = (BottleneckStage(),)
    transition: Transition = "fresh"
    interpolation: Interpolation = "lanczos"

    def __post_init__(self) -> None:
        fields.check_fields(self)
        if not self.stages:
            raise AccelerationError("No stage was given; give at least one.")
        last = self.stages[-1]
        if last.scale != 1 or last.height is not None or last.end != 0:
            raise AccelerationError(
                "The last stage does not end in the full picture; give it no size, scale 1 and end 0."
            )
        for before, after in zip(self.stages, self.stages[1:], strict=False):
            if before.steps is None or after.steps is None:
                raise AccelerationError(
                    "A stage among several was given no steps; give each stage its number of steps."
                )
            if after.start < before.end:
                raise AccelerationError(
                    f"A stage starts at {after.start}, below the end of the one before it, {before.end}; "
                    f"give it a start of at least {before.end}."
                )

    @classmethod
    def preset(cls, name: str) -> "BottleneckConfig":
        """The configuration called `name`, such as `"flux-x2"` or `"flux-published"`; see `sampling_presets`.

        Raises:
            AccelerationError: there is none of that name.
        """
        fields.check_names([name], _PRESETS, "sampling preset")
        return _PRESETS[name]

    def plan(self, num_inference_steps: int, cell: tuple[int, int]) -> tuple[Stage, ...]:
        """The stages of a call with that many steps, `cell` being the height and width of a token in pixels.

        Raises:
            AccelerationError: a stage's height and width are not multiples of `cell`.
        """
        return tuple(
            Stage(
                stage.count(num_inference_steps), stage.scale, stage.start, stage.end, stage.shift, _tokens(stage, cell)
            )
            for stage in self.stages
        )


def _tokens(stage: BottleneckStage, cell: tuple[int, int]) -> tuple[int, int] | None:
    if stage.height is None or stage.width is None:
        return None
    sides = (stage.height, stage.width)
    height, width = (max(1, round(side / pixels)) for side, pixels in zip(sides, cell, strict=True))
    nearest = (height * cell[0], width * cell[1])
    if sides != nearest:
        raise AccelerationError(
            f"A stage was given height={sides[0]}, width={sides[1]}, which this model's tokens do not fill; "
            f"the nearest size is height={nearest[0]}, width={nearest[1]}."
        )
    return height, width


def _three_stages(scale: float, *shares: float) -> BottleneckConfig:
    high, low, details = shares
    return BottleneckConfig(
        (
            BottleneckStage(steps=high),
            BottleneckStage(steps=low, scale=scale, start=0.8),
            BottleneckStage(steps=details, start=0.6),
        )
    )


_PICTURES = ("pixart", "hunyuan_dit", "sd3", "flux", "flux2", "qwen_image", "z_image")
_VIDEOS = ("cogvideox", "wan", "hunyuan_video", "ltx", "mochi")
_HALF = {"x1.5": (0.2, 0.4, 0.36), "x2": (0.12, 0.4, 0.28), "x3": (0.08, 0.4, 0.14)}  # at half the sides, r ≈ 0.27
_THREE_QUARTERS = {"x1.5": (0.1, 0.5, 0.38), "x2": (0.08, 0.5, 0.24), "x3": (0.06, 0.4, 0.12)}  # r ≈ 0.36
_PRESETS = {
    "flux-published": BottleneckConfig(
        (
            BottleneckStage(steps=6, shift=9.0),
            BottleneckStage(steps=20, scale=0.5, start=0.8, shift=6.0),
            BottleneckStage(steps=8, start=0.6, shift=9.0),
        )
    ),
    "hunyuan_video-published": BottleneckConfig(
        (
            BottleneckStage(steps=4, shift=7.0),
            BottleneckStage(steps=24, scale=0.75, start=0.8, shift=9.0),
            BottleneckStage(steps=16, start=0.7, shift=9.0),
        )
    ),
    **{f"{family}-{speed}": _three_stages(0.5, *shares) for family in _PICTURES for speed, shares in _HALF.items()},
    **{
        f"{family}-{speed}": _three_stages(0.75, *shares)
        for family in _VIDEOS
        for speed, shares in _THREE_QUARTERS.items()
    },
}


def sampling_presets() -> dict[str, BottleneckConfig]:
    """The sampling configurations that have a name: the published ones, and three speeds for each family."""
    return dict(_PRESETS)


class BottleneckHook(ModelHook):
    """Feeds the denoiser what is in the container, with positions to match, and puts its prediction into one."""

    def __init__(self, pipeline: Any, family: Family, run: BottleneckRun, log: RunLog, logs_steps: bool) -> None:
        super().__init__()
        self._pipeline = weakref.ref(pipeline)
        self._family = family
        self._run = run
        self._log = log
        self._logs_steps = logs_steps

    def __deepcopy__(self, memo: dict[int, Any]) -> NoReturn:
        raise AccelerationError("An accelerated model cannot be copied; call disable_acceleration() first.")

    def initialize_hook(self, module: torch.nn.Module) -> torch.nn.Module:
        """Called by the registry when the hook is registered."""
        self._signature = inspect.signature(type(module).forward)
        return module

    @torch.compiler.disable
    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Shrink the inputs of a stage of lower resolution."""
        bound = self._signature.bind(module, *args, **kwargs)
        name = list(bound.arguments)[1]
        self._small: TokenGrid | None = None
        self._device = Latents.of(bound.arguments[name]).device
        if self._logs_steps:
            self._log.begin_step(self._run.overall_step, "dense", self._device)
        if not self._in_charge():
            self._log.fall_back("scheduler", "it was exchanged, so every step is at full resolution")
            return args, kwargs
        if len(self._run.stages) < 2:
            return args, kwargs
        full = self._grid(module, bound.arguments)
        height, width = self._run.grid = (full.height, full.width)
        rows, columns = self._run.stage.grid((height, width))
        if rows > height or columns > width:
            raise AccelerationError(
                f"A stage of {rows} × {columns} tokens is larger than the picture of {height} × {width}; "
                "give the stage a smaller size."
            )
        if (rows, columns) == (height, width):
            return args, kwargs
        self._small = TokenGrid(rows, columns, full.frames)
        fixed = self._family.resized(self._pipeline(), bound.arguments, full, self._small)
        timestep = bound.arguments.get("timestep")
        if isinstance(timestep, Tensor) and timestep.ndim == 2:  # one for each token
            fixed["timestep"] = self._reduce_tokens(timestep[..., None])[..., 0]
        fixed[name] = _each(self._shrink, bound.arguments[name])
        bound.arguments.update(fixed)
        return bound.args[1:], bound.kwargs

    @torch.compiler.disable
    def post_forward(self, module: torch.nn.Module, output: Any) -> Any:
        """Put a prediction of lower resolution into a container."""
        if self._logs_steps:
            self._log.end_step(0, self._device)
        if self._small is None:
            return output
        if isinstance(output, tuple):
            return (_each(self._expand, output[0]), *output[1:])
        output.sample = _each(self._expand, output.sample)
        return output

    def _in_charge(self) -> bool:
        pipeline = self._pipeline()
        return getattr(getattr(pipeline, "scheduler", None), "bottleneck", None) is self._run

    def _grid(self, module: Any, inputs: dict[str, Any]) -> TokenGrid:
        if any("controlnet" in name and value is not None for name, value in inputs.items()):
            raise AccelerationError("What a ControlNet adds cannot be resized; leave the sampling config out.")
        try:
            return self._family.grid(module.config, inputs)
        except UnknownTokensError as error:
            raise AccelerationError(f"This call cannot be resized: {error}; leave the sampling config out.") from None

    def _reduce(self, x: Tensor, cell: int) -> Tensor:
        assert self._run.grid is not None
        assert self._small is not None
        return Container.of_cells(self._run.grid, self._small[:2], cell).reduce(x)

    def _reduce_tokens(self, x: Tensor) -> Tensor:
        assert self._run.grid is not None
        return pack(self._reduce(unpack(x, self._run.grid, 1), 1), 1)

    def _shrink(self, x: Tensor) -> Tensor:
        assert self._run.grid is not None
        if x.ndim == 3:
            return self._reduce_tokens(x)
        small, axis = self._reduce(x, x.shape[-2] // self._run.grid[0]), self._family.condition_axis
        if axis is None:
            return small
        channels = self._family.denoiser_of(self._pipeline()).config.out_channels
        if x.shape[axis] == channels:
            return small
        condition = x.narrow(axis, channels, x.shape[axis] - channels)
        condition = resize(condition, (small.shape[-2], small.shape[-1]), "area")
        return torch.cat([small.narrow(axis, 0, channels), condition], axis)

    def _expand(self, x: Tensor) -> Tensor:
        assert self._run.grid is not None
        assert self._small is not None
        small = self._small[:2]
        if x.ndim == 3:
            return pack(Container(self._run.grid, small).expand(unpack(x, small, 1)), 1)
        return Container.of_cells(self._run.grid, small, x.shape[-2] // small[0]).expand(x)


def _each(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    return [function(item) for item in value] if isinstance(value, list) else function(value)


def apply_bottleneck(
    pipeline: Any, family: Family, config: BottleneckConfig
) -> tuple[Callable[[RunLog, bool], Callable[[], None]], Callable[[], None]]:
    r"""
    Apply Bottleneck Sampling to a pipeline.

    Args:
        pipeline (`DiffusionPipeline`):
            Its scheduler is replaced at once; pipelines save what their config says, which stays.
        family (`Family`):
            The pipeline's family.
        config (`BottleneckConfig`):
            The configuration.

    Returns:
        `tuple[Callable, Callable]`: a function that hooks the denoisers, around all hooks that are there by then, is
        told the log and whether to log steps, and gives a function that unhooks them; and one that puts the scheduler
        back.
    """
    base, cell = pipeline.scheduler, family.cell(pipeline)
    run = BottleneckRun(
        plan=lambda steps: config.plan(steps, cell[:2]),
        transition=config.transition,
        interpolation=config.interpolation,
        patch=family.patch,
        dynamic_shift=family.dynamic_shift,
        error=AccelerationError,
    )
    scheduler = bottleneck_scheduler(base, run)

    def restore_scheduler() -> None:
        if pipeline.scheduler is scheduler:
            object.__setattr__(pipeline, "scheduler", base)

    def attach(log: RunLog, logs_steps: bool) -> Callable[[], None]:
        if logs_steps:
            run.on_begin = log.begin_run
        with ExitStack() as undo:
            for denoiser in family.denoisers_of(pipeline):
                hook = BottleneckHook(pipeline, family, run, log, logs_steps)
                undo.callback(attach_hook(denoiser, hook, _BOTTLENECK_HOOK))
            return undo.pop_all().close

    object.__setattr__(pipeline, "scheduler", scheduler)  # a plain assignment would rewrite the pipeline's config
    return attach, restore_scheduler


class ResolvedStage(NamedTuple):
    """A stage of a call: its tokens, and the share of noise before each step."""

    grid: TokenGrid
    sigmas: tuple[float, ...]


def plan_stages(
    pipeline: Any, family: Family, config: BottleneckConfig, full: TokenGrid, num_inference_steps: int
) -> tuple[ResolvedStage, ...]:
    """The stages that a call of that many steps with `full` tokens would run.

    Raises:
        AccelerationError: a stage's size does not fit.
    """
    cell = family.cell(pipeline)
    run = BottleneckRun(lambda steps: config.plan(steps, cell[:2]), dynamic_shift=family.dynamic_shift)
    scheduler = bottleneck_scheduler(getattr(pipeline.scheduler, "bottleneck_base", pipeline.scheduler), run)
    if scheduler.config.get("use_dynamic_shifting"):
        law = np.linspace(1, 1 / num_inference_steps, num_inference_steps)
        scheduler.set_timesteps(sigmas=law, mu=mu_of_tokens(scheduler.config, full.tokens))
    else:
        scheduler.set_timesteps(num_inference_steps)
    stages = []
    for stage, one in zip(run.stages, run.schedulers, strict=True):
        levels = [noise_level(one, step)[0] for step in range(len(one.timesteps))]
        grid = TokenGrid(*stage.grid((full.height, full.width)), full.frames)
        stages.append(ResolvedStage(grid, tuple(noise / (signal + noise) for signal, noise in levels)))
    return tuple(stages)


def check_bottleneck(pipeline: Any, family: Family, config: BottleneckConfig) -> None:
    """Refuse a configuration that does not fit the pipeline.

    Raises:
        AccelerationError: the scheduler cannot be run in stages, or has no shift; a stage's size does not fit; the
            model's positions cannot be resized.
    """
    scheduler = pipeline.scheduler
    check_scheduler(scheduler, AccelerationError)
    shifts = [stage.shift for stage in config.stages if stage.shift is not None]
    if shifts and not has_shift(scheduler):
        raise AccelerationError(
            f"A stage was given shift={shifts[0]}, but {type(scheduler).__name__} as it is configured has no timestep "
            "shift; leave shift out."
        )
    config.plan(1, family.cell(pipeline)[:2])
    if len(config.stages) > 1 and getattr(
        family.denoiser_of(pipeline).config, "use_learned_positional_embeddings", False
    ):
        raise AccelerationError(
            "This model has learned positions, which belong to one size; leave the sampling config out."
        )


def is_bottlenecked(denoiser: torch.nn.Module) -> bool:
    """Whether Bottleneck Sampling is applied to `denoiser`."""
    return _BOTTLENECK_HOOK in getattr(getattr(denoiser, "_diffusers_hook", None), "hooks", {})

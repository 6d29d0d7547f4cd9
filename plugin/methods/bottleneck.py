"""Bottleneck Sampling: high, low, high resolution inside one call of an unchanged pipeline.

Tian et al., "Training-free Diffusion Acceleration with Bottleneck Sampling", 2025, arXiv 2503.18940.
"""

import inspect
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, NoReturn

import torch
from diffusers.hooks import ModelHook
from torch import Tensor

from hasten.pipelines.bottleneck import (
    BottleneckRun,
    Interpolation,
    bottleneck_scheduler,
    check_scheduler,
    has_shift,
    resize,
)

from ..errors import AccelerationError
from ..families import Family, TokenGrid, UnknownTokensError
from ..report import RunLog
from ..state import Latents, attach_hook
from .bottleneck_bar import fit_progress_bar
from .bottleneck_config import BottleneckConfig
from .bottleneck_inputs import Shrinking
from .bottleneck_plan import stage_notices, stage_tokens

_BOTTLENECK_HOOK = "hasten_bottleneck"


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
        self._shrinking: Shrinking | None = None
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
        if self._run.step == 0:
            self._begin_stage(full)
        rows, columns = self._run.stage.grid((height, width))
        if (rows, columns) == (height, width):
            return args, kwargs
        self._shrinking = self._shrink_to((height, width), (rows, columns))
        fixed = self._family.resized(self._pipeline(), bound.arguments, full, TokenGrid(rows, columns, full.frames))
        timestep, held = bound.arguments.get("timestep"), None
        if isinstance(timestep, Tensor) and timestep.ndim == 2:  # one for each token; 0 is that of a given first frame
            fixed["timestep"], held = self._shrinking.tokens(timestep), timestep == 0
        shrink = partial(self._shrinking.latents, held=held)
        bound.arguments.update({**fixed, name: _each(shrink, bound.arguments[name])})
        return bound.args[1:], bound.kwargs

    @torch.compiler.disable
    def post_forward(self, module: torch.nn.Module, output: Any) -> Any:
        """Put a prediction of lower resolution into a container."""
        if self._logs_steps:
            self._log.end_step(0, self._device)
        if self._shrinking is None:
            return output
        if isinstance(output, tuple):
            return (_each(self._shrinking.expand, output[0]), *output[1:])
        output.sample = _each(self._shrinking.expand, output.sample)
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

    def _begin_stage(self, full: TokenGrid) -> None:
        """Refuse stages, of later steps too, that are larger than the picture; tell what the running one needs told."""
        for stage in self._run.stages:
            stage_tokens(stage, (full.height, full.width))
        for notice in stage_notices(self._pipeline(), self._family, self._run, self._run.index, full):
            self._log.fall_back(f"stage {self._run.index + 1}", notice)

    def _shrink_to(self, full: tuple[int, int], small: tuple[int, int]) -> Shrinking:
        family = self._family
        config = family.denoiser_of(self._pipeline()).config
        channels = None if family.condition_axis is None else config.out_channels or config.in_channels
        return Shrinking(full, small, family.patch, channels, family.condition_axis)


def _each(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    return [function(item) for item in value] if isinstance(value, list) else function(value)


def _resize_pixels(
    pipeline: Any, family: Family, interpolation: Interpolation
) -> Callable[[Tensor, tuple[int, int]], Tensor]:
    """A resize of clean latents that decodes them, resizes the pixels, and encodes these."""
    owner: Callable[[], Any] = weakref.ref(pipeline)
    autoencoder = family.autoencoder
    assert autoencoder is not None

    def resize_pixels(latents: Tensor, size: tuple[int, int]) -> Tensor:
        vae = owner().vae
        pixels = autoencoder.decode(vae, latents)
        height, width = (
            side // old * new for side, old, new in zip(pixels.shape[-2:], latents.shape[-2:], size, strict=True)
        )
        return autoencoder.encode(vae, resize(pixels, (height, width), interpolation)).to(latents.dtype)

    return resize_pixels


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
        and the progress bar back.
    """
    base, cell = pipeline.scheduler, family.cell(pipeline)
    run = BottleneckRun(
        plan=lambda steps: config.plan(steps, cell[:2]),
        transition=config.transition,
        interpolation=config.interpolation,
        resize=_resize_pixels(pipeline, family, config.interpolation) if config.space == "pixels" else None,
        patch=family.patch,
        mu=family.mu,
        error=AccelerationError,
    )
    scheduler, restore_bar = bottleneck_scheduler(base, run), fit_progress_bar(pipeline, run)

    def restore() -> None:
        restore_bar()
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
    return attach, restore


def check_bottleneck(pipeline: Any, family: Family, config: BottleneckConfig) -> None:
    """Refuse a configuration that does not fit the pipeline.

    Raises:
        AccelerationError: the scheduler cannot be run in stages, or has no shift; a stage's size does not fit; the
            model's positions cannot be resized; there is no VAE for pixels.
    """
    scheduler, cell = pipeline.scheduler, family.cell(pipeline)
    check_scheduler(scheduler, AccelerationError)
    shifts = [stage.shift for stage in config.stages if stage.shift is not None]
    if shifts and not has_shift(scheduler):
        raise AccelerationError(
            f"A stage was given shift={shifts[0]}, but {type(scheduler).__name__} as it is configured has no timestep "
            "shift; leave shift out."
        )
    config.plan(1, cell[:2])
    follows_tokens = scheduler.config.get("use_dynamic_shifting")
    if follows_tokens and cell.frames is not None and any(stage.height for stage in config.stages):
        raise AccelerationError(
            "A stage was given a height and a width, but this model's timestep shift follows the tokens of all frames; "
            "give the stage a scale."
        )
    if len(config.stages) > 1 and getattr(
        family.denoiser_of(pipeline).config, "use_learned_positional_embeddings", False
    ):
        raise AccelerationError(
            "This model has learned positions, which belong to one size; leave the sampling config out."
        )
    if config.space == "pixels" and (family.autoencoder is None or getattr(pipeline, "vae", None) is None):
        raise AccelerationError(
            f"space='pixels' was given, but this {type(pipeline).__name__} has no VAE that hasten can call; "
            "leave space at 'latents'."
        )


def is_bottlenecked(denoiser: torch.nn.Module) -> bool:
    """Whether Bottleneck Sampling is applied to `denoiser`."""
    return _BOTTLENECK_HOOK in getattr(getattr(denoiser, "_diffusers_hook", None), "hooks", {})

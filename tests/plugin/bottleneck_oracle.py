"""A call in stages, as stock calls at the sizes of the stages with the resizes and the noise between them."""

import contextlib
import copy
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import FlowMapEulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule
from tiny_pipeline import TinyPipeline, generate
from torch import Tensor

from hasten import BottleneckConfig, BottleneckStage
from hasten.pipelines.bottleneck import BottleneckRun

FLOW_EULER = (FlowMatchEulerDiscreteScheduler, FlowMapEulerDiscreteScheduler)
THREE_STAGES = (
    BottleneckStage(steps=2),
    BottleneckStage(steps=3, scale=0.5, start=0.9),
    BottleneckStage(steps=2, start=0.7),
)
"""What most tests run: seven steps, of which the middle ones at half the sides."""
STEPS = 6
"""`num_inference_steps` of the accelerated call, as `generate` has it."""


class Ended(NamedTuple):
    """Where a stage ended: its clean picture (..., height, width), and the noise in its last state."""

    x0: Tensor
    noise: Tensor


class Draws:
    """White noise, a new one at each call; two of these draw the same."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, like: Tensor) -> Tensor:
        self.count += 1
        return torch.randn(like.shape, generator=torch.Generator().manual_seed(self.count), dtype=like.dtype)


Cross = Callable[[Ended, float, Any, Draws], Tensor]
"""The noisy state at the start of a stage: from the end of the one before, the ratio of the sides, and the stock
scheduler of the stage."""


def resized(x: Tensor, ratio: float, mode: str = "area", **options: Any) -> Tensor:
    """`x` (..., height, width) as `F.interpolate` resizes it."""
    flat = F.interpolate(x.flatten(0, -3)[:, None], scale_factor=ratio, mode=mode, **options)
    return flat.view(*x.shape[:-2], *flat.shape[-2:])


def fresh(ended: Ended, ratio: float, scheduler: Any, draw: Draws) -> Tensor:
    """The paper's transition, by area."""
    x0 = resized(ended.x0, ratio)
    return noisy(scheduler, x0, draw(x0))


def noisy(scheduler: Any, x0: Tensor, noise: Tensor) -> Tensor:
    """Diffusers' own forward process at the first timestep, but for flow matching, whose own is wrong when inverted."""
    if not isinstance(scheduler, FLOW_EULER):
        return scheduler.add_noise(x0, noise, scheduler.timesteps[:1].expand(len(x0)))
    signal, share = signal_and_noise(scheduler, 0)
    return signal * x0 + share * noise


def signal_and_noise(scheduler: Any, step: int) -> tuple[float, float]:
    """Weights of the clean picture and of the noise in the state before `step`: flow matching, or by ᾱ."""
    if isinstance(scheduler, FLOW_EULER):
        sigma = float(scheduler.sigmas[step])
        return (sigma, 1 - sigma) if scheduler.config.get("invert_sigmas") else (1 - sigma, sigma)
    clean = float(scheduler.alphas_cumprod[int(scheduler.timesteps[step])])
    return clean**0.5, (1 - clean) ** 0.5


def compare_to_stock_stages(
    tiny: TinyPipeline,
    pipeline: Any,
    config: BottleneckConfig,
    monkeypatch: pytest.MonkeyPatch,
    cross: Cross = fresh,
) -> None:
    """Hold an accelerated call of two prompts to stock calls at the sizes of the stages, with `cross` between them."""
    full = tiny.sizes[1]
    base = copy.deepcopy(pipeline.scheduler)
    results: list[Tensor] = []
    draw, draw_again = Draws(), Draws()
    monkeypatch.setattr(BottleneckRun, "fresh_noise", lambda self, like: draw(like))
    pipeline.enable_acceleration(sampling=config)
    generate(tiny, pipeline, batch=2, height=full[0], width=full[1], **remember_latents(tiny, results))
    pipeline.disable_acceleration()
    stock = StockCalls(tiny, pipeline, base, full)
    latents = size = ended = None
    for stage in config.stages:
        before, size = size, (int(full[0] * stage.scale), int(full[1] * stage.scale))
        scheduler = stock.scheduler(stage, size)
        if ended is not None:
            state = cross(ended, size[0] / before[0], scheduler, draw_again)
            latents = packed_like(state, latents, tiny, size)
        states, clean = stock.run(scheduler, size, latents)
        latents = states[-1]
        ended = _ended(*(unpacked(x, tiny, size) for x in (states[-2], clean)), scheduler)
    result = results[-1]
    if result.ndim != latents.ndim:  # the first frame is given, and no part of what the scheduler steps through
        result = unpacked(result, tiny, full)[:, :, 1:]
    torch.testing.assert_close(result, latents, atol=1e-4, rtol=1e-4)


def _ended(last: Tensor, x0: Tensor, scheduler: Any) -> Ended:
    if not isinstance(scheduler, FLOW_EULER) and not hasattr(scheduler, "final_alpha_cumprod"):
        return Ended(x0, torch.full_like(x0, torch.nan))  # of a solver, for the fresh transition alone
    signal, noise = signal_and_noise(scheduler, len(scheduler.timesteps) - 1)
    return Ended(x0, (last - signal * x0) / noise)


def patch_and_pixels(tiny: TinyPipeline) -> tuple[int, int]:
    """Sides of a packed token in latents and in pixels."""
    if tiny.family == "ltx":
        return 1, 16 if tiny.first_frames else 32
    return 2, 16


def unpacked(x: Tensor, tiny: TinyPipeline, size: tuple[int, int]) -> Tensor:
    """Latents with rows and columns as the last two dimensions; those that are packed with channels, then frames."""
    if x.ndim > 3:
        return x
    patch, pixels = patch_and_pixels(tiny)
    height, width = size[0] // pixels, size[1] // pixels
    batch, tokens, channels = x.shape
    squares = x.view(batch, tokens // (height * width), height, width, channels // patch**2, patch, patch)
    return torch.einsum("bfhwcpq->bcfhpwq", squares).flatten(5).flatten(3, 4)


def packed_like(x: Tensor, like: Tensor, tiny: TinyPipeline, size: tuple[int, int]) -> Tensor:
    if like.ndim > 3:
        return x
    patch, pixels = patch_and_pixels(tiny)
    height, width = size[0] // pixels, size[1] // pixels
    squares = x.view(len(x), like.shape[2] // patch**2, -1, height, patch, width, patch)
    return torch.einsum("bcfhpwq->bfhwcpq", squares).flatten(4).flatten(1, 3)


class _KnownError(Exception):
    """The timesteps are known, and nothing else was wanted."""


class StockCalls:
    """Calls of a stock pipeline at the sizes of stages; what they are conditioned on is that of the full size."""

    def __init__(self, tiny: TinyPipeline, pipeline: Any, base: Any, full: tuple[int, int]) -> None:
        self._tiny, self._pipeline, self._base, self._full = tiny, pipeline, base, full
        given = tiny.arguments(batch=2, height=full[0], width=full[1])
        self._pictures = {name: given[name] for name in ("image", "control_image") if name in given}
        self._condition: Tensor | None = None

    def scheduler(self, stage: BottleneckStage, size: tuple[int, int]) -> Any:
        """A stock scheduler with the timesteps of a stage, set as the pipeline sets them at its size."""
        scheduler, count = copy.deepcopy(self._base), stage.count(STEPS)
        run_steps = max(count, round(count / (stage.start - stage.end)))

        def set_timesteps(self: Any, *args: Any, **kwargs: Any) -> None:
            super(kind, self).set_timesteps(*args, **kwargs)
            cut_to_stage(self, stage, count, run_steps, kwargs)
            raise _KnownError

        kind = _derived(scheduler, set_timesteps=set_timesteps)
        with contextlib.suppress(_KnownError):
            self._call(scheduler, size, None, run_steps)
        scheduler.__class__ = type(self._base)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(0)
        return scheduler

    def run(self, scheduler: Any, size: tuple[int, int], latents: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """The pipeline at a size, from given latents, through the timesteps of `scheduler`.

        Returns:
            `tuple[list[Tensor], Tensor]`: the states after each step, and the clean picture predicted by the last one.
        """
        states: list[Tensor] = []
        clean: list[Tensor] = []

        def keep_timesteps(self: Any, *args: Any, **kwargs: Any) -> None:
            pass

        def step(self: Any, *args: Any, **kwargs: Any) -> Any:
            output = super(kind, self).step(*args, **kwargs)
            states.append(output[0])
            clean.append(output[-1])  # the state itself, or what some schedulers return beside it
            return output

        kind = _derived(scheduler, set_timesteps=keep_timesteps, step=step)
        self._call(scheduler, size, latents, len(scheduler.timesteps))
        return states, clean[-1]

    def _call(self, scheduler: Any, size: tuple[int, int], latents: Tensor | None, steps: int) -> None:
        pipeline, tiny = self._pipeline, self._tiny
        object.__setattr__(pipeline, "scheduler", scheduler)
        stock = type(pipeline).prepare_latents

        @functools.wraps(stock)
        def prepare_latents(*args: Any, **kwargs: Any) -> Any:
            made = stock(pipeline, *args, **kwargs)
            return (
                self._prepared(made, size, latents) if isinstance(made, tuple) else made if latents is None else latents
            )

        pipeline.prepare_latents = prepare_latents
        pictures = {name: self._picture(name, size) for name in self._pictures}
        try:
            generate(tiny, pipeline, batch=2, height=size[0], width=size[1], num_inference_steps=steps, **pictures)
        finally:
            del pipeline.prepare_latents

    def _picture(self, name: str, size: tuple[int, int]) -> Tensor:
        """What a call is given beside its prompts: packed latents at the size of the call, or the picture itself."""
        given = self._pictures[name]
        if given.ndim != 3:
            return given
        whole = unpacked(given, self._tiny, self._full)
        return packed_like(resized(whole, size[0] / self._full[0]), given, self._tiny, size)

    def _prepared(self, made: tuple[Tensor, ...], size: tuple[int, int], latents: Tensor | None) -> tuple[Tensor, ...]:
        """What a pipeline has prepared, with the given latents and what the picture of the full size became."""
        if self._tiny.first_frames is None:
            return made if latents is None else (latents, *made[1:])
        within = made[0].ndim == 3  # the first frame is one of those of the latents
        condition = unpacked(made[0], self._tiny, size)[:, :, :1] if within else made[1]
        if size == self._full:
            self._condition = condition
        elif self._condition is not None:
            condition = resized(self._condition, size[0] / self._full[0])
        if not within:
            return (made[0] if latents is None else latents, condition, *made[2:])
        if latents is None:
            return made
        return (packed_like(torch.cat([condition, latents], 2), made[0], self._tiny, size), *made[1:])


def _derived(scheduler: Any, **methods: Callable[..., Any]) -> type:
    """Give `scheduler` a class of its own with these methods, which pipelines find to be those of its stock class."""
    stock = type(scheduler)
    methods = {name: functools.wraps(getattr(stock, name))(method) for name, method in methods.items()}
    scheduler.__class__ = type(stock.__name__, (stock,), methods)
    return scheduler.__class__


def cut_to_stage(scheduler: Any, stage: BottleneckStage, count: int, run_steps: int, call: dict[str, Any]) -> None:
    """Leave a stage of `count` steps of the timesteps of a run of `run_steps`, which were set by such a `call`."""
    if (stage.start, stage.end, stage.shift) == (1, 0, None):
        return
    config = scheduler.config
    flow = isinstance(scheduler, FLOW_EULER)
    if not flow and not config.get("use_flow_sigmas"):
        first = round(run_steps * (1 - stage.start))
        for name, behind in (("timesteps", 0), ("sigmas", 1)):
            if hasattr(scheduler, name):
                setattr(scheduler, name, getattr(scheduler, name)[first : first + count + behind])
        return
    sigmas = flow_sigmas(stage, count, call, config)
    if not flow:
        sigmas = sigmas.clamp(max=1 - 1e-6)
    levels = 1 - sigmas if config.get("invert_sigmas") else sigmas
    scheduler.timesteps = (1000 * levels).to(scheduler.timesteps.dtype)
    scheduler.sigmas = torch.cat([levels, scheduler.sigmas[-1:]])
    scheduler.num_inference_steps = count


def flow_sigmas(stage: BottleneckStage, count: int, call: dict[str, Any], config: Any) -> Tensor:
    """σ of a stage by the formulas: even steps, or those of Mochi's law, shifted and stretched."""
    steps = torch.arange(count + 1, dtype=torch.float64) / count
    times = stage.start - (stage.start - stage.end) * steps
    if config.get("invert_sigmas"):
        times = along_mochis_law(times)
    shift = stage.shift or (config.get("flow_shift") or config.shift)
    if stage.shift is None and config.get("use_dynamic_shifting"):
        shift = math.exp(call["mu"])
    sigmas = shift * times / (1 + (shift - 1) * times)
    if config.get("shift_terminal"):
        time = (stage.start - stage.end) / count  # before the last step of a run with steps as close together
        last = shift * time / (1 + (shift - 1) * time)
        sigmas = 1 - (1 - sigmas) * (1 - config.shift_terminal) / (1 - last)
    return sigmas[:-1].float()


def along_mochis_law(times: Tensor) -> Tensor:
    """As many times between the first and the last of `times`, evenly many of the pipeline's own for each."""
    law = [*linear_quadratic_schedule(STEPS, 0.025), 0.0]
    first, last = (np.interp(1 - float(times[i]), 1 - np.array(law), np.arange(STEPS + 1)) for i in (0, -1))
    return torch.from_numpy(np.interp(np.linspace(first, last, len(times)), np.arange(STEPS + 1), law))


def remember_latents(tiny: TinyPipeline, results: list[Tensor]) -> dict[str, Any]:
    """Arguments with which a pipeline appends its latents to `results` after every step."""
    if tiny.family == "pixart":
        return {"callback": lambda step, timestep, latents: results.append(latents), "callback_steps": 1}

    def callback(pipeline: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        results.append(values["latents"])
        return {}

    return {"callback_on_step_end": callback}

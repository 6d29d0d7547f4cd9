"""A call in stages, as stock calls at the sizes of the stages with the resizes and the noise between them."""

import copy
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from diffusers import FlowMatchEulerDiscreteScheduler
from tiny_pipelines import TinyPipeline, generate
from torch import Tensor

from hasten import BottleneckConfig
from hasten.pipelines.bottleneck import BottleneckRun


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
    if not isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        return scheduler.add_noise(x0, noise, scheduler.timesteps[:1].expand(len(x0)))
    signal, share = signal_and_noise(scheduler, 0)
    return signal * x0 + share * noise


def signal_and_noise(scheduler: Any, step: int) -> tuple[float, float]:
    """Weights of the clean picture and of the noise in the state before `step`: flow matching, or by ᾱ."""
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        sigma = float(scheduler.sigmas[step])
        return (sigma, 1 - sigma) if scheduler.config.invert_sigmas else (1 - sigma, sigma)
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
    draw = Draws()
    monkeypatch.setattr(BottleneckRun, "fresh_noise", lambda self, like: draw(like))
    pipeline.enable_acceleration(sampling=config)
    run = pipeline.scheduler.bottleneck
    generate(tiny, pipeline, batch=2, height=full[0], width=full[1], **remember_latents(tiny, results))
    accelerated = run.schedulers
    pipeline.disable_acceleration()
    latents = size = ended = None
    draw_again = Draws()
    for stage, one in zip(config.stages, accelerated, strict=True):
        scheduler = stage_scheduler(base, one)
        before, size = size, (int(full[0] * stage.scale), int(full[1] * stage.scale))
        if ended is not None:
            state = cross(ended, size[0] / before[0], scheduler, draw_again)
            latents = packed_like(state, latents, tiny, size)
        states, clean = run_stock(tiny, pipeline, scheduler, size, latents)
        latents = states[-1]
        ended = _ended(*(unpacked(x, tiny, size) for x in (states[-2], clean)), scheduler)
    torch.testing.assert_close(results[-1], latents, atol=1e-4, rtol=1e-4)


def _ended(last: Tensor, x0: Tensor, scheduler: Any) -> Ended:
    if not isinstance(scheduler, FlowMatchEulerDiscreteScheduler) and not hasattr(scheduler, "final_alpha_cumprod"):
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


def run_stock(
    tiny: TinyPipeline, pipeline: Any, scheduler: Any, size: tuple[int, int], latents: Tensor | None
) -> tuple[list[Tensor], Tensor]:
    """The stock pipeline at a size, from given latents, through the timesteps of `scheduler`.

    Returns:
        `tuple[list[Tensor], Tensor]`: the states after each step, and the clean picture predicted by the last one.
    """
    states: list[Tensor] = []
    clean: list[Tensor] = []

    @functools.wraps(type(scheduler).set_timesteps)
    def keep_timesteps(self: Any, *args: Any, **kwargs: Any) -> None:
        pass

    @functools.wraps(type(scheduler).step)
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = super(kind, self).step(*args, **kwargs)
        states.append(output[0])
        clean.append(output[-1])  # the state itself, or what some schedulers return beside it
        return output

    kind = type(type(scheduler).__name__, (type(scheduler),), {"set_timesteps": keep_timesteps, "step": step})
    scheduler.__class__ = kind
    object.__setattr__(pipeline, "scheduler", scheduler)
    stock = type(pipeline).prepare_latents

    @functools.wraps(stock)
    def prepare_latents(*args: Any, **kwargs: Any) -> Any:
        made = stock(pipeline, *args, **kwargs)
        if latents is None:
            return made
        return (latents, *made[1:]) if isinstance(made, tuple) else latents

    pipeline.prepare_latents = prepare_latents
    try:
        generate(tiny, pipeline, batch=2, height=size[0], width=size[1])
    finally:
        del pipeline.prepare_latents
    return states, clean[-1]


def stage_scheduler(base: Any, accelerated: Any) -> Any:
    """A stock scheduler with the timesteps of an accelerated stage, and no history."""
    scheduler = copy.deepcopy(base)
    for name in ("timesteps", "sigmas", "num_inference_steps"):
        if hasattr(accelerated, name):
            setattr(scheduler, name, getattr(accelerated, name))
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    scheduler._step_index = None
    return scheduler


def remember_latents(tiny: TinyPipeline, results: list[Tensor]) -> dict[str, Any]:
    """Arguments with which a pipeline appends its latents to `results` after every step."""
    if tiny.family == "pixart":
        return {"callback": lambda step, timestep, latents: results.append(latents), "callback_steps": 1}

    def callback(pipeline: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        results.append(values["latents"])
        return {}

    return {"callback_on_step_end": callback}

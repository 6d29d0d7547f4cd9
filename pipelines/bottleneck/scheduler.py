"""A scheduler that runs stages of different resolution, and that pipelines take for the one they have.

The latents that the pipeline sees keep their shape: a stage of lower resolution lives in a `Container`. Each stage has
a copy of the stock scheduler, so no solver history crosses a change of resolution. Its last step predicts the clean
picture, which is resized and given noise again, of the level at which the next stage starts.
"""

import copy
import functools
import inspect
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from diffusers.schedulers.scheduling_utils import SchedulerOutput
from torch import Tensor

from .noise import NoiseLevel, Prediction, predict_noise, predict_x0, renoise
from .resize import Container, Interpolation, pack, resize, unpack
from .schedule import Stage, shift_of_mu, stage_sigmas
from .transitions import carry_noise

Transition = Literal["fresh", "correlated"]
"""Noise at a change of resolution: the paper's fresh one, or what was there, with fresh high frequencies."""

_SOLVERS = (UniPCMultistepScheduler, DPMSolverMultistepScheduler)
_BY_ALPHAS = (CogVideoXDDIMScheduler, CogVideoXDPMScheduler, DDIMScheduler, DDPMScheduler)
_SUPPORTED = (FlowMatchEulerDiscreteScheduler, *_SOLVERS, *_BY_ALPHAS, EulerDiscreteScheduler)
_PREDICTIONS: dict[str, Prediction] = {
    "epsilon": "epsilon",
    "v_prediction": "v",
    "flow_prediction": "flow",
    "sample": "sample",
}
_ALMOST_ONE = 1 - 1e-6  # solvers take the logarithm of 1 - σ


@dataclass
class BottleneckRun:
    """
    What a bottleneck scheduler does, and where it is in a run.

    Args:
        plan (`Callable[[int], Sequence[Stage]]`):
            The stages of a call with that many `num_inference_steps`.
        transition, interpolation:
            What happens to the noise, and how the clean picture is resized, when the resolution changes.
        patch (`int`):
            Side of the square of latents in a packed token.
        dynamic_shift (`bool`):
            Whether the pipeline's `mu` is linear in the number of tokens, and so follows the stage's.
        error (`type[ValueError]`):
            What is raised on a call that cannot be served.
        grid (`tuple[int, int]`, *optional*):
            Rows and columns of tokens at full resolution; has to be set before the first stage ends.
        on_transition (`Callable[[Tensor, Tensor], None]`, *optional*):
            Shown the clean picture before and after each resize.
        on_begin (`Callable[[], None]`, *optional*):
            Told of every run.
    """

    plan: Callable[[int], Sequence[Stage]]
    transition: Transition = "fresh"
    interpolation: Interpolation = "lanczos"
    patch: int = 2
    dynamic_shift: bool = True
    error: type[ValueError] = ValueError
    grid: tuple[int, int] | None = None
    on_transition: Callable[[Tensor, Tensor], None] | None = None
    on_begin: Callable[[], None] | None = None
    stages: Sequence[Stage] = ()
    schedulers: list[Any] = field(default_factory=list)
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
    def overall_step(self) -> int:
        """Index of the next step in the whole run."""
        return self.step + sum(stage.steps for stage in self.stages[: self.index])

    def begin(self, schedulers: list[Any]) -> None:
        """A run begins."""
        self.schedulers, self.index, self.step, self.generators = schedulers, 0, 0, []
        if self.on_begin:
            self.on_begin()

    def fresh_noise(self, like: Tensor) -> Tensor:
        """White noise, each row of the batch from its own generator."""
        rows = [torch.randn(like.shape[1:], generator=generator, dtype=like.dtype) for generator in self.generators]
        return torch.stack(rows).to(like.device)

    def seed(self, sample: Tensor) -> None:
        """Seed the noise of a run by the latents that it begins with, which the user's generator has made."""
        for row in sample.flatten(1)[:, :256].float().cpu():
            self.generators.append(torch.Generator().manual_seed(zlib.crc32(row.numpy().tobytes())))


def check_scheduler(scheduler: Any, error: type[ValueError] = ValueError) -> None:
    """Refuse a scheduler that cannot be run in stages.

    Raises:
        ValueError: or `error`: the scheduler is of an unknown kind, or calls the denoiser more than once in a step.
    """
    if not isinstance(scheduler, _SUPPORTED) or scheduler.order != 1:
        names = ", ".join(kind.__name__ for kind in _SUPPORTED)
        raise error(f"{type(scheduler).__name__} cannot be run in stages; give the pipeline one of {names}.")


def bottleneck_scheduler(base: Any, run: BottleneckRun) -> Any:
    """A scheduler of the class of `base` (in name, too) that runs the stages of `run`; `base` is left alone.

    Raises:
        ValueError: or `run.error`: see `check_scheduler`.
    """
    check_scheduler(base, run.error)
    stock: Any = type(base)
    scheduler: Any = object.__new__(_bottleneck_class(stock))
    vars(scheduler).update({name: value for name, value in vars(base).items() if name not in _observed(base)})
    scheduler.bottleneck = run
    scheduler.bottleneck_base = base
    return scheduler


def _observed(scheduler: Any) -> set[str]:
    """Methods that someone has put on the instance, which are bound to it."""
    return {name for name, value in vars(scheduler).items() if inspect.ismethod(value)}


@functools.lru_cache(maxsize=32)
def _bottleneck_class(stock: Any) -> type:
    """`stock` with the methods that pipelines call run in stages. Pipelines look at the class and at signatures."""
    signatures = {name: inspect.signature(getattr(stock, name)) for name in ("set_timesteps", "step")}

    @functools.wraps(stock.set_timesteps)
    def set_timesteps(self: Any, *args: Any, **kwargs: Any) -> None:
        call = dict(signatures["set_timesteps"].bind(self, *args, **kwargs).arguments)
        call.pop("self")
        _begin(self, call)

    @functools.wraps(stock.step)
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = dict(signatures["step"].bind(self, *args, **kwargs).arguments)
        call.pop("self")
        return_dict = call.get("return_dict", signatures["step"].parameters["return_dict"].default)
        return _step(self.bottleneck, call, return_dict)

    def scale_model_input(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        return self.bottleneck.scheduler.scale_model_input(*args, **kwargs)

    def set_begin_index(self: Any, begin_index: int = 0) -> None:
        if begin_index:
            raise self.bottleneck.error(_PARTIAL)

    def init_noise_sigma(self: Any) -> float:
        stages = self.bottleneck.schedulers
        return stages[0].init_noise_sigma if stages else self.bottleneck_base.init_noise_sigma

    methods: dict[str, Any] = {"set_timesteps": set_timesteps, "step": step}
    if isinstance(getattr(stock, "init_noise_sigma", None), property):
        methods["init_noise_sigma"] = property(init_noise_sigma)
    for method in (scale_model_input, set_begin_index):
        if hasattr(stock, method.__name__):
            methods[method.__name__] = method
    names = {"__module__": stock.__module__, "__qualname__": stock.__qualname__, "__doc__": stock.__doc__}
    return type(stock.__name__, (stock,), {**names, **methods})


_PARTIAL = (
    "Bottleneck sampling runs whole schedules, and this call runs a part of one; leave out strength, denoising_start "
    "and denoising_end, or the sampling config."
)


def _begin(scheduler: Any, call: dict[str, Any]) -> None:
    """Set up the stages of a run, and show their timesteps and σ as one schedule."""
    run, base = scheduler.bottleneck, scheduler.bottleneck_base
    given = [call[name] for name in ("sigmas", "timesteps") if call.get(name) is not None]
    steps = len(given[0]) if given else call["num_inference_steps"]
    run.stages = run.plan(steps)
    if call.get("timesteps") is not None and len(run.stages) > 1:
        raise run.error("Bottleneck sampling makes its own timesteps; leave timesteps out, or the sampling config.")
    run.begin([_stage_scheduler(base, stage, call, steps, run) for stage in run.stages])
    first = run.schedulers[0]
    vars(scheduler).update({name: value for name, value in vars(first).items() if name not in _observed(first)})
    scheduler.timesteps = torch.cat([stage.timesteps for stage in run.schedulers])
    if hasattr(first, "sigmas"):
        levels = [one.sigmas[: len(one.timesteps)] for one in run.schedulers]
        scheduler.sigmas = torch.cat([*levels, run.schedulers[-1].sigmas[-1:]])


def _stage_scheduler(base: Any, stage: Stage, call: dict[str, Any], steps: int, run: BottleneckRun) -> Any:
    """A copy of `base` with the timesteps of one stage."""
    scheduler = copy.deepcopy(base)
    law, call = call.get("sigmas"), dict(call)
    if stage.steps != steps and law is not None:
        call["sigmas"] = stage_sigmas(Stage(stage.steps), 1.0, law)
    if call.get("num_inference_steps") is not None:
        call["num_inference_steps"] = stage.steps
    if call.get("mu") is not None and run.dynamic_shift:
        call["mu"] = _stage_mu(scheduler.config, call["mu"], stage.scale**2)
    if stage.follows_scheduler:
        scheduler.set_timesteps(**call)
    elif has_shift(scheduler):
        scheduler.set_timesteps(**call)
        _set_sigmas(scheduler, stage_sigmas(stage, _own_shift(scheduler, call.get("mu")), law))
    else:
        _set_window(scheduler, stage, call)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    return scheduler


def has_shift(scheduler: Any) -> bool:
    """Whether the levels of a stage can be shifted: flow matching, without a law of σ of its own."""
    config = scheduler.config
    others = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
    if any(config.get(name) for name in others):
        return False
    return isinstance(scheduler, FlowMatchEulerDiscreteScheduler) or bool(config.get("use_flow_sigmas"))


def mu_of_tokens(config: Any, tokens: float) -> float:
    """Dynamic `mu` by the line over the number of tokens that pipelines draw through the scheduler's config."""
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
    return config.base_shift + slope * (tokens - config.base_image_seq_len)


def _stage_mu(config: Any, mu: float, tokens_share: float) -> float:
    """`mu` of a share of the tokens that a call's `mu` stands for."""
    nothing = mu_of_tokens(config, 0)
    return nothing + (mu - nothing) * tokens_share


def _own_shift(scheduler: Any, mu: float | None) -> float:
    if mu is not None and scheduler.config.get("use_dynamic_shifting"):
        return shift_of_mu(mu, scheduler.config.get("time_shift_type", "exponential"))
    return scheduler.config.flow_shift if isinstance(scheduler, _SOLVERS) else scheduler.shift


def _set_sigmas(scheduler: Any, levels: Any) -> None:
    """Have a flow-matching scheduler step through `levels`, then to the clean picture."""
    sigmas = torch.from_numpy(levels).to(scheduler.sigmas.device, torch.float32)
    trained = scheduler.config.num_train_timesteps
    if isinstance(scheduler, _SOLVERS):
        sigmas = sigmas.clamp(max=_ALMOST_ONE)
        timesteps = (sigmas * trained).long()
    elif scheduler.config.invert_sigmas:
        sigmas = 1 - sigmas
        timesteps = sigmas * trained
    else:
        timesteps = sigmas * trained
    scheduler.timesteps = timesteps.to(scheduler.timesteps.device)
    scheduler.sigmas = torch.cat([sigmas, scheduler.sigmas[-1:]])
    scheduler.num_inference_steps = len(sigmas)


def _set_window(scheduler: Any, stage: Stage, call: dict[str, Any]) -> None:
    """Take the stage's steps out of a longer run of the scheduler, as image-to-image pipelines do."""
    steps = max(stage.steps, round(stage.steps / (stage.start - stage.end)))
    first = min(round(steps * (1 - stage.start)), steps - stage.steps)
    if call.get("sigmas") is not None:
        call = {**call, "sigmas": None}
    scheduler.set_timesteps(**{**call, "num_inference_steps": steps})
    scheduler.timesteps = scheduler.timesteps[first : first + stage.steps]
    if hasattr(scheduler, "sigmas"):
        scheduler.sigmas = scheduler.sigmas[first : first + stage.steps + 1]


def _step(run: BottleneckRun, call: dict[str, Any], return_dict: bool) -> Any:
    """One step of the running stage; its last one leads to the next stage."""
    scheduler = run.scheduler
    several = len(run.stages) > 1
    if run.step == 0 and several:
        if call["timestep"] != scheduler.timesteps[0]:
            raise run.error(_PARTIAL)
        if run.index == 0:
            run.seed(call["sample"])
    if run.step == 0 and run.index and isinstance(scheduler, CogVideoXDPMScheduler):
        call |= {"old_pred_original_sample": None, "timestep_back": None}  # of the previous stage
    if run.step < len(scheduler.timesteps) - 1 or run.index == len(run.stages) - 1:
        output = scheduler.step(**call)
        run.step += 1
        return output
    sample = _next_stage(run, call["model_output"], call["sample"])
    return SchedulerOutput(prev_sample=sample) if return_dict else (sample, sample)


def _next_stage(run: BottleneckRun, output: Tensor, sample: Tensor) -> Tensor:
    """Predict the clean picture, resize it, add noise again; both tensors are containers."""
    full = run.grid
    assert full is not None
    old, new = run.stage.grid(full), run.stages[run.index + 1].grid(full)
    precise = torch.promote_types(sample.dtype, torch.float32)
    latents, prediction = (_take_out(x.to(precise), full, old, run.patch) for x in (sample, output))
    level, kind = noise_level(run.scheduler, run.step)
    before = predict_x0(latents, prediction, level, kind)
    noise = predict_noise(latents, before, level)
    run.index, run.step = run.index + 1, 0
    height, width = (side // a * b for side, a, b in zip(before.shape[-2:], old, new, strict=True))
    after = resize(before, (height, width), run.interpolation)
    if run.on_transition:
        run.on_transition(before, after)
    fresh = run.fresh_noise(after)
    if run.transition == "correlated":
        fresh = carry_noise(noise, fresh)
    latents = renoise(after, fresh, noise_level(run.scheduler, 0)[0])
    return _put_in(latents, full, new, run.patch, sample.ndim).to(sample.dtype)


def _take_out(x: Tensor, full: tuple[int, int], small: tuple[int, int], patch: int) -> Tensor:
    """What is in a container of the latents' shape, as (..., height, width). Packed latents contain whole tokens."""
    if x.ndim == 3:
        tokens = Container(full, small).reduce(unpack(x, full, 1))
        return unpack(pack(tokens, 1), small, patch)
    cell = x.shape[-2] // full[0]
    return Container.of_cells(full, small, cell).reduce(x)


def _put_in(x: Tensor, full: tuple[int, int], small: tuple[int, int], patch: int, dimensions: int) -> Tensor:
    """Undo `_take_out`, for latents of that many dimensions."""
    if dimensions == 3:
        tokens = unpack(pack(x, patch), small, 1)
        return pack(Container(full, small).expand(tokens), 1)
    return Container.of_cells(full, small, x.shape[-2] // small[0]).expand(x)


def noise_level(scheduler: Any, step: int) -> tuple[NoiseLevel, Prediction]:
    """The noise in the state before `step` of a stock scheduler, and what the denoiser predicts there."""
    kind = _PREDICTIONS.get(scheduler.config.get("prediction_type", "flow_prediction"), "epsilon")
    if isinstance(scheduler, _BY_ALPHAS):
        clean = float(scheduler.alphas_cumprod[int(scheduler.timesteps[step])])
        return NoiseLevel(clean**0.5, (1 - clean) ** 0.5), kind
    sigma = scheduler.sigmas[step].double()
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        if scheduler.config.invert_sigmas:
            return NoiseLevel(float(sigma), float(1 - sigma)), "inverted_flow"
        return NoiseLevel(float(1 - sigma), float(sigma)), "flow"
    if isinstance(scheduler, _SOLVERS):
        signal, noise = scheduler._sigma_to_alpha_sigma_t(sigma)
        return NoiseLevel(float(signal), float(noise)), kind
    return NoiseLevel(1.0, float(sigma)), kind

"""A scheduler that runs stages of different resolution, and that pipelines take for the one they have.

The latents that the pipeline sees keep their shape: a stage of lower resolution lives in a `Container`. Each stage has
a copy of the stock scheduler, so no solver history crosses a change of resolution. From its last step `next_stage`
makes the state of the next stage.
"""

import functools
import inspect
from typing import Any

import torch
from diffusers import CogVideoXDPMScheduler
from diffusers.schedulers.scheduling_utils import SchedulerOutput
from torch import Tensor

from .boundary import next_stage
from .run import BottleneckRun
from .stages import check_scheduler, stage_scheduler


def bottleneck_scheduler(base: Any, run: BottleneckRun) -> Any:
    """A scheduler of the class of `base` (in name, too) that runs the stages of `run`; `base` is left alone.

    Raises:
        ValueError: or `run.error`: see `check_scheduler`.
    """
    check_scheduler(base, run.error)
    stock: Any = type(base)
    scheduler: Any = object.__new__(_bottleneck_class(stock))
    vars(scheduler).update({name: value for name, value in vars(base).items() if name not in _bound_methods(base)})
    scheduler.bottleneck = run
    scheduler.bottleneck_base = base
    return scheduler


def _bound_methods(scheduler: Any) -> set[str]:
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

    def scale_noise(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        run = self.bottleneck
        if run.overall_step and len(run.stages) > 1:
            raise run.error(_MIXED)
        return stock.scale_noise(self, *args, **kwargs)

    methods: dict[str, Any] = {"set_timesteps": set_timesteps, "step": step}
    if isinstance(getattr(stock, "init_noise_sigma", None), property):
        methods["init_noise_sigma"] = property(init_noise_sigma)
    for method in (scale_model_input, set_begin_index, scale_noise):
        if hasattr(stock, method.__name__):
            methods[method.__name__] = method
    names = {"__module__": stock.__module__, "__qualname__": stock.__qualname__, "__doc__": stock.__doc__}
    return type(stock.__name__, (stock,), {**names, **methods})


_PARTIAL = (
    "Bottleneck sampling runs whole schedules, and this call runs a part of one; leave out strength, denoising_start "
    "and denoising_end, or the sampling config."
)

_MIXED = (
    "Bottleneck sampling resizes the picture on its way, and this pipeline mixes another one into it after each step; "
    "leave the sampling config out."
)


def _begin(scheduler: Any, call: dict[str, Any]) -> None:
    """Set up the stages of a run, and show their timesteps and σ as one schedule."""
    run, base = scheduler.bottleneck, scheduler.bottleneck_base
    given = [call[name] for name in ("sigmas", "timesteps") if call.get(name) is not None]
    steps = len(given[0]) if given else call["num_inference_steps"]
    run.stages = run.plan(steps)
    if call.get("timesteps") is not None and len(run.stages) > 1:
        raise run.error("Bottleneck sampling makes its own timesteps; leave timesteps out, or the sampling config.")
    made = [stage_scheduler(base, stage, call, steps, run.mu) for stage in run.stages]
    run.begin([one for one, _ in made], [end for _, end in made])
    first = run.schedulers[0]
    vars(scheduler).update({name: value for name, value in vars(first).items() if name not in _bound_methods(first)})
    scheduler.timesteps = torch.cat([stage.timesteps for stage in run.schedulers])
    if hasattr(first, "sigmas"):
        levels = [one.sigmas[: len(one.timesteps)] for one in run.schedulers]
        scheduler.sigmas = torch.cat([*levels, run.schedulers[-1].sigmas[-1:]])


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
    sample = next_stage(run, call["model_output"], call["sample"])
    return SchedulerOutput(prev_sample=sample) if return_dict else (sample, sample)

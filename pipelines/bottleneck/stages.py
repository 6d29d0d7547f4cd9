"""The stock schedulers of stages: which kinds can be run in stages, their timesteps, and their noise levels."""

import copy
from typing import Any

import numpy as np
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMapEulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from .dynamic_shift import MuLaw, stage_mu
from .noise import NoiseLevel, Prediction
from .schedule import Stage, shift_of_mu, stage_sigmas

_FLOW_EULER = (FlowMatchEulerDiscreteScheduler, FlowMapEulerDiscreteScheduler)
_SOLVERS = (UniPCMultistepScheduler, DPMSolverMultistepScheduler)
_BY_ALPHAS = (CogVideoXDDIMScheduler, CogVideoXDPMScheduler, DDIMScheduler, DDPMScheduler)
_SUPPORTED = (*_FLOW_EULER, *_SOLVERS, *_BY_ALPHAS, EulerDiscreteScheduler)
_PREDICTIONS: dict[str, Prediction] = {
    "epsilon": "epsilon",
    "v_prediction": "v",
    "flow_prediction": "flow",
    "sample": "sample",
}
_ALMOST_ONE = 1 - 1e-6  # solvers take the logarithm of 1 - σ


def check_scheduler(scheduler: Any, error: type[ValueError] = ValueError) -> None:
    """Refuse a scheduler that cannot be run in stages.

    Raises:
        ValueError: or `error`: the scheduler is of an unknown kind, or calls the denoiser more than once in a step.
    """
    if not isinstance(scheduler, _SUPPORTED) or scheduler.order != 1:
        names = ", ".join(kind.__name__ for kind in _SUPPORTED)
        raise error(f"{type(scheduler).__name__} cannot be run in stages; give the pipeline one of {names}.")


def has_shift(scheduler: Any) -> bool:
    """Whether the levels of a stage can be shifted: flow matching, without a law of σ of its own."""
    config = scheduler.config
    others = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
    if any(config.get(name) for name in others):
        return False
    return isinstance(scheduler, _FLOW_EULER) or bool(config.get("use_flow_sigmas"))


def noise_level(scheduler: Any, step: int) -> tuple[NoiseLevel, Prediction]:
    """The noise in the state before `step` of a stock scheduler, and what the denoiser predicts there."""
    kind = _PREDICTIONS.get(scheduler.config.get("prediction_type", "flow_prediction"), "epsilon")
    if isinstance(scheduler, _BY_ALPHAS):
        clean = float(scheduler.alphas_cumprod[int(scheduler.timesteps[step])])
        return NoiseLevel(clean**0.5, (1 - clean) ** 0.5), kind
    sigma = scheduler.sigmas[step].double()
    if isinstance(scheduler, _FLOW_EULER):
        if scheduler.config.get("invert_sigmas"):
            return NoiseLevel(float(sigma), float(1 - sigma)), "inverted_flow"
        return NoiseLevel(float(1 - sigma), float(sigma)), "flow"
    if isinstance(scheduler, _SOLVERS):
        signal, noise = scheduler._sigma_to_alpha_sigma_t(sigma)
        return NoiseLevel(float(signal), float(noise)), kind
    return NoiseLevel(1.0, float(sigma)), kind


def stage_scheduler(base: Any, stage: Stage, call: dict[str, Any], steps: int, mu: MuLaw) -> tuple[Any, float]:
    """A copy of `base` that has only the timesteps of one stage, and the share of noise at the end of the stage.

    Args:
        base: The stock scheduler.
        stage: The stage.
        call: Arguments of the pipeline's call of `set_timesteps`.
        steps: `num_inference_steps` of that call.
        mu: How the pipeline finds its `mu`.
    """
    scheduler = copy.deepcopy(base)
    if call.get("mu") is not None:
        call = {**call, "mu": stage_mu(mu, scheduler.config, call["mu"], stage, steps)}
    end = 0.0
    if _follows_scheduler(scheduler, stage, steps):
        scheduler.set_timesteps(**_with_steps(call, stage.steps))
    elif has_shift(scheduler):
        scheduler.set_timesteps(**call)
        shift, terminal = _own_shift(scheduler, call.get("mu")), scheduler.config.get("shift_terminal")
        *levels, end = stage_sigmas(stage, shift, call.get("sigmas"), terminal)
        _set_sigmas(scheduler, np.array(levels))
    else:
        end = _set_window(scheduler, stage, call)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    return scheduler, end


def _follows_scheduler(scheduler: Any, stage: Stage, steps: int) -> bool:
    """Whether the scheduler makes the levels itself; a single one, of several steps, it cannot stretch."""
    single = stage.steps == 1 < steps
    return stage.follows_scheduler and not (single and scheduler.config.get("shift_terminal"))


def _with_steps(call: dict[str, Any], steps: int) -> dict[str, Any]:
    """The call of `set_timesteps` for another number of steps."""
    call, law = dict(call), call.get("sigmas")
    if law is not None and len(law) != steps:
        call["sigmas"] = stage_sigmas(Stage(steps), 1.0, law)[:-1]
    if call.get("num_inference_steps") is not None:
        call["num_inference_steps"] = steps
    return call


def _own_shift(scheduler: Any, mu: float | None) -> float:
    if mu is not None and scheduler.config.get("use_dynamic_shifting"):
        return shift_of_mu(mu, scheduler.config.get("time_shift_type", "exponential"))
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        return scheduler.shift  # which may have been set after the config
    return scheduler.config.flow_shift if isinstance(scheduler, _SOLVERS) else scheduler.config.shift


def _set_sigmas(scheduler: Any, levels: Any) -> None:
    """Have a flow-matching scheduler step through `levels`, then to the clean picture."""
    sigmas = torch.from_numpy(levels).to(scheduler.sigmas)
    trained = scheduler.config.num_train_timesteps
    if isinstance(scheduler, _SOLVERS):
        sigmas = sigmas.clamp(max=_ALMOST_ONE)
        timesteps = (sigmas * trained).long()
    elif scheduler.config.get("invert_sigmas"):
        sigmas = 1 - sigmas
        timesteps = sigmas * trained
    else:
        timesteps = sigmas * trained
    scheduler.timesteps = timesteps.to(scheduler.timesteps.device)
    scheduler.sigmas = torch.cat([sigmas, scheduler.sigmas[-1:]])
    scheduler.num_inference_steps = len(sigmas)


def _set_window(scheduler: Any, stage: Stage, call: dict[str, Any]) -> float:
    """Take the stage's steps out of a longer run of the scheduler, as image-to-image pipelines do.

    Returns:
        `float`: the share of noise after the last of them.
    """
    steps = stage.run_steps
    first = min(round(steps * (1 - stage.start)), steps - stage.steps)
    behind = first + stage.steps
    if call.get("sigmas") is not None:
        call = {**call, "sigmas": None}
    scheduler.set_timesteps(**{**call, "num_inference_steps": steps})
    end = noise_level(scheduler, behind)[0].share if behind < len(scheduler.timesteps) else 0.0
    scheduler.timesteps = scheduler.timesteps[first:behind]
    if hasattr(scheduler, "sigmas"):
        scheduler.sigmas = scheduler.sigmas[first : behind + 1]
    return end

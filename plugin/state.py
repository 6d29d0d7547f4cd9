"""The one hook on the denoiser: learns context, step and token grid of every call, and owns the state of a run."""

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

import torch
from diffusers.hooks import HookRegistry, ModelHook
from diffusers.hooks.hooks import BaseState, CacheContext, StateManager
from diffusers.hooks.layerwise_casting import PeftInputAutocastDisableHook

from .errors import AccelerationError
from .families import Family, TokenGrid
from .report import RunLog, StepKind
from .runs import observe_runs

_ATTRIBUTES = {"_reset_stateful_cache", "_diffusers_hook", "forward"}


class LayerState(Protocol):
    """What a method keeps of one attention call between steps."""

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""


class DenoiserState(BaseState):
    """What one context (cond, uncond, ...) keeps between the denoiser calls of a run."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Back to before the first call."""
        self.step = -1
        self.inputs: dict[str, Any] = {}
        self.layers: dict[tuple[str, int], LayerState] = {}


class DenoiserHook(ModelHook):
    """
    Root hook of a method. It has no `new_forward`, so that it gets along with offloading and with hooks around it.

    A subclass plans a run in `plan_run`, decides on a call in `plan_call`, and computes in its attention cores, which
    find the current call in `state`, `grid` and `kind`.
    """

    _is_stateful = True

    def __init__(self, pipeline: Any, family: Family) -> None:
        super().__init__()
        self.log = RunLog()
        self.states = StateManager(DenoiserState)
        self._family = family
        self._pipeline = weakref.ref(pipeline)
        self._scheduler: Any = None
        self._end_observation: Callable[[], None] = lambda: None

    def __deepcopy__(self, memo: dict[int, Any]) -> NoReturn:
        raise AccelerationError("An accelerated model cannot be copied; call disable_acceleration() first.")

    def plan_run(self, num_inference_steps: int) -> None:
        """A run of that many steps begins. Raises AccelerationError if the method cannot serve it."""
        raise NotImplementedError

    def plan_call(self) -> StepKind:
        """How the denoiser call that begins now is computed."""
        raise NotImplementedError

    def initialize_hook(self, module: torch.nn.Module) -> torch.nn.Module:
        """Called by the registry when the hook is registered."""
        self._denoiser = module
        self._layer_names = [layer.name for layer in self._family.layers(module)]
        self._follow_scheduler()
        return module

    def deinitalize_hook(self, module: torch.nn.Module) -> torch.nn.Module:
        """Called by the registry (the spelling is diffusers') when the hook is removed."""
        self._end_observation()
        self.states.reset()
        return module

    def reset_state(self, module: torch.nn.Module) -> torch.nn.Module:
        """Called at the end of every pipeline call: cached tensors are freed, the log stays readable."""
        self.states.reset()
        return module

    @torch.compiler.disable
    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Find out which call this is."""
        if self._follow_scheduler():
            self._begin_run(len(self._scheduler.timesteps))
        if self.states._context is None:
            self.states.set_context(CacheContext("default"))
        hidden_states = args[0] if args else kwargs["hidden_states"]
        self.state: DenoiserState = self.states.get_state()
        self.state.step += 1
        self._drop_state_of_other_inputs(hidden_states)
        self.grid: TokenGrid = self._family.token_grid(module.config, hidden_states.shape)
        self.calls: Counter[str] = Counter()
        self.kind = self.plan_call()
        self._device = hidden_states.device
        self.log.begin_step(self.state.step, self.kind, self._device)
        return args, kwargs

    @torch.compiler.disable
    def post_forward(self, module: torch.nn.Module, output: Any) -> Any:
        """Close the books on this call."""
        cached = (layer for state in self.states._state_cache.values() for layer in state.layers.values())
        self.log.end_step(sum(layer.nbytes for layer in cached), self._device)
        for name in self._layer_names:
            if not self.calls[name]:
                self.log.fall_back(name, "its attention did not run through hasten, its processor was replaced")
        return output

    def _follow_scheduler(self) -> bool:
        """Observe the pipeline's scheduler, also after it was exchanged; tells whether it was."""
        pipeline = self._pipeline()
        if pipeline is None or pipeline.scheduler is self._scheduler:
            return False
        self._end_observation()
        self._scheduler = pipeline.scheduler
        self._end_observation = observe_runs(self._scheduler, self._begin_run)
        return True

    def _begin_run(self, num_inference_steps: int) -> None:
        refuse_other_caches(self._denoiser)
        self.states.reset()
        self.log.begin_run()
        self.plan_run(num_inference_steps)

    def _drop_state_of_other_inputs(self, hidden_states: torch.Tensor) -> None:
        inputs = {"shape": tuple(hidden_states.shape), "dtype": hidden_states.dtype, "device": hidden_states.device}
        changed = [name for name in inputs if self.state.inputs.get(name, inputs[name]) != inputs[name]]
        if changed:
            self.state.layers.clear()
            before_after = (f"{name} from {self.state.inputs[name]} to {inputs[name]}" for name in changed)
            self.log.fall_back("denoiser", f"its input changed within a run ({', '.join(before_after)})")
        self.state.inputs = inputs


def attach_hook(denoiser: Any, hook: DenoiserHook, name: str) -> Callable[[], None]:
    """Register `hook` on `denoiser` so that it is reset at the end of each pipeline call.

    Returns:
        `Callable[[], None]`: removes it, and every attribute that came with it.
    """
    before = vars(denoiser).copy()
    registry = HookRegistry.check_if_exists_or_initialize(denoiser)
    registry.register_hook(hook, name)
    hooked_forward = denoiser.forward
    if not hasattr(denoiser, "_reset_stateful_cache"):  # pipelines call it on models with and without CacheMixin
        denoiser._reset_stateful_cache = registry.reset_stateful_hooks

    def detach_hook() -> None:
        index = registry._hook_order.index(name)
        outer = registry._fn_refs[index + 1] if index + 1 < len(registry._fn_refs) else None
        outer_forward = outer.forward if outer else None
        wrapper = denoiser.forward if vars(denoiser).get("_old_forward") is hooked_forward else None
        registry.remove_hook(name, recurse=False)
        if wrapper:  # accelerate wrapped our forward since then
            denoiser._old_forward, denoiser.forward = denoiser.forward, wrapper
        if outer and outer.original_forward:  # diffusers would drop the outer hook's own forward here
            outer.original_forward, outer.forward = outer.forward, outer_forward
        ours = {"_reset_stateful_cache"} if registry.hooks or wrapper else _ATTRIBUTES
        for attribute in ours - before.keys():
            vars(denoiser).pop(attribute, None)

    return detach_hook


def refuse_other_caches(denoiser: torch.nn.Module) -> None:
    """Refuse a denoiser whose layers diffusers already skips or caches, as statistics would be of the wrong steps.

    Raises:
        AccelerationError: diffusers' caching is enabled, or one of its hooks replaces a forward pass.
    """
    name = type(denoiser).__name__
    if getattr(denoiser, "is_cache_enabled", False):
        method = type(denoiser._cache_config).__name__
        raise AccelerationError(
            f"{name} has diffusers' own caching enabled ({method}); call its disable_cache() first."
        )
    for module in denoiser.modules():
        for hook_name, hook in getattr(getattr(module, "_diffusers_hook", None), "hooks", {}).items():
            if hasattr(hook, "new_forward") and not isinstance(hook, PeftInputAutocastDisableHook):
                raise AccelerationError(
                    f"{name} carries the diffusers hook '{hook_name}', which replaces a forward; remove it first."
                )

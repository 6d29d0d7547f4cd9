"""The one hook on the denoiser: learns context, step and token grid of every call, and owns the state of a run."""

import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, Protocol

import torch
from diffusers.hooks import HookRegistry, ModelHook
from diffusers.hooks.hooks import BaseState, CacheContext, StateManager
from diffusers.hooks.layerwise_casting import PeftInputAutocastDisableHook

from .errors import AccelerationError
from .families import Family, TokenGrid, UnknownTokensError
from .finiteness import OutputWatch, is_finite
from .report import StepKind
from .runs import Run
from .seam import why_bypassed

_ATTRIBUTES = {"_reset_stateful_cache", "_diffusers_hook", "forward"}


class LayerState(Protocol):
    """What a method keeps of one attention call between steps."""

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""


class Latents(NamedTuple):
    """The denoiser's first argument, which may not change within a run, or cached tensors would not fit."""

    shape: tuple[Any, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, hidden_states: Any) -> "Latents":
        """Of the first argument of a denoiser: a tensor, or a list of one for each row of the batch."""
        if isinstance(hidden_states, torch.Tensor):
            return cls(tuple(hidden_states.shape), hidden_states.dtype, hidden_states.device)
        first = hidden_states[0]
        while not isinstance(first, torch.Tensor):
            first = first[0]
        return cls((len(hidden_states), *first.shape), first.dtype, first.device)


class DenoiserState(BaseState):
    """What one context (cond, uncond, ...) keeps between the denoiser calls of a run."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Back to before the first call."""
        self.step = -1
        self.stage = 0
        self.latents: Latents | None = None
        self.adapters: Any = None
        self.grid: TokenGrid | str = ""
        self.layers: dict[tuple[str, int], LayerState] = {}


class DenoiserHook(ModelHook):
    """
    Root hook of a method. It has no `new_forward`, so that it gets along with offloading and with hooks around it.

    A subclass plans a run in `plan_run`, decides on a call in `plan_call`, and computes in its attention cores, which
    find the current call in `state`, `grid` (None if its tokens are unknown) and `kind`, and give `watch` their sparse
    outputs.
    """

    _is_stateful = True

    def __init__(self, run: Run, family: Family) -> None:
        super().__init__()
        self.run = run
        self.log = run.log
        self.states = StateManager(DenoiserState)
        self.unstable: set[str] = set()
        self._family = family
        self._own_context: CacheContext | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> NoReturn:
        raise AccelerationError("An accelerated model cannot be copied; call disable_acceleration() first.")

    def plan_run(self, num_inference_steps: int) -> None:
        """The run has that many steps. Raises AccelerationError if the method cannot serve it."""
        raise NotImplementedError

    def plan_call(self) -> StepKind:
        """How the denoiser call that begins now is computed."""
        raise NotImplementedError

    def initialize_hook(self, module: torch.nn.Module) -> torch.nn.Module:
        """Called by the registry when the hook is registered."""
        self._denoiser = module
        self._signature = inspect.signature(type(module).forward)
        self._layers = self._family.layers(module)
        self.run.join(self)
        return module

    def deinitalize_hook(self, module: torch.nn.Module) -> torch.nn.Module:
        """Called by the registry (the spelling is diffusers') when the hook is removed."""
        self.states.reset()
        return module

    def reset_state(self, module: torch.nn.Module) -> torch.nn.Module:
        """Called at the end of every pipeline call: cached tensors are freed, the log stays readable."""
        self.states.reset()
        return module

    def begin_run(self) -> None:
        """A run begins."""
        refuse_other_caches(self._denoiser)
        self.states.reset()
        self.unstable.clear()
        self._tuned: list[Any] = [
            module for module in self._denoiser.modules() if isinstance(getattr(module, "scaling", None), dict)
        ]

    def leave(self) -> None:
        """Another denoiser takes over: free what this one has cached."""
        for state in self.states._state_cache.values():
            state.layers.clear()

    @torch.compiler.disable
    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Find out which call this is."""
        self.run.catch_up()
        inputs = self._signature.bind(module, *args, **kwargs).arguments
        if self.states._context is None or self.states._context is self._own_context:
            self._own_context = CacheContext(self._family.context(inputs))
            self.states.set_context(self._own_context)
        self.state: DenoiserState = self.states.get_state()
        self.state.step = self.run.next_step(self, self.states.context.name)
        self._follow_latents(inputs)
        self._follow_adapters(inputs)
        self.grid = self.state.grid if isinstance(self.state.grid, TokenGrid) else None
        self.calls: Counter[str] = Counter()
        self.watch = OutputWatch()
        self.kind: StepKind = self.plan_call()
        self._call = args, kwargs
        self.log.begin_step(self.state.step, self.kind, self._latents.device)
        return args, kwargs

    @torch.compiler.disable
    def post_forward(self, module: torch.nn.Module, output: Any) -> Any:
        """Close the books on this call."""
        output = self._repeat_until_stable(output)
        del self._call
        cached = (layer for state in self.states._state_cache.values() for layer in state.layers.values())
        self.log.end_step(sum(layer.nbytes for layer in cached), self._latents.device)
        for layer in self._layers:
            bypassed = None if self.calls[layer.name] else why_bypassed(layer.module)
            if bypassed is not None:  # else the model skipped the layer by itself
                self.log.fall_back(layer.name, bypassed)
        return output

    def _repeat_until_stable(self, output: Any) -> Any:
        """The output of the call, which runs again without the layers that are found not to be finite.

        The first of them spoils those after it, so that it alone is blamed at first. Where that does not help, several
        are at fault, and each further call would find one: then all of them are.
        """
        unstable = self.watch.take_unstable()
        if unstable and not is_finite(self._call):
            self.log.fall_back("denoiser", "its input is not finite, so that no layer can be")
            return output
        blamed = unstable[:1]
        while blamed:
            for layer in blamed:
                self.log.fall_back(layer, "its sparse output was not finite, so it is dense for the rest of the call")
            self.unstable.update(blamed)
            self.calls.clear()
            args, kwargs = self._call
            output = self.fn_ref.forward(*args, **kwargs)
            blamed = self.watch.take_unstable()
        return output

    def _follow_latents(self, inputs: Any) -> None:
        """Drop the state of other latents; find the token grid of new ones."""
        latents, before = Latents.of(list(inputs.values())[1]), self.state.latents
        self._latents = latents
        if self.state.stage != self.run.stage:  # a change of resolution, or the noise of another step, is meant
            self.state.stage, before = self.run.stage, None
            self.state.layers.clear()
        if before == latents:
            if isinstance(self.state.grid, str):
                self.log.fall_back("denoiser", self.state.grid)
            return
        if before is not None:
            self.state.layers.clear()
            changes = (
                f"{name} from {then} to {now}"
                for name, then, now in zip(Latents._fields, before, latents, strict=True)
                if then != now
            )
            self.log.fall_back("denoiser", f"its input changed within a run ({', '.join(changes)})")
        self.state.latents = latents
        try:
            self.state.grid = self._family.grid(self._denoiser.config, inputs)
        except UnknownTokensError as error:
            self.state.grid = f"{error}, so it stays dense"
            self.log.fall_back("denoiser", self.state.grid)

    def _follow_adapters(self, inputs: Any) -> None:
        """Drop the state of other LoRA adapters or scales: cached tensors are of the weights as they were."""
        scales = [value.get("scale") for name, value in inputs.items() if name.endswith("attention_kwargs") and value]
        tuned = [(module.active_adapters, module.disable_adapters, dict(module.scaling)) for module in self._tuned]
        adapters = scales, tuned
        if self.state.adapters not in (None, adapters):
            self.state.layers.clear()
            self.log.fall_back("denoiser", "its LoRA adapters or their scales changed within a run")
        self.state.adapters = adapters


def attach_hook(denoiser: Any, hook: ModelHook, name: str) -> Callable[[], None]:
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

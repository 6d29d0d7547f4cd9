"""Replaces the attention core of a diffusers model, and nothing else, and puts it back.

A diffusers attention module leaves its work to a *processor*, which projects, normalises and rotates query, key and
value, calls one core function (`torch.nn.functional.scaled_dot_product_attention`, or diffusers'
`dispatch_attention_fn`) and projects the result back. Only that one call is ours to change, for every processor class
there is. So none is rewritten:

1. A subclass, made once per processor class, has a `__call__` that is the **stock code object**, bound to a copy of its
   globals in which the core function's name leads to ours. `isinstance`, signature and attributes stay as they were.
2. A module gets a *copy* of its processor in that class, because processors are often shared between modules. Detaching
   puts the identical original object back.
3. Our core function is a `torch.library` custom op. `torch.compile` sees one opaque call, keeps `fullgraph=True`, and,
   as the layer id is a tensor and not a Python number, compiles one graph for all layers.
4. The op looks its layer id up in `CORES`; without a core, it computes what stock would have computed.
"""

import copy
import functools
import itertools
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import Tensor


class AttentionCall(NamedTuple):
    """One call of the attention core.

    Args:
        query, key, value (`Tensor` of shape `(batch, heads, tokens, head_dim)`):
            Projected inputs, in any strides.
        mask (`Tensor`, *optional*):
            Boolean or additive attention mask, broadcastable to `(batch, heads, query_tokens, key_tokens)`.
        scale (`float`, *optional*):
            Factor on the scores; `head_dim ** -0.5` when `None`.
        stock (`Callable[[], Tensor]`):
            Computes exactly what the unmodified model would have computed here.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scale: float | None
    stock: Callable[[], Tensor]


class AttentionCore(Protocol):
    """Computes attention, `(batch, heads, query_tokens, head_dim)`; the result shares no memory with an input."""

    def __call__(self, call: AttentionCall) -> Tensor:
        """Attention output of the call."""


CORES: weakref.WeakValueDictionary[int, AttentionCore] = weakref.WeakValueDictionary()
"""Layer id → core. Weak, as a processor owns the core of its id: a pipeline that is dropped takes its cores along."""

_layer_ids = itertools.count()
_running = threading.local()


@torch.library.custom_op("hasten::attention_core", mutates_args=(), tags=(torch.Tag.cudagraph_unsafe,))
def attention_core(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float | None,
    layer: Tensor,
    dispatched: bool,
    backend: str | None,
) -> Tensor:
    """Attention of shape `(batch, heads, tokens, head_dim)` by the core that is registered for the id in `layer`."""

    def stock() -> Tensor:
        if not dispatched:
            return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
        token_major = (tensor.transpose(1, 2) for tensor in (query, key, value))
        return dispatch_attention_fn(*token_major, attn_mask=mask, scale=scale, backend=backend).transpose(1, 2)

    core = CORES.get(int(layer))
    output = core(AttentionCall(query, key, value, mask, scale, stock)) if core else stock()
    # Processors merge the heads next, which is free of a copy in this memory order.
    return output.transpose(1, 2).contiguous().transpose(1, 2)


@attention_core.register_fake
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float | None,
    layer: Tensor,
    dispatched: bool,
    backend: str | None,
) -> Tensor:
    batch, heads, tokens, _ = query.shape
    return query.new_empty(batch, tokens, heads, value.shape[-1]).transpose(1, 2)


def _scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if dropout_p or is_causal or enable_gqa:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    return attention_core(query, key, value, attn_mask, scale, _running.layer, False, None)


def _dispatch_attention_fn(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    attention_kwargs: dict[str, Any] | None = None,
    *,
    backend: str | None = None,
    parallel_config: Any = None,
) -> Tensor:
    if dropout_p or is_causal or enable_gqa or attention_kwargs or parallel_config is not None:
        return dispatch_attention_fn(
            query,
            key,
            value,
            attn_mask,
            dropout_p,
            is_causal,
            scale,
            enable_gqa,
            attention_kwargs,
            backend=backend,
            parallel_config=parallel_config,
        )
    head_major = (tensor.transpose(1, 2) for tensor in (query, key, value))
    return attention_core(*head_major, attn_mask, scale, _running.layer, True, backend).transpose(1, 2)


_OURS: dict[str, Any] = {
    "dispatch_attention_fn": _dispatch_attention_fn,
    "F": types.SimpleNamespace(**{**vars(F), "scaled_dot_product_attention": _scaled_dot_product_attention}),
}


@functools.cache
def _accelerated_class(stock: type) -> type:
    call = stock.__call__
    namespace = {**call.__globals__, **{name: _OURS[name] for name in _OURS.keys() & call.__globals__.keys()}}
    # Without `__name__` Dynamo reads the globals from this dictionary and not from the stock module; relative imports
    # inside the processor still need the package.
    namespace["__package__"] = namespace.pop("__name__").rpartition(".")[0]
    namespace.pop("__spec__", None)
    rebound = types.FunctionType(call.__code__, namespace, call.__name__, call.__defaults__, call.__closure__)
    rebound.__kwdefaults__ = call.__kwdefaults__

    # Attention modules filter their keyword arguments by the processor's signature, which `wraps` keeps visible.
    @functools.wraps(call)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        _running.layer = self._hasten_layer
        return rebound(self, *args, **kwargs)

    return type(f"Hasten{stock.__name__}", (stock,), {"__call__": __call__})


def attach_core(module: torch.nn.Module, core: AttentionCore) -> Callable[[], None]:
    """Let the attention module compute its attention with `core`; everything around it stays stock.

    Args:
        module (`torch.nn.Module`):
            Attention module with a `processor`.
        core (`AttentionCore`):
            Called for every attention of the module.

    Returns:
        `Callable[[], None]`: puts the original processor object back, unless someone else replaced ours since then.
    """
    original: Any = module.processor
    accelerated: Any = copy.copy(original)
    accelerated.__class__ = _accelerated_class(original.__class__)
    layer = next(_layer_ids)
    accelerated._hasten_layer = torch.tensor(layer)
    accelerated._hasten_core = CORES[layer] = core
    module.processor = accelerated

    def detach_core() -> None:
        CORES.pop(layer, None)
        if module.processor is accelerated:
            module.processor = original

    return detach_core


def why_bypassed(module: torch.nn.Module) -> str | None:
    """Why the attention of a module does not come to its core; None if it does, as often as the module is called."""
    if not hasattr(module.processor, "_hasten_core"):
        return "its attention did not run through hasten, its processor was replaced"
    if getattr(module.processor, "_parallel_config", None) is not None:
        return "its attention is shared out among devices (context parallelism), so it stays dense"
    return None

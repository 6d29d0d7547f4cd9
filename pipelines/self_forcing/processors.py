"""Attention of Wan with what was computed before: keys and values of earlier chunks, and of the text."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import Tensor

from hasten.kernels.paged import KeysAndValues, paged_attention

from .state import RolloutState
from .text import TextKeysAndValues


class CachedSelfAttention(WanAttnProcessor):
    """Attention of a chunk to itself and to the earlier chunks in the cache, with no mask.

    Keys are cached behind norm and rotary embedding. The rotary embedding that the transformer passes starts at frame 0
    for every chunk, and ends with its table; the one used here starts at the chunk's own frame.
    """

    def __init__(self, state: RolloutState, layer: int) -> None:
        super().__init__()
        self._state = state
        self._layer = layer

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """(B, N, C) of the chunk's tokens, as the stock processor returns it."""
        if attn.fused_projections:
            projected = attn.to_qkv(hidden_states).chunk(3, dim=-1)
        else:
            projected = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        normed = attn.norm_q(projected[0]), attn.norm_k(projected[1]), projected[2]
        query, key, value = (heads.unflatten(2, (attn.heads, -1)).transpose(1, 2) for heads in normed)
        state, layer = self._state, self._state.layer(self._layer)
        sink_query = state.rotation(state.sink_shift)(query) if state.sink_shift else None
        query, key = state.rotation()(query), state.rotation()(key)
        output = paged_attention(query, [*layer.get(sink_query), KeysAndValues(key, value)]).output
        if state.writes:
            layer.update(key, value, query)
        return _project_out(attn, output.transpose(1, 2))


class CachedTextAttention(WanAttnProcessor):
    """Attention to the text, whose keys and values are computed once for a prompt."""

    def __init__(self, state: RolloutState, layer: int, backend: Any) -> None:
        super().__init__()
        self._state = state
        self._layer = layer
        self._attention_backend = backend

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """(B, N, C) of the chunk's tokens, as the stock processor returns it."""

        def project() -> TextKeysAndValues:
            if attn.fused_projections:
                key, value = attn.to_kv(encoder_hidden_states).chunk(2, dim=-1)
            else:
                key, value = attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states)
            return TextKeysAndValues(*(heads.unflatten(2, (attn.heads, -1)) for heads in (attn.norm_k(key), value)))

        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        key, value = self._state.text.get(self._state.context, self._layer, project)
        return _project_out(attn, dispatch_attention_fn(query, key, value, backend=self._attention_backend))


def _project_out(attn: Any, output: Tensor) -> Tensor:
    linear, dropout = attn.to_out
    return dropout(linear(output.flatten(2)))


@contextmanager
def cached_attention(transformer: Any, state: RolloutState) -> Iterator[None]:
    """Within it, the transformer's attention reads and writes the caches of `state`; behind it, it is stock again.

    Raises:
        ValueError: an attention layer has a processor that is not Wan's own, which would be bypassed.
    """
    modules: dict[str, Any] = {}
    for index, block in enumerate(transformer.blocks):
        modules |= {f"blocks.{index}.attn1": block.attn1, f"blocks.{index}.attn2": block.attn2}
    originals = {name: module.processor for name, module in modules.items()}
    foreign = next((name for name, processor in originals.items() if type(processor) is not WanAttnProcessor), None)
    if foreign is not None:
        raise ValueError(
            f"{foreign} has a {type(originals[foreign]).__name__}, which a rollout with caches would bypass; "
            "take it off first, for hasten's own with pipe.disable_acceleration()."
        )
    try:
        for index, block in enumerate(transformer.blocks):
            block.attn1.processor = CachedSelfAttention(state, index)
            block.attn2.processor = CachedTextAttention(state, index, block.attn2.processor._attention_backend)
        yield
    finally:
        for name, module in modules.items():
            module.processor = originals[name]

"""Attention for training a Wan transformer: plain matrix products, and a bias that stands for any number of pads."""

from dataclasses import dataclass

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttention
from torch import Tensor

Rotation = tuple[Tensor, Tensor]
MOST_KEYS = 1536


@dataclass
class TextPadding:
    """The logit bias of the text tokens, (B, 1, 1, T); diffusers hands a processor nothing of the kind."""

    bias: Tensor


def rotate(states: Tensor, rotation: Rotation) -> Tensor:
    """RoPE as `WanAttnProcessor` applies it, to (B, N, H, D)."""
    even, odd = states.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = rotation[0][..., 0::2], rotation[1][..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).type_as(states)


def heads_first(attention: WanAttention, states: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised query, key and value: (B, N, H, D) each, before any rotation."""
    query, key = attention.norm_q(attention.to_q(states)), attention.norm_k(attention.to_k(context))
    query, key, value = (t.unflatten(2, (attention.heads, -1)) for t in (query, key, attention.to_v(context)))
    return query.type_as(value), key.type_as(value), value


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(QKᵀ/√D + bias) V of (B, N, H, D), as (B, N, H·D).

    With few tokens on a CPU, matrix products train faster than the fused kernel, whose backward is slow there; with
    many, on a GPU and without gradients the fused kernel is the better one, and it keeps no logits.
    """
    query, key, value = (t.transpose(1, 2) for t in (query, key, value))
    if query.requires_grad and query.device.type == "cpu" and key.shape[2] <= MOST_KEYS:
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        output = torch.softmax(logits if bias is None else logits + bias, dim=-1).type_as(value) @ value
    else:
        mask = None if bias is None else bias.type_as(query)
        output = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return output.transpose(1, 2).flatten(2)


def project(attention: WanAttention, output: Tensor) -> Tensor:
    """The layer's output projection."""
    return attention.to_out[1](attention.to_out[0](output))


class SelfAttention:
    """Every token sees every other one."""

    def __call__(
        self, attn: WanAttention, hidden_states: Tensor, _text: None, _mask: None, rotary_emb: Rotation
    ) -> Tensor:
        """What diffusers' processors return: the layer's output, (B, N, H·D)."""
        query, key, value = heads_first(attn, hidden_states, hidden_states)
        return project(attn, attend(rotate(query, rotary_emb), rotate(key, rotary_emb), value))


class TextAttention:
    """Every token sees the caption and its pads."""

    def __init__(self, padding: TextPadding) -> None:
        self.padding = padding

    def __call__(
        self, attn: WanAttention, hidden_states: Tensor, encoder_hidden_states: Tensor, _mask: None, _rotation: None
    ) -> Tensor:
        """What diffusers' processors return: the layer's output, (B, N, H·D)."""
        return project(attn, attend(*heads_first(attn, hidden_states, encoder_hidden_states), self.padding.bias))


def prepare(transformer: WanTransformer3DModel) -> TextPadding:
    """Give `transformer` the processors for training; returns what holds the bias of the text tokens."""
    padding = TextPadding(torch.zeros(1, 1, 1, 1))
    for block in transformer.blocks:
        block.attn1.set_processor(SelfAttention())
        block.attn2.set_processor(TextAttention(padding))
    return padding

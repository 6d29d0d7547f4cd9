"""A Wan transformer that sees one chunk of a video at a time, and earlier ones by their keys and values.

This is what `SelfForcingWanPipeline` runs, written for training: gradients pass through what is remembered.
"""

import math
from dataclasses import dataclass

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor, WanRotaryPosEmbed
from torch import Tensor, nn

from hasten.assets.recipes.emoji_video.attention import Rotation, attend, heads_first, project, rotate

CHUNK_FRAMES = 3


@dataclass
class LayerMemory:
    """Keys, after RoPE, and values of clean chunks in one layer, (B, N, H, D) each, and whether to add the next one."""

    chunks: list[tuple[Tensor, Tensor]]
    writing: bool = False


class ChunkAttention:
    """Every token sees its own chunk and all that is remembered."""

    def __init__(self, memory: LayerMemory) -> None:
        self.memory = memory

    def __call__(
        self, attn: WanAttention, hidden_states: Tensor, _text: None, _mask: None, rotary_emb: Rotation
    ) -> Tensor:
        """What diffusers' processors return: the layer's output, (B, N, H·D)."""
        query, key, value = heads_first(attn, hidden_states, hidden_states)
        query, key = rotate(query, rotary_emb), rotate(key, rotary_emb)
        seen = [*self.memory.chunks, (key, value)]
        if self.memory.writing:
            self.memory.chunks = seen
        keys, values = (torch.cat(tensors, dim=1) for tensors in zip(*seen, strict=True))
        return project(attn, attend(query, keys, values))


class LaterRope(nn.Module):
    """The model's rotary embedding, for frames that begin at `first_frame`."""

    def __init__(self, rope: WanRotaryPosEmbed) -> None:
        super().__init__()
        self.rope, self.first_frame = rope, 0
        self.patch = math.prod(rope.patch_size)

    def forward(self, hidden_states: Tensor) -> Rotation:
        """Cosine and sine, (1, N, 1, D), of latents (B, C, F, h, w), which count only by their shape."""
        _, _, frames, height, width = hidden_states.shape
        cosine, sine = self.rope(hidden_states.new_empty(1, 1, self.first_frame + frames, height, width))
        tokens = frames * height * width // self.patch
        return cosine[:, -tokens:], sine[:, -tokens:]


class CausalTransformer:
    """`transformer`, one chunk at a time."""

    def __init__(self, transformer: WanTransformer3DModel) -> None:
        self.transformer = transformer
        self.memories = [LayerMemory([]) for _ in transformer.blocks]
        for block, memory in zip(transformer.blocks, self.memories, strict=True):
            block.attn1.set_processor(ChunkAttention(memory))
        self.rope = transformer.rope = LaterRope(transformer.rope)

    def forget(self, keep: int = 0) -> None:
        """Drop all remembered chunks but the last `keep`."""
        for memory in self.memories:
            memory.chunks = memory.chunks[max(0, len(memory.chunks) - keep) :]

    def __call__(
        self, latents: Tensor, timestep: Tensor, text: Tensor, first_frame: int, *, write: bool = False
    ) -> Tensor:
        """Velocity, float32, at `latents` (B, 16, F, h, w) and `timestep` (B,), which stand at `first_frame`.

        Args:
            write (`bool`): remember this chunk, which should be a clean one at timestep 0.
        """
        self.rope.first_frame = first_frame
        for memory in self.memories:
            memory.writing = write
        velocity = self.transformer(latents, timestep=timestep, encoder_hidden_states=text, return_dict=False)[0]
        return velocity.float()

    def stock(self) -> WanTransformer3DModel:
        """The transformer without what this class put into it."""
        self.forget()
        self.transformer.rope = self.rope.rope
        self.transformer.set_attn_processor(WanAttnProcessor())
        return self.transformer

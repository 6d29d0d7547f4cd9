"""What a rollout makes, checked and encoded."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .chunks import Chunk
from .schedule import Generators, Sampler
from .text import PromptSwitch


@dataclass(frozen=True)
class RolloutPlan:
    """Everything that the frames of a rollout depend on, but for the model and the cache.

    Args:
        chunks (`tuple[Chunk, ...]`): in order of time, given ones first.
        sampler (`Sampler`): denoises a chunk.
        shape (`tuple[int, int, int, int]`): of a latent frame with its batch: (B, C, h, w).
        prompts (`tuple[PromptSwitch, ...]`): in order of time, the first from frame 0 on.
        negative_embeds (`Tensor`, *optional*): (B, tokens, channels), for guidance.
        guidance_scale (`float`): weight of classifier-free guidance; without `negative_embeds` there is none.
        given (`Tensor`, *optional*): clean latents (B, C, F, h, w) of the given chunks.
        noise (`Tensor`, *optional*): (B, C, F, h, w) that the other chunks start from; drawn if left out.
        generator (`torch.Generator`, list of them or `None`): draws all noise, chunk by chunk, so a longer rollout
            begins as a shorter one.
        attention_kwargs (`dict`, *optional*): of the transformer.
    """

    chunks: tuple[Chunk, ...]
    sampler: Sampler
    shape: tuple[int, int, int, int]
    prompts: tuple[PromptSwitch, ...]
    negative_embeds: Tensor | None = None
    guidance_scale: float = 1.0
    given: Tensor | None = None
    noise: Tensor | None = None
    generator: Generators = None
    attention_kwargs: dict[str, Any] | None = None

    @property
    def steps(self) -> int:
        """Denoising steps of all chunks."""
        return self.sampler.steps * sum(not chunk.given for chunk in self.chunks)

    @property
    def contexts(self) -> tuple[str, ...]:
        """Passes that have keys and values of their own."""
        return ("cond",) if self.negative_embeds is None else ("cond", "uncond")

    def no_frames(self, device: torch.device) -> Tensor:
        """Latents (B, C, 0, h, w) of a rollout that was cancelled at once."""
        batch, channels, height, width = self.shape
        return torch.empty(batch, channels, 0, height, width, device=device)

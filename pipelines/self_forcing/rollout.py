"""The rollout itself: chunk after chunk is denoised, then read once more when clean, so that later chunks see it.

Huang et al., "Self Forcing: Bridging the Train-Test Gap in Autoregressive Video Diffusion", arXiv 2506.08009.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from .caching import Cache
from .chunks import Chunk
from .plan import RolloutPlan
from .processors import cached_attention
from .state import RolloutState
from .step_reuse import ReusingBlocks, reusing
from .text import embeds_at


class StepReport(Protocol):
    """Hears of every denoising step, and may change what the next one gets."""

    def __call__(self, timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Takes "latents", "prompt_embeds" and, with guidance, "negative_prompt_embeds"; returns those to replace."""


class Rollout:
    """Yields the clean latents of one chunk after another, (B, C, F, h, w), float32.

    The transformer carries the caches only while a chunk is computed, so it is as it was whenever this pauses. The
    caches are given back before the last chunk is handed out, when the rollout is cancelled, dropped or fails.

    Args:
        transformer (`WanTransformer3DModel`): stock.
        state (`RolloutState`): allocated caches.
        plan (`RolloutPlan`): what to make.
        report (`StepReport`): hears of every step.
        cancelled (`Callable[[], bool]`): asked before every step; a chunk that is not done is dropped.
        reuse (`ReusingBlocks`, *optional*): takes the place of the transformer's blocks.
        on_chunk (`Callable[[Cache], None]`, *optional*): told of the cache when a chunk is done.
    """

    def __init__(
        self,
        transformer: Any,
        state: RolloutState,
        plan: RolloutPlan,
        report: StepReport,
        cancelled: Callable[[], bool],
        reuse: ReusingBlocks | None = None,
        on_chunk: Callable[[Cache], None] | None = None,
    ) -> None:
        self._transformer = transformer
        self._state = state
        self._plan = plan
        self._report = report
        self._cancelled = cancelled
        self._reuse = reuse
        self._on_chunk = on_chunk
        self._embeds: dict[str, Tensor] = {}
        if plan.negative_embeds is not None:
            self._embeds["uncond"] = plan.negative_embeds
        self._prompt: Tensor | None = None

    def __iter__(self) -> Iterator[Tensor]:
        """Compute chunk by chunk."""
        plan = self._plan
        try:
            for chunk in plan.chunks:
                clean = self._compute(chunk, last=chunk is plan.chunks[-1])
                if clean is None:
                    return
                if self._on_chunk:
                    self._on_chunk(self._state.cache)
                if chunk is plan.chunks[-1]:
                    self._state.free()
                yield clean
        finally:
            self._state.free()

    @torch.no_grad()
    def _compute(self, chunk: Chunk, last: bool) -> Tensor | None:
        """The clean latents of a chunk, known to the caches unless it is the last one; None if cancelled."""
        self._state.begin_chunk(chunk)
        self._switch_prompt(chunk)
        with ExitStack() as patches:
            patches.enter_context(cached_attention(self._transformer, self._state))
            patches.enter_context(reusing(self._transformer, self._reuse))
            if self._reuse:
                self._reuse.begin_chunk()
            clean = self._given(chunk) if chunk.given else self._denoise(chunk)
            if clean is not None and not last:
                self._remember(clean)
        return clean

    def _switch_prompt(self, chunk: Chunk) -> None:
        embeds = embeds_at(self._plan.prompts, chunk.end_frame)
        if embeds is not self._prompt:
            self._prompt = embeds
            self._set_embeds("cond", embeds)

    def _set_embeds(self, context: str, embeds: Tensor) -> None:
        self._embeds[context] = embeds
        self._state.text.forget(context)

    def _given(self, chunk: Chunk) -> Tensor | None:
        given = self._plan.given
        return None if given is None or self._cancelled() else given[:, :, chunk.first_frame : chunk.end_frame]

    def _denoise(self, chunk: Chunk) -> Tensor | None:
        sampler = self._plan.sampler
        latents = self._starting_noise(chunk)
        for index, timestep in enumerate(sampler.begin_chunk(latents.device)):
            if self._cancelled():
                return None
            velocity = self._predict(latents, timestep, index)
            latents = sampler.step(index, velocity, latents, self._plan.generator)
            latents = self._tell(timestep, latents)
        return latents

    def _starting_noise(self, chunk: Chunk) -> Tensor:
        plan = self._plan
        if plan.noise is not None:
            first = chunk.first_frame - sum(given.frames for given in plan.chunks if given.given)
            return plan.noise[:, :, first : first + chunk.frames]
        batch, channels, height, width = plan.shape
        shape = batch, channels, chunk.frames, height, width
        return randn_tensor(shape, generator=plan.generator, device=self._state.device, dtype=torch.float32)

    def _predict(self, latents: Tensor, timestep: Tensor, step: int) -> Tensor:
        conditional = self._forward("cond", latents, timestep, step)
        if "uncond" not in self._embeds:
            return conditional
        unconditional = self._forward("uncond", latents, timestep, step)
        return unconditional + self._plan.guidance_scale * (conditional - unconditional)

    def _remember(self, clean: Tensor) -> None:
        """One pass over the clean chunk at timestep 0, which writes its keys and values into the caches."""
        self._state.writes = True
        try:
            for context in self._embeds:
                self._forward(context, clean, clean.new_zeros(()), None)
        finally:
            self._state.writes = False

    def _forward(self, context: str, latents: Tensor, timestep: Tensor, step: int | None) -> Tensor:
        self._state.context = context
        if self._reuse:
            self._reuse.begin_step(context, step)
        embeds = self._embeds[context]
        with self._transformer.cache_context(context):
            return self._transformer(
                hidden_states=latents.to(self._transformer.dtype),
                timestep=timestep.expand(latents.shape[0]),
                encoder_hidden_states=embeds,
                attention_kwargs=self._plan.attention_kwargs,
                return_dict=False,
            )[0].float()

    def _tell(self, timestep: Tensor, latents: Tensor) -> Tensor:
        names = {"prompt_embeds": "cond", "negative_prompt_embeds": "uncond"}
        tensors = {name: self._embeds[context] for name, context in names.items() if context in self._embeds}
        changed = self._report(timestep, {"latents": latents, **tensors})
        for name, context in names.items():
            if name in changed and changed[name] is not self._embeds.get(context):
                self._set_embeds(context, changed[name])
        return changed.get("latents", latents)

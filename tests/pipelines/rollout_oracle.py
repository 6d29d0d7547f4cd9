"""What a rollout should give, from one forward of the whole video in place of a cache.

The stock transformer sees all clean chunks and the noisy one together, each token with its own timestep. A mask lets
each chunk see what it saw when it was computed: that is what a cache of keys and values stands for.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import Tensor

Sees = Callable[[int, int], bool]
"""Whether the chunk that ends before one latent frame sees another latent frame."""

Position = Callable[[int, int], int]
"""Where in time the chunk that ends before one latent frame sees another latent frame."""

PUBLISHED_SIGMAS = (1.0, 0.9375, 5 / 6, 0.625)


def sees_all(end: int, frame: int) -> bool:
    return frame < end


def sees_window(frames: int, sinks: int = 0) -> Sees:
    return lambda end, frame: frame < min(sinks, end) or end - (frames - sinks) <= frame < end


class _Masked(WanAttnProcessor):
    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def __call__(self, attn: Any, hidden: Tensor, text: Any, _: None, rotary: Any) -> Tensor:
        return super().__call__(attn, hidden, text, self.mask, rotary)


class _Positioned(WanAttnProcessor):
    """Attention in float64, chunk by chunk, to keys that are wherever the chunk sees them in time."""

    def __init__(self, sees: Sees, position: Position, chunk_ends: Sequence[int], grid: tuple[int, int]) -> None:
        super().__init__()
        self.sees, self.position, self.chunk_ends, self.grid = sees, position, chunk_ends, grid

    def __call__(self, attn: Any, hidden: Tensor, text: Any, mask: None, rotary: Any) -> Tensor:
        normed = attn.norm_q(attn.to_q(hidden)), attn.norm_k(attn.to_k(hidden)), attn.to_v(hidden)
        rows, columns = self.grid
        query, key, value = (
            x.double().unflatten(-1, (attn.heads, -1)).unflatten(1, (-1, rows * columns)).movedim(3, 1) for x in normed
        )  # (B, H, frames, tokens, D)
        outputs, first = [], 0
        for end in self.chunk_ends:
            frames = [frame for frame in range(end) if self.sees(end, frame)]
            seen = torch.cat([self.turn(key[:, :, f : f + 1], self.position(end, f)) for f in frames], 2).flatten(2, 3)
            asking = torch.cat([self.turn(query[:, :, f : f + 1], f) for f in range(first, end)], 2).flatten(2, 3)
            weights = (asking @ seen.mT / asking.shape[-1] ** 0.5).softmax(-1)
            outputs.append(weights @ value[:, :, frames].flatten(2, 3))
            first = end
        output = torch.cat(outputs, 2).transpose(1, 2).flatten(2).to(hidden.dtype)
        return attn.to_out[1](attn.to_out[0](output))

    def turn(self, frame: Tensor, time: int) -> Tensor:
        """Rotates a frame (B, H, 1, tokens, D) as if it were at `time`: a multiplication of complex numbers."""
        rows, columns = self.grid
        channels = frame.shape[-1]
        space = channels // 6 * 2
        sizes = channels - 2 * space, space, space
        speeds = [(axis, 10000 ** (-pair / size)) for axis, size in enumerate(sizes) for pair in range(0, size, 2)]
        places = [(time, row, column) for row in range(rows) for column in range(columns)]
        angles = [[place[axis] * speed for axis, speed in speeds] for place in places]
        factor = torch.polar(torch.ones(()).double(), torch.tensor(angles, dtype=torch.float64))
        turned = torch.view_as_complex(frame.unflatten(-1, (-1, 2)).contiguous()) * factor
        return torch.view_as_real(turned).flatten(-2)


class FullVideo:
    """The velocity of the newest chunk, from a forward of the whole video.

    Each chunk has a prompt of its own.

    Args:
        transformer: the pipeline's; a copy with a longer table of positions is used.
        sees: which frames a chunk sees.
        position: where in time a chunk sees a frame, if not where it is.
    """

    def __init__(
        self, transformer: WanTransformer3DModel, sees: Sees = sees_all, position: Position | None = None
    ) -> None:
        config = {**transformer.config, "rope_max_seq_len": 64}
        self.model = WanTransformer3DModel.from_config(config).eval()
        self.model.load_state_dict(transformer.state_dict())
        self.sees = sees
        self.position = position

    def install(self, chunk_ends: Sequence[int], grid: tuple[int, int]) -> None:
        if self.position is not None:
            for block in self.model.blocks:
                block.attn1.processor = _Positioned(self.sees, self.position, chunk_ends, grid)
            return
        frames = range(chunk_ends[-1])
        ends = [min(end for end in chunk_ends if end > frame) for frame in frames]
        by_frame = torch.tensor([[self.sees(end, key) for key in frames] for end in ends])
        mask = by_frame.repeat_interleave(math.prod(grid), 0).repeat_interleave(math.prod(grid), 1)
        for block in self.model.blocks:
            block.attn1.processor = _Masked(mask)

    def show_prompts(self, chunks: Sequence[int], text_tokens: int) -> None:
        """Lets each chunk see its own prompt among those of all chunks."""
        tokens = [torch.ones(size, text_tokens, dtype=torch.bool) for size in chunks]
        for block in self.model.blocks:
            block.attn2.processor = _Masked(torch.block_diag(*tokens))

    @torch.no_grad()
    def __call__(self, clean: Sequence[Tensor], noisy: Tensor, timestep: float, embeds: Sequence[Tensor]) -> Tensor:
        video = torch.cat([*clean, noisy], dim=2)
        chunks = [chunk.shape[2] for chunk in (*clean, noisy)]
        grid = video.shape[3] // 2, video.shape[4] // 2
        self.install([sum(chunks[: place + 1]) for place in range(len(chunks))], grid)
        self.show_prompts([frames * math.prod(grid) for frames in chunks], embeds[0].shape[1])
        timesteps = torch.zeros(video.shape[0], video.shape[2] * math.prod(grid))
        timesteps[:, -chunks[-1] * math.prod(grid) :] = timestep
        return self.model(video, timesteps, torch.cat([*embeds], 1), return_dict=False)[0][:, :, -chunks[-1] :]


def few_step_rollout(
    velocity: Callable[..., Tensor],
    chunks: int,
    shape: tuple[int, int, int, int, int],
    embeds: Callable[[int], Tensor],
    given: Sequence[Tensor] = (),
    sigmas: Sequence[float] = PUBLISHED_SIGMAS,
    seed: int = 0,
) -> Tensor:
    """Self-Forcing's few steps: x̂0 = x - σ·v, then σ'·ε + (1 - σ')·x̂0, each chunk after the clean ones before it.

    Args:
        velocity: `(clean chunks, noisy chunk, timestep, embeddings for each chunk)` to a velocity.
        chunks: how many are made.
        shape: of a chunk.
        embeds: of the prompt for each chunk that is made.
        given: clean chunks before the first one.
        sigmas: noise levels.
        seed: of the noise: for each chunk what it starts from, then what each step adds.
    """
    generator = torch.Generator().manual_seed(seed)
    clean = list(given)
    for chunk in range(chunks):
        x = torch.randn(shape, generator=generator)
        for step, sigma in enumerate(sigmas):
            prompts = [embeds(0) for _ in given] + [embeds(earlier) for earlier in range(chunk + 1)]
            x0 = x - sigma * velocity(clean, x, 1000 * sigma, prompts)
            if step + 1 < len(sigmas):
                x = sigmas[step + 1] * torch.randn(shape, generator=generator) + (1 - sigmas[step + 1]) * x0
        clean.append(x0)
    return torch.cat(clean, dim=2)

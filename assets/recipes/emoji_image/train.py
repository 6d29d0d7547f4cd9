"""The diffusion transformer: rectified flow on latents, few tokens first, growing with replay of the smaller sizes."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PixArtTransformer2DModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import Tensor
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from hasten.assets.recipes.common.learner import Learner, Stage, muon_and_adam
from hasten.assets.recipes.common.precision import mixed_precision
from hasten.assets.recipes.emoji_image.model import MAX_TOKENS, TOKEN_PIXELS, set_resolution
from hasten.assets.recipes.emoji_image.progress import save_atomically
from hasten.assets.recipes.emoji_image.render import render
from hasten.assets.recipes.emoji_image.scenes import draw_scenes

Pool = tuple[Tensor, Tensor, Tensor]
CAPTION_DROPOUT = 0.1


@dataclass(frozen=True)
class Size:
    """A picture size in a stage: how many latents are encoded ahead, the batch, and how often it is drawn.

    With `crop`, a step sees a square of so many pixels, its tokens at their places in the whole picture: attention to
    few tokens is cheap, and what makes an edge clean lies close by. It is also decided last, when little noise is left,
    which large pictures rarely see: a share of `even` steps is drawn from all times alike.
    """

    pixels: int
    pool: int
    batch: int
    weight: float
    crop: int | None = None
    even: float = 0.0

    def draw_times(self, device: torch.device) -> Tensor:
        """(batch,): shares of noise; not drawn evenly, the larger the picture the more: many tokens see through it."""
        if torch.rand(()) < self.even:
            return torch.rand(self.batch, device=device).clamp(1e-3, 0.9995)
        time = torch.sigmoid(0.2 + 1.1 * torch.randn(self.batch, device=device))
        shift = 0.6 * (self.pixels / 64) ** 0.6
        return (shift * time / (1 + (shift - 1) * time)).clamp(1e-3, 0.9995)

    def draw_part(self) -> tuple[slice, slice]:
        """Rows and columns of tokens that a step sees."""
        if self.crop is None:
            return slice(None), slice(None)
        side = self.crop // TOKEN_PIXELS
        corner = torch.randint(self.pixels // TOKEN_PIXELS - side + 1, (2,)).tolist()
        return slice(corner[0], corner[0] + side), slice(corner[1], corner[1] + side)


# A stage and the sizes that it draws.
STAGES: tuple[tuple[Stage, tuple[Size, ...]], ...] = (
    (Stage("parts", 0.12, 1.0, 1.0), (Size(192, 6_000, 24, 0.6, crop=96), Size(384, 2_500, 24, 0.4, crop=96))),
    (
        Stage("192px", 0.38, 1.0, 0.5),
        (Size(192, 6_000, 7, 0.6), Size(192, 6_000, 24, 0.2, crop=96), Size(384, 2_500, 24, 0.2, crop=96)),
    ),
    (
        Stage("384px", 0.50, 0.5, 0.01),
        (
            Size(384, 2_500, 2, 0.35),
            Size(384, 2_500, 8, 0.4, crop=192, even=0.3),
            Size(192, 6_000, 7, 0.25),
        ),
    ),
)


@torch.no_grad()
def encode_pool(
    vae: AutoencoderKL,
    maps: list[Tensor],
    concepts: tuple[str, ...],
    tokenizer: PreTrainedTokenizerFast,
    size: Size,
    cache: Path,
) -> Pool:
    """Latents (N, C, h, w) float16 of training scenes with token ids and mask (N, 20), kept in `cache`."""
    stored = cache / f"pool_{size.pixels}_{size.pool}.pt"
    if stored.exists():
        return torch.load(stored)
    rng = random.Random(size.pixels)
    scenes = list(islice(draw_scenes(len(concepts), rng, held_out=False), size.pool))
    threads = torch.get_num_threads()
    latents = []
    for start in range(0, size.pool, batch := max(1, 64 * 64 * 64 // size.pixels**2)):
        torch.set_num_threads(1)  # rendering is many tiny operations
        pictures = torch.stack([render(scene, maps, size.pixels, rng) for scene in scenes[start : start + batch]])
        torch.set_num_threads(threads)
        with mixed_precision(vae.device):
            latents.append(vae.encode(pictures.to(vae.device)).latent_dist.mean.half().cpu())
    captions = [scene.caption(concepts) for scene in scenes]
    tokens = tokenizer(captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt")
    pool = torch.cat(latents), tokens.input_ids, tokens.attention_mask
    save_atomically(pool, stored)
    return pool


def make_learner(transformer: PixArtTransformer2DModel, text_encoder: T5EncoderModel) -> Learner:
    """Muon for the matrices of the blocks, AdamW for the rest.

    What says and finds where parts stand stays as it is: the text encoder, the projection of its output, and queries
    and keys of the cross-attention. Trained along at these learning rates, it is lost before the rest has learned
    to use it.
    """
    queries_and_keys = [
        linear for block in transformer.transformer_blocks for linear in (block.attn2.to_q, block.attn2.to_k)
    ]
    for module in (text_encoder, transformer.caption_projection, *queries_and_keys):
        module.requires_grad_(False)
    others = [p for name, p in transformer.named_parameters() if not name.startswith("transformer_blocks.")]
    return Learner({"transformer": transformer}, muon_and_adam(transformer.transformer_blocks, others))


class Lessons:
    """Batches for the transformer from pools of latents, by the pixels of their pictures."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        text_encoder: T5EncoderModel,
        transformer: PixArtTransformer2DModel,
        pools: Mapping[int, Pool],
    ) -> None:
        # On a CPU plain matrix products train faster than the fused kernel, whose backward is slow on few tokens.
        transformer.set_attn_processor(AttnProcessor() if transformer.device.type == "cpu" else AttnProcessor2_0())
        self.text_encoder, self.transformer, self.pools = text_encoder, transformer, pools
        empty = tokenizer("", padding="max_length", max_length=MAX_TOKENS, return_tensors="pt")
        self.empty = empty.input_ids[0], empty.attention_mask[0]

    def draw(self, sizes: Sequence[Size]) -> Callable[[], Tensor]:
        """The loss of a batch, whose size is drawn by the weights of `sizes`."""
        weights = torch.tensor([size.weight for size in sizes])
        return lambda: self._loss(sizes[int(torch.multinomial(weights, 1))])

    def _loss(self, size: Size) -> Tensor:
        """Mean squared error of the velocity noise - latents."""
        device = self.transformer.device
        latents, ids, mask = self.pools[size.pixels]
        chosen = torch.randint(len(latents), (size.batch,))
        dropped = torch.rand(size.batch, 1) < CAPTION_DROPOUT
        ids, mask = (torch.where(dropped, a, b[chosen]) for a, b in zip(self.empty, (ids, mask), strict=True))
        ids, mask = ids.to(device), mask.to(device)
        part = size.draw_part()
        set_resolution(self.transformer, size.pixels, part)
        clean = cut(latents[chosen], part).float().to(device)
        noise = torch.randn_like(clean)
        time = size.draw_times(device)
        with mixed_precision(device):
            text = self.text_encoder(input_ids=ids, attention_mask=mask)[0]
            velocity = self.transformer(
                torch.lerp(clean, noise, time.view(-1, 1, 1, 1)),
                encoder_hidden_states=text,
                encoder_attention_mask=mask,
                timestep=time * 1000,
                added_cond_kwargs={"resolution": None, "aspect_ratio": None},
                return_dict=False,
            )[0]
        return (velocity.float() - (noise - clean)).square().mean()


def cut(grids: Tensor, part: tuple[slice, slice], side: int = 1) -> Tensor:
    """The part of (N, C, h, w) under some rows and columns of tokens of `side` x `side` each: 1 for latents, or 8."""
    rows, columns = (slice(s.start and s.start * side, s.stop and s.stop * side) for s in part)
    return grids[..., rows, columns]

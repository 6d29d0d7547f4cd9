"""The diffusion transformer: rectified flow on latents, pictures first, then clips, with replay of what came before."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from hasten.assets.recipes.common.learner import Stage
from hasten.assets.recipes.common.precision import mixed_precision
from hasten.assets.recipes.common.publishing import fingerprint
from hasten.assets.recipes.emoji_image.progress import save_atomically
from hasten.assets.recipes.emoji_video import attention
from hasten.assets.recipes.emoji_video.autoencoder import TEMPORAL_STRIDE, encode
from hasten.assets.recipes.emoji_video.model import MAX_TOKENS, PATCH
from hasten.assets.recipes.emoji_video.render import render_clip
from hasten.assets.recipes.emoji_video.scenes import PERIOD, draw_scenes

CAPTION_DROPOUT = 0.1
CONTINUED_SHARE = 0.5
GIVEN_SHIFT, MADE_SHIFT = 0.1, 20.0
LONGEST_PADDING = 512
MORE_PADS_SHARE = 0.2
TOKENS_PER_BATCH = 3072
REPEAT = PERIOD // TEMPORAL_STRIDE
LONG_FRAMES = REPEAT + 4
"""Latent frames that determine all others: the first ones differ, as the autoencoder sees nothing before them."""


@dataclass(frozen=True)
class Pool:
    """Scenes encoded ahead: latents (N, 16, F, h, w) float16, with token ids and mask (N, 16).

    F is 1, or `LONG_FRAMES`, which determine the scene for ever.
    """

    latents: Tensor
    ids: Tensor
    mask: Tensor

    def frames_at(self, chosen: Tensor, first: int, count: int) -> Tensor:
        """Frames `first`, `first` + 1, … of the `chosen` scenes: (len(chosen), 16, count, h, w), float32."""
        known = self.latents.shape[2]
        wanted = [f if f < known else known - REPEAT + (f - known) % REPEAT for f in range(first, first + count)]
        return self.latents[chosen][:, :, wanted].float()


@torch.no_grad()
def encode_pool(
    vae: AutoencoderKLWan,
    maps: list[Tensor],
    tokenizer: PreTrainedTokenizerFast,
    *,
    scenes: int,
    latent_frames: int,
    pixels: int,
    cache: Path,
) -> Pool:
    """Training scenes from their first frame on, kept in the folder `cache` for all runs with this encoder."""
    stored = cache / f"pool_{latent_frames}x{pixels}_{scenes}_{fingerprint(vae.encoder)}.pt"
    if stored.exists():
        return Pool(*torch.load(stored))
    rng = random.Random(latent_frames)
    drawn = list(islice(draw_scenes(len(maps[0]), rng, held_out=False), scenes))
    frames = TEMPORAL_STRIDE * (latent_frames - 1) + 1
    batch = max(1, 24 // latent_frames)
    latents = []
    for start in range(0, scenes, batch):
        clips = [render_clip(scene, maps, pixels, frames, rng) for scene in drawn[start : start + batch]]
        latents.append(encode(vae, torch.stack(clips).to(vae.device)).half().cpu())
        if start % (32 * batch) == 0:
            print(f"encoding {latent_frames}-latent scenes: {start}/{scenes}", flush=True)
    tokens = tokenizer(
        [scene.caption for scene in drawn], padding="max_length", max_length=MAX_TOKENS, return_tensors="pt"
    )
    pool = torch.cat(latents), tokens.input_ids, tokens.attention_mask
    save_atomically(pool, stored)
    return Pool(*pool)


class Reader:
    """Captions for the transformer, as `WanPipeline` hands them over: outputs of the encoder, zero where padded."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, text_encoder: UMT5EncoderModel, transformer: WanTransformer3DModel
    ) -> None:
        self.text_encoder = text_encoder
        self.padding = attention.prepare(transformer)
        empty = tokenizer("", padding="max_length", max_length=MAX_TOKENS, return_tensors="pt")
        self.empty = empty.input_ids, empty.attention_mask

    def __call__(self, ids: Tensor, mask: Tensor, dropout: float) -> Tensor:
        """Text (B, 16, 128); a share `dropout` of the captions is emptied.

        Pads take part in attention, and a pipeline may pad to 512. All pads are the same key, so some batches
        pretend that there are more, by a bias of ln(pads / pads here).
        """
        device = self.text_encoder.device
        dropped = torch.rand(len(ids), 1) < dropout
        ids, mask = (torch.where(dropped, a, b).to(device) for a, b in zip(self.empty, (ids, mask), strict=True))
        text = self.text_encoder(input_ids=ids, attention_mask=mask)[0] * mask[..., None]
        words = mask.sum(1, keepdim=True)
        length = MAX_TOKENS
        if torch.rand(()) < MORE_PADS_SHARE:
            length = round(math.exp(random.uniform(math.log(MAX_TOKENS), math.log(LONGEST_PADDING))))
        pads = torch.log((length - words) / (MAX_TOKENS - words))
        self.padding.bias = torch.where(mask > 0, 0.0, pads)[:, None, None]
        return text


def draw_times(batch: int, frames: int, frame_tokens: int) -> Tensor:
    """Times in (0, 1), later (noisier) for more tokens: (B, F).

    All frames of a clip have the same time, or, in half of the clips, the first ones are given with little noise and
    the others have much: how a scene goes on, and what the caption has to do with it, shows most clearly there.
    """
    time = torch.sigmoid(0.2 + 1.1 * torch.randn(batch, 1)).expand(batch, frames)
    shift = torch.full((batch, 1), (frames * frame_tokens / 64) ** 0.4)
    continued = torch.rand(batch, 1) < (CONTINUED_SHARE if frames > 1 else 0.0)
    given = continued & (torch.arange(frames) < torch.randint(1, max(2, frames), (batch, 1)))
    shift = torch.where(given, GIVEN_SHIFT, torch.where(continued, MADE_SHIFT, shift))
    return (shift * time / (1 + (shift - 1) * time)).clamp(1e-3, 0.9995)


class Lessons:
    """Batches for the transformer from pools of pictures and of clips."""

    def __init__(self, reader: Reader, transformer: WanTransformer3DModel, pictures: Pool, clips: Pool) -> None:
        self.reader, self.transformer = reader, transformer
        self.pictures, self.clips = pictures, clips

    def draw(self, shares: dict[int, float]) -> Callable[[], Tensor]:
        """The loss of a batch, whose number of latent frames is drawn from `shares`."""

        def loss() -> Tensor:
            frames = random.choices(list(shares), list(shares.values()))[0]
            return self._loss(self.pictures if frames == 1 else self.clips, frames)

        return loss

    def _loss(self, pool: Pool, frames: int) -> Tensor:
        """Mean squared error of the velocity noise - latents."""
        device = self.transformer.device
        frame_tokens = pool.latents.shape[-2] * pool.latents.shape[-1] // PATCH**2
        chosen = torch.randint(len(pool.latents), (max(1, TOKENS_PER_BATCH // (frames * frame_tokens)),))
        latents = pool.frames_at(chosen, 0, frames).to(device)
        noise = torch.randn_like(latents)
        time = draw_times(len(chosen), frames, frame_tokens).to(device)
        weight = time[:, None, :, None, None]
        with mixed_precision(device):
            text = self.reader(pool.ids[chosen], pool.mask[chosen], CAPTION_DROPOUT)
            velocity = self.transformer(
                (1 - weight) * latents + weight * noise,
                timestep=1000 * (time[:, 0] if frames == 1 else time.repeat_interleave(frame_tokens, dim=1)),
                encoder_hidden_states=text,
                return_dict=False,
            )[0]
        return (velocity.float() - (noise - latents)).square().mean()


# A stage, and how often it draws pictures (1 latent frame) and clips of 3, 6 and 21.
STAGES: tuple[tuple[Stage, dict[int, float]], ...] = (
    (Stage("pictures", 0.25, 1.0, 0.8), {1: 1.0}),
    (Stage("short clips", 0.45, 0.8, 0.7), {3: 0.5, 1: 0.4, 6: 0.1}),
    (Stage("clips", 0.30, 0.7, 0.02), {21: 0.4, 6: 0.2, 3: 0.2, 1: 0.2}),
)

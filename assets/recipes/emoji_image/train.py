"""The diffusion transformer: rectified flow on latents, few tokens first, growing with replay of the smaller sizes."""

import random
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PixArtTransformer2DModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import Tensor
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from hasten.assets.recipes.emoji_image.model import LATENT_SCALE, MAX_TOKENS, TOKEN_PIXELS, set_resolution
from hasten.assets.recipes.emoji_image.progress import CHECKPOINT_EVERY, Clock, cosine, save_atomically
from hasten.assets.recipes.emoji_image.render import render
from hasten.assets.recipes.emoji_image.scenes import draw_scenes

Pool = tuple[Tensor, Tensor, Tensor]
CAPTION_DROPOUT = 0.1
MUON_RATE = 3e-3
ADAM_RATE = 1e-3


@dataclass(frozen=True)
class Size:
    """A picture size in a stage: how many latents are encoded ahead, the batch, and how often it is drawn.

    With `crop`, a step sees a square of so many pixels, its tokens at their places in the whole picture: attention to
    few tokens is cheap, and what makes an edge clean lies close by.
    """

    pixels: int
    pool: int
    batch: int
    weight: float
    crop: int | None = None

    @property
    def name(self) -> str:
        """As in the progress lines."""
        return f"{self.pixels} px" + (f" cut to {self.crop}" if self.crop else "")

    def draw_part(self) -> tuple[slice, slice]:
        """Rows and columns of tokens that a step sees."""
        if self.crop is None:
            return slice(None), slice(None)
        side = self.crop // TOKEN_PIXELS
        corner = torch.randint(self.pixels // TOKEN_PIXELS - side + 1, (2,)).tolist()
        return slice(corner[0], corner[0] + side), slice(corner[1], corner[1] + side)


@dataclass(frozen=True)
class Stage:
    """`share` of the training time on `sizes`; learning-rate factor from `start` to `end`; `average`: EMA decay."""

    name: str
    share: float
    sizes: tuple[Size, ...]
    start: float
    end: float
    average: float


STAGES = (
    Stage("64px", 0.24, (Size(64, 16_000, 48, 1.0),), 1.0, 0.8, 0.995),
    Stage("128px", 0.28, (Size(128, 5_000, 14, 0.4), Size(64, 16_000, 48, 0.6)), 0.8, 0.6, 0.995),
    Stage(
        "192px", 0.16, (Size(192, 3_000, 7, 0.5), Size(128, 5_000, 14, 0.2), Size(64, 16_000, 48, 0.3)), 0.6, 0.5, 0.995
    ),
    Stage(
        "384px",
        0.32,
        (Size(384, 2_000, 2, 0.25), Size(384, 2_000, 8, 0.35, crop=192), Size(192, 3_000, 7, 0.4)),
        0.5,
        0.01,
        0.995,
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
        with torch.autocast(vae.device.type, dtype=torch.bfloat16):
            latents.append(vae.encode(pictures.to(vae.device)).latent_dist.mean.half().cpu())
    captions = [scene.caption(concepts) for scene in scenes]
    tokens = tokenizer(captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt")
    pool = torch.cat(latents), tokens.input_ids, tokens.attention_mask
    save_atomically(pool, stored)
    return pool


class Trainer:
    """Text encoder and transformer with their optimizers and running average."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, text_encoder: T5EncoderModel, transformer: PixArtTransformer2DModel
    ) -> None:
        # On a CPU plain matrix products train faster than the fused kernel, whose backward is slow on few tokens.
        transformer.set_attn_processor(AttnProcessor() if transformer.device.type == "cpu" else AttnProcessor2_0())
        self.text_encoder, self.transformer = text_encoder, transformer
        self.device = transformer.device
        self.parameters = [*transformer.parameters(), *text_encoder.parameters()]
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        self.step = 0
        empty = tokenizer("", padding="max_length", max_length=MAX_TOKENS, return_tensors="pt")
        self.empty = empty.input_ids[0], empty.attention_mask[0]
        blocks = transformer.transformer_blocks.named_parameters()
        matrices = [parameter for name, parameter in blocks if name.endswith("weight") and parameter.ndim == 2]
        chosen = {id(parameter) for parameter in matrices}
        rest = [parameter for parameter in self.parameters if id(parameter) not in chosen]
        self.optimizers: list[tuple[torch.optim.Optimizer, float]] = [
            (torch.optim.Muon(matrices, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"), MUON_RATE),
            (torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.01, fused=True), ADAM_RATE),
        ]

    def loss(self, latents: Tensor, ids: Tensor, mask: Tensor, pixels: int) -> Tensor:
        """Mean squared error of the velocity noise - latents at times that are later (noisier) for larger pictures."""
        batch = len(latents)
        noise = torch.randn_like(latents)
        time = torch.sigmoid(0.2 + 1.1 * torch.randn(batch, device=self.device))
        shift = (pixels / 64) ** 0.6
        time = (shift * time / (1 + (shift - 1) * time)).clamp(1e-3, 0.9995)
        weight = time.view(-1, 1, 1, 1)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            text = self.text_encoder(input_ids=ids, attention_mask=mask)[0]
            velocity = self.transformer(
                (1 - weight) * latents + weight * noise,
                encoder_hidden_states=text,
                encoder_attention_mask=mask,
                timestep=time * 1000,
                added_cond_kwargs={"resolution": None, "aspect_ratio": None},
                return_dict=False,
            )[0]
        return (velocity.float() - (noise - latents)).square().mean()

    def update(self, factor: float, decay: float) -> None:
        """One optimizer step at `factor` times the learning rates, then the running average."""
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer, rate in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        with torch.no_grad():
            values = [parameter.detach() for parameter in self.parameters]
            torch._foreach_lerp_(self.average, values, 1 - min(decay, (self.step + 1) / (self.step + 10)))

    def state(self) -> dict:
        """Everything that a resumed run needs."""
        return {
            "text_encoder": self.text_encoder.state_dict(),
            "transformer": self.transformer.state_dict(),
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer, _ in self.optimizers],
            "step": self.step,
        }

    def load(self, state: dict) -> None:
        """Continue from `state()`."""
        self.text_encoder.load_state_dict(state["text_encoder"])
        self.transformer.load_state_dict(state["transformer"])
        self.average, self.step = state["average"], state["step"]
        for (optimizer, _), saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def use_average(self) -> None:
        """Replace the weights by their running average, for evaluation and saving."""
        with torch.no_grad():
            for parameter, value in zip(self.parameters, self.average, strict=True):
                parameter.copy_(value)


def cut(grids: Tensor, part: tuple[slice, slice], side: int = TOKEN_PIXELS // LATENT_SCALE) -> Tensor:
    """The part of (N, C, h, w) under some rows and columns of tokens of `side` x `side` each: latents, or pixels."""
    rows, columns = (slice(s.start and s.start * side, s.stop and s.stop * side) for s in part)
    return grids[..., rows, columns]


def run_stage(trainer: Trainer, stage: Stage, pools: dict[int, Pool], clock: Clock, checkpoint: Path) -> None:
    """Train within the clock's budget, with a checkpoint every two minutes."""
    torch.manual_seed(trainer.step)
    rng = random.Random(trainer.step)
    losses: dict[str, list[float]] = {size.name: [] for size in stage.sizes}
    saved = reported = clock.spent
    weights = [size.weight for size in stage.sizes]
    for share in clock.ticks():
        size = rng.choices(stage.sizes, weights)[0]
        latents, ids, mask = pools[size.pixels]
        chosen = torch.randint(len(latents), (size.batch,))
        dropped = torch.rand(size.batch, 1) < CAPTION_DROPOUT
        part = size.draw_part()
        set_resolution(trainer.transformer, size.pixels, part)
        loss = trainer.loss(
            cut(latents[chosen], part).float().to(trainer.device),
            torch.where(dropped, trainer.empty[0], ids[chosen]).to(trainer.device),
            torch.where(dropped, trainer.empty[1], mask[chosen]).to(trainer.device),
            size.pixels,
        )
        loss.backward()
        trainer.update(
            cosine(share, stage.start, stage.end, warmup=0.02 if trainer.step > 200 else 0.05), stage.average
        )
        losses[size.name].append(loss.item())
        if clock.spent - reported > 30:
            reported = clock.spent
            means = "  ".join(f"{name} {sum(v[-60:]) / max(1, len(v[-60:])):.4f}" for name, v in losses.items())
            print(f"{stage.name} step {trainer.step} {clock.spent:.0f}/{clock.budget:.0f} s  loss {means}", flush=True)
        if clock.spent - saved > CHECKPOINT_EVERY:
            saved = clock.spent
            save_atomically(trainer.state() | {"stage": stage.name, "spent": clock.spent}, checkpoint)
    save_atomically(trainer.state() | {"stage": stage.name, "spent": clock.spent}, checkpoint)

"""The autoencoder: a small `AutoencoderKL`, 8x down, trained on crops of scenes at every size.

One latent pixel is one token of the transformer. Its sixteen numbers say what 8 x 8 pixels look like, and the decoder,
which sees the neighbours, draws the edges. Latents are learned under noise, so that what lies close together looks
alike.

Three of the channels are taught to be the picture itself, averaged over 8 x 8 pixels; the others are free for detail.
Colours are then right from the first minutes of training, and a resized latent is a resized picture. Detail channels
are scaled down, so that the transformer spends its capacity on colour and shape first.
"""

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from hasten.assets.recipes.common.precision import mixed_precision
from hasten.assets.recipes.emoji_image.progress import CHECKPOINT_EVERY, Clock, cosine, save_atomically
from hasten.assets.recipes.emoji_image.render import render
from hasten.assets.recipes.emoji_image.scenes import draw_scenes

CROP = 64
SOURCE_SIZES = (64, 128, 192, 384)
BATCH = 16
LEARNING_RATE = 2e-3
KL_WEIGHT = 3e-4
LATENT_CHANNELS = 16
LATENT_SCALE = 8
LATENT_NOISE = 0.15
"""The most noise that latents are learned under, in standard deviations of their channel."""
COLOUR_CHANNELS = 3
COLOUR_WEIGHT = 4.0
DETAIL_STD = 0.6


def build() -> AutoencoderKL:
    """An untrained autoencoder that makes no assumption on the size (no attention in the middle)."""
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(16, 32, 96, 128),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=384,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )
    with torch.no_grad():  # start far from posterior collapse: log-variance near -5
        vae.quant_conv.bias[LATENT_CHANNELS:] = -5.0
        vae.quant_conv.weight[LATENT_CHANNELS:] *= 0.1
    return vae


def _crops(maps: list[Tensor], num_concepts: int, rng: random.Random, device: torch.device) -> Tensor:
    scenes = draw_scenes(num_concepts, rng, held_out=False)
    crops = []
    for _ in range(BATCH):
        pixels = rng.choice(SOURCE_SIZES)
        picture = render(next(scenes), maps, pixels, rng)
        corners = [[rng.randrange(0, pixels - CROP + 1, LATENT_SCALE) for _ in range(2)] for _ in range(2)]
        windows = [picture[:, top : top + CROP, left : left + CROP] for top, left in corners]
        crops.append(max(windows, key=lambda window: window.std().item()))  # of two the one with more to draw
    return torch.stack(crops).to(device)


def _crops_of_drafts(drafts: tuple[Tensor, Tensor], count: int) -> tuple[Tensor, Tensor]:
    """Latents (count, C, 8, 8) and pictures (count, 3, 64, 64) of random places in random drafts."""
    side, latents, pictures = CROP // LATENT_SCALE, [], []
    for index in torch.randint(len(drafts[0]), (count,)).tolist():
        top, left = torch.randint(drafts[0].shape[-1] - side + 1, (2,)).tolist()
        latents.append(drafts[0][index, :, top : top + side, left : left + side].float())
        y, x = LATENT_SCALE * top, LATENT_SCALE * left
        pictures.append(drafts[1][index, :, y : y + CROP, x : x + CROP].float())
    return torch.stack(latents), torch.stack(pictures)


def _edges(pictures: Tensor) -> tuple[Tensor, Tensor]:
    return pictures.diff(dim=-1), pictures.diff(dim=-2)


def _reconstruction_loss(decoded: Tensor, pictures: Tensor) -> Tensor:
    """L1 + L2 + half the L1 of the gradients, which keeps outlines crisp."""
    edges = sum((a - b).abs().mean() for a, b in zip(_edges(decoded), _edges(pictures), strict=True))
    return (decoded - pictures).abs().mean() + F.mse_loss(decoded, pictures) + 0.5 * edges


def train(
    vae: AutoencoderKL,
    maps: list[Tensor],
    num_concepts: int,
    clock: Clock,
    checkpoint: Path,
    *,
    decoder_only: bool = False,
    drafts: tuple[Tensor, Tensor] | None = None,
) -> None:
    """Train `vae` in place within the clock's budget, resuming from `checkpoint` if it is there.

    With `decoder_only` the encoder stays as it is and the decoder learns to draw cleanly from latents with errors such
    as a diffusion transformer leaves: white noise and, where there are `drafts`, latents (N, C, 24, 24) that a
    transformer drew and what they should be, in half of each batch.
    """
    device = next(vae.parameters()).device
    parameters = [p for n, p in vae.named_parameters() if not decoder_only or n.startswith(("decoder", "post_quant"))]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=1e-4, fused=True)
    average = [p.detach().clone() for p in parameters]
    step = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device)
        vae.load_state_dict(state["vae"])
        optimizer.load_state_dict(state["optimizer"])
        average, step, clock.spent = state["average"], state["step"], state["spent"]
    rng = random.Random(1000 * decoder_only + step)
    start = LEARNING_RATE / 2 if decoder_only else LEARNING_RATE
    saved, loss_sum = clock.spent, 0.0
    for share in clock.ticks():
        for group in optimizer.param_groups:
            group["lr"] = cosine(share, start, start * 0.02, warmup=0.02)
        pictures = _crops(maps, num_concepts, rng, device)
        with mixed_precision(device):
            mean, log_variance = vae.quant_conv(vae.encoder(pictures)).float().chunk(2, dim=1)
            spread = mean.detach().std((0, 2, 3), keepdim=True)
            noise = LATENT_NOISE * torch.rand(BATCH, 1, 1, 1, device=device) * spread * torch.randn_like(mean)
            if decoder_only:
                latents = (mean + noise).detach()
                if drafts is not None:
                    latents[: BATCH // 2], pictures[: BATCH // 2] = _crops_of_drafts(drafts, BATCH // 2)
                regulariser = mean.new_zeros(())
            else:
                log_variance = log_variance.clamp(-20, 10)
                latents = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean) + noise
                divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
                colour = F.mse_loss(mean[:, :COLOUR_CHANNELS], F.avg_pool2d(pictures, LATENT_SCALE))
                regulariser = KL_WEIGHT * divergence + COLOUR_WEIGHT * colour
            decoded = vae.decoder(vae.post_quant_conv(latents)).float()
        loss = _reconstruction_loss(decoded, pictures)
        (loss + regulariser).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        vae.zero_grad(set_to_none=True)
        step += 1
        decay = min(0.995, step / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - decay)
        loss_sum += F.mse_loss(decoded.detach(), pictures).item()
        if step % 100 == 0:
            psnr = 10 * torch.log10(torch.tensor(4 / (loss_sum / 100))).item()
            print(
                f"autoencoder step {step} {clock.spent:.0f}/{clock.budget:.0f} s  train PSNR {psnr:.2f} dB", flush=True
            )
            loss_sum = 0.0
        if clock.spent - saved > CHECKPOINT_EVERY:
            saved = clock.spent
            state = {"vae": vae.state_dict(), "optimizer": optimizer.state_dict(), "average": average}
            save_atomically(state | {"step": step, "spent": clock.spent}, checkpoint)
    with torch.no_grad():
        for parameter, value in zip(parameters, average, strict=True):
            parameter.copy_(value)


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, maps: list[Tensor], num_concepts: int) -> None:
    """Fold mean and scale of the latents into the 1x1 convolutions, so that `scaling_factor` is 1.

    `PixArtSigmaPipeline` divides by `scaling_factor` and ignores `shift_factor`; the fold is exact and needs neither.
    """
    rng = random.Random(7)
    scenes = draw_scenes(num_concepts, rng, held_out=False)
    device = next(vae.parameters()).device
    latents = []
    for pixels, count in ((64, 256), (192, 64)):
        pictures = torch.stack([render(next(scenes), maps, pixels, rng) for _ in range(count)]).to(device)
        latents.append(vae.encode(pictures).latent_dist.mean.transpose(0, 1).flatten(1))
    mean = sum(z.mean(1) for z in latents) / 2
    std = (sum(z.var(1) for z in latents) / 2).sqrt()
    std[COLOUR_CHANNELS:] /= DETAIL_STD
    channels = len(mean)
    vae.quant_conv.weight[:channels] /= std[:, None, None, None]
    vae.quant_conv.bias[:channels] = (vae.quant_conv.bias[:channels] - mean) / std
    vae.quant_conv.bias[channels:] -= 2 * std.log()
    vae.post_quant_conv.bias += vae.post_quant_conv.weight[:, :, 0, 0] @ mean
    vae.post_quant_conv.weight *= std[None, :, None, None]


@torch.no_grad()
def reconstruction_psnr(
    vae: AutoencoderKL, maps: list[Tensor], num_concepts: int, pixels: int, count: int = 12
) -> float:
    """PSNR in dB of decode(encode(picture)) over `count` held-out scenes: the ceiling for generated pictures."""
    rng = random.Random(11)
    scenes = draw_scenes(num_concepts, rng, held_out=True)
    pictures = torch.stack([render(next(scenes), maps, pixels, rng) for _ in range(count)]).to(vae.device)
    decoded = vae.decode(vae.encode(pictures).latent_dist.mean).sample.clamp(-1, 1)
    return (10 * torch.log10(4 / F.mse_loss(decoded, pictures))).item()

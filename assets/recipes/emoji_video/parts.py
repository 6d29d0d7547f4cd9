"""What both video recipes need before they train a transformer: artwork and a trained autoencoder."""

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from torch import Tensor

from hasten.app.metrics.caption_accuracy import icons
from hasten.assets import model_path
from hasten.assets.recipes.common.learner import run_stages
from hasten.assets.recipes.emoji_image.artwork import load_artwork
from hasten.assets.recipes.emoji_video import autoencoder
from hasten.assets.recipes.emoji_video.scenes import THINGS

ARTWORK_PIXELS = 256


def artwork(things: int, work: Path, *, bundled: bool) -> Tensor:
    """Premultiplied RGBA pictures (things, 4, S, S) in [0, 1] of the first `things`.

    They come from the artwork's package, S = 256, or with `bundled`, and no download, from the sheet of the bundled
    image model, S = 64.
    """
    if bundled:
        names, maps = icons(model_path("emoji-image"))
        return maps[0][[names.index(name) for name in THINGS[:things]]]
    return F.interpolate(load_artwork(THINGS[:things], work), size=(ARTWORK_PIXELS, ARTWORK_PIXELS), mode="area")


def train_autoencoder(maps: list[Tensor], seconds: float, work: Path, device: torch.device) -> AutoencoderKLWan:
    """A trained autoencoder whose configuration normalises its latents, or what an earlier run finished."""
    vae = autoencoder.build().to(device)
    lessons = autoencoder.Lessons(vae, maps)
    finished = work / "autoencoder"
    if not finished.exists():
        whole, decoder = autoencoder.WHOLE, autoencoder.DECODER
        everything = autoencoder.learner(vae, decoder_only=False)
        run_stages(everything, [(whole, lessons.whole)], seconds, work / "autoencoder.ckpt")
        autoencoder.normalise_latents(vae, maps)
        drawing = autoencoder.learner(vae, decoder_only=True)
        run_stages(drawing, [(decoder, lessons.decoder)], seconds, work / "decoder.ckpt")
        part = work / "autoencoder.part"
        vae.save_pretrained(part)
        part.rename(finished)
    return AutoencoderKLWan.from_pretrained(finished).to(device).eval().requires_grad_(False)

"""What both video recipes need before they train a transformer: artwork and a trained autoencoder."""

from dataclasses import replace
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
    finished = work / "autoencoder"
    if not finished.exists():
        lessons = autoencoder.Lessons(vae, maps)
        everything = autoencoder.learner(vae, decoder_only=False)
        run_stages(everything, [(autoencoder.WHOLE, lessons.whole)], seconds, work / "autoencoder.ckpt")
        autoencoder.normalise_latents(vae, maps)
        train_decoder(vae, maps, autoencoder.DECODER.share * seconds, work)
        part = work / "autoencoder.part"
        vae.save_pretrained(part)
        part.rename(finished)
    return AutoencoderKLWan.from_pretrained(finished).to(device).eval().requires_grad_(False)


def train_decoder(vae: AutoencoderKLWan, maps: list[Tensor], seconds: float, work: Path) -> None:
    """Train the decoder of `vae` in place, or load what an earlier run finished; its latents stay what they are."""
    stage = replace(autoencoder.DECODER, share=1.0)
    lessons = autoencoder.Lessons(vae, maps)
    run_stages(autoencoder.learner(vae, decoder_only=True), [(stage, lessons.decoder)], seconds, work / "decoder.ckpt")

"""Make the bundled model `emoji-video`: `python -m hasten.assets.recipes.emoji_video --out FOLDER --work FOLDER`."""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from hasten.assets.recipes.common.learner import Learner, muon_and_adam, run_stages
from hasten.assets.recipes.emoji_image.artwork import LICENSE, PACKAGE, atlas
from hasten.assets.recipes.emoji_image.progress import save_atomically
from hasten.assets.recipes.emoji_image.render import mipmaps
from hasten.assets.recipes.emoji_video import autoencoder
from hasten.assets.recipes.emoji_video.card import write_card
from hasten.assets.recipes.emoji_video.evaluate import GUIDANCE, held_out_records, measure
from hasten.assets.recipes.emoji_video.glances import look_back
from hasten.assets.recipes.emoji_video.model import (
    MAX_TOKENS,
    assemble,
    build_text_encoder,
    build_tokenizer,
    build_transformer,
)
from hasten.assets.recipes.emoji_video.parts import ARTWORK_PIXELS, artwork, train_autoencoder
from hasten.assets.recipes.emoji_video.reading import learn_to_read
from hasten.assets.recipes.emoji_video.scenes import FRAMES_PER_SECOND, THINGS
from hasten.assets.recipes.emoji_video.settings import SHIPPED, SMOKE, Settings
from hasten.assets.recipes.emoji_video.train import LONG_FRAMES, STAGES, Lessons, Reader, encode_pool

AUTOENCODER_SHARE = 0.28
COMMAND = "python -m hasten.assets.recipes.emoji_video"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished pipeline; must not exist")
    parser.add_argument("--work", type=Path, required=True, help="downloads and checkpoints; run again to resume")
    parser.add_argument("--prompts", type=Path, help="where to write the held-out scenes (JSON lines)")
    parser.add_argument("--minutes", type=float, default=70, help="training time without encoding and evaluation")
    parser.add_argument("--smoke", action="store_true", help="a toy of a model, to see that every part works")
    arguments = parser.parse_args()
    if arguments.out.exists():
        parser.error(f"{arguments.out} exists; name a new folder or move that one away.")
    return arguments


def _read(text_encoder: UMT5EncoderModel, tokenizer: PreTrainedTokenizerFast, things: int, finished: Path) -> None:
    """Teach the text encoder to read, or load what an earlier run taught."""
    if not finished.exists():
        print(f"reading: error {learn_to_read(text_encoder, tokenizer, things):.5f}", flush=True)
        save_atomically(text_encoder.state_dict(), finished)
    text_encoder.load_state_dict(torch.load(finished, map_location=text_encoder.device))


def _train(
    settings: Settings, vae: AutoencoderKLWan, maps: list[Tensor], seconds: float, work: Path
) -> tuple[Reader, Any, Any, int]:
    """Tokenizer, text encoder and transformer, trained, and the number of steps."""
    tokenizer = build_tokenizer()
    text_encoder = build_text_encoder(len(tokenizer)).to(vae.device)
    _read(text_encoder, tokenizer, settings.things, work / "reading.pt")
    transformer = build_transformer(settings.heads, settings.layers)
    look_back(transformer, settings.pixels)
    transformer.to(vae.device)
    pictures, clips = (
        encode_pool(vae, maps, tokenizer, scenes=scenes, latent_frames=frames, pixels=settings.pixels, cache=work)
        for scenes, frames in ((settings.pictures, 1), (settings.clips, LONG_FRAMES))
    )
    others = [p for name, p in transformer.named_parameters() if not name.startswith("blocks.")]
    learner = Learner(
        {"text_encoder": text_encoder, "transformer": transformer},
        muon_and_adam(transformer.blocks, [*others, *text_encoder.parameters()]),
    )
    lessons = Lessons(Reader(tokenizer, text_encoder, transformer), transformer, pictures, clips)
    stages = [(stage, lessons.draw(shares)) for stage, shares in STAGES]
    run_stages(learner, stages, seconds, work / "transformer.ckpt")
    return tokenizer, text_encoder, transformer, learner.step


def _call(settings: Settings) -> dict[str, Any]:
    """The pipeline's arguments that a card suggests."""
    return {
        "height": settings.pixels,
        "width": settings.pixels,
        "num_frames": settings.frames,
        "num_inference_steps": settings.steps,
        "guidance_scale": GUIDANCE,
        "max_sequence_length": MAX_TOKENS,
    }


def main() -> None:
    """Fetch, render, train, evaluate, write the pipeline and its card."""
    arguments = _arguments()
    settings = SMOKE if arguments.smoke else SHIPPED
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    pictures = artwork(settings.things, arguments.work, bundled=arguments.smoke)
    maps = mipmaps(pictures, levels=2)

    seconds = 60 * arguments.minutes
    vae = train_autoencoder(maps, seconds * AUTOENCODER_SHARE, arguments.work, device)
    psnr = autoencoder.reconstruction_psnr(vae, maps, settings.pixels, settings.frames, min(8, settings.judged))
    print(f"autoencoder: {psnr:.2f} dB on held-out clips", flush=True)
    tokenizer, text_encoder, transformer, steps = _train(
        settings, vae, maps, seconds * (1 - AUTOENCODER_SHARE), arguments.work
    )

    # The text encoder stays in float32: transformers loads it in its stored dtype, diffusers upcasts the rest.
    part = arguments.out.with_name(arguments.out.name + ".part")
    assemble(tokenizer, text_encoder, transformer.bfloat16(), vae.bfloat16()).save_pretrained(part)
    atlas(pictures).save(part / "icons.png", optimize=True)
    card: dict[str, Any] = {
        "call": _call(settings),
        "sizes": [settings.pixels],
        "fps": FRAMES_PER_SECOND,
        "tokens": settings.latent_frames * settings.frame_tokens,
        "concepts": THINGS[: settings.things],
        "artwork": {"package": PACKAGE, "license": LICENSE, "pixels": ARTWORK_PIXELS},
        "autoencoder_psnr": round(psnr, 2),
        "training": {
            "command": f"{COMMAND} --minutes {arguments.minutes:g}",
            "steps": steps,
            "device": device.type,
            "torch": torch.__version__,
        },
    }
    (part / "hasten.json").write_text(json.dumps(card))
    records = held_out_records(settings.things, settings.judged)
    if arguments.prompts:
        arguments.prompts.write_text("".join(json.dumps(record) + "\n" for record in records))
    measured = measure(part, records, card["call"], arguments.work)
    print(json.dumps(measured), flush=True)
    write_card(part, card | {"measured": measured})
    part.rename(arguments.out)  # only now: a run interrupted while judging can be started again


if __name__ == "__main__":
    main()

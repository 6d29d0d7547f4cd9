"""Make the bundled model `emoji-video`: `python -m hasten.assets.recipes.emoji_video --out FOLDER --work FOLDER`."""

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from hasten.assets import CARD, read_card
from hasten.assets.recipes.common.learner import Learner, muon_and_adam, run_stages
from hasten.assets.recipes.common.precision import training_device
from hasten.assets.recipes.common.publishing import publish, write_prompts
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
from hasten.assets.recipes.emoji_video.parts import ARTWORK_PIXELS, artwork, train_autoencoder, train_decoder
from hasten.assets.recipes.emoji_video.reading import learn_to_read
from hasten.assets.recipes.emoji_video.scenes import FRAMES_PER_SECOND, THINGS
from hasten.assets.recipes.emoji_video.settings import SHIPPED, SMOKE, Settings
from hasten.assets.recipes.emoji_video.train import LONG_FRAMES, STAGES, Lessons, Reader, encode_pool

Parts = tuple[AutoencoderKLWan, PreTrainedTokenizerFast, UMT5EncoderModel, WanTransformer3DModel]
AUTOENCODER_SHARE = 0.28
DECODER_SHARE = 0.15
"""Of a run that goes on from a finished pipeline, whose latents stay as they are."""
COMMAND = "python -m hasten.assets.recipes.emoji_video"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished pipeline; must not exist")
    parser.add_argument("--work", type=Path, required=True, help="downloads and checkpoints; run again to resume")
    parser.add_argument(
        "--start", type=Path, help="a pipeline that this recipe made: go on with its decoder and its last stage"
    )
    parser.add_argument("--prompts", type=Path, help="where to write the held-out scenes (JSON lines)")
    parser.add_argument("--minutes", type=float, default=70, help="training time without encoding and evaluation")
    parser.add_argument("--smoke", action="store_true", help="a toy of a model, to see that every part works")
    arguments = parser.parse_args()
    if arguments.out.exists():
        parser.error(f"{arguments.out} exists; name a new folder or move that one away.")
    if arguments.start and not (arguments.start / CARD).is_file():
        parser.error(
            f"{arguments.start} is no pipeline of this recipe; name a folder with model_index.json and {CARD}."
        )
    return arguments


def _read(text_encoder: UMT5EncoderModel, tokenizer: PreTrainedTokenizerFast, things: int, finished: Path) -> None:
    """Teach the text encoder to read, or load what an earlier run taught."""
    if not finished.exists():
        print(f"reading: error {learn_to_read(text_encoder, tokenizer, things):.5f}", flush=True)
        save_atomically(text_encoder.state_dict(), finished)
    text_encoder.load_state_dict(torch.load(finished, map_location=text_encoder.device))


def _begin(arguments: argparse.Namespace, settings: Settings, maps: list[Tensor], device: torch.device) -> Parts:
    """A trained autoencoder, a text encoder that can read, and a transformer that looks where things come from."""
    vae = train_autoencoder(maps, 60 * arguments.minutes * AUTOENCODER_SHARE, arguments.work, device)
    tokenizer = build_tokenizer()
    text_encoder = build_text_encoder(len(tokenizer)).to(device)
    _read(text_encoder, tokenizer, settings.things, arguments.work / "reading.pt")
    transformer = build_transformer(settings.heads, settings.layers)
    look_back(transformer, settings.pixels)
    return vae, tokenizer, text_encoder, transformer.to(device)


def _go_on(arguments: argparse.Namespace, maps: list[Tensor], device: torch.device) -> Parts:
    """The parts of a finished pipeline; its decoder learns on before the transformer does."""
    pipeline = WanPipeline.from_pretrained(arguments.start, dtype=torch.float32).to(device)
    vae = pipeline.vae
    train_decoder(vae, maps, 60 * arguments.minutes * DECODER_SHARE, arguments.work)
    vae.eval().requires_grad_(False)
    return vae, build_tokenizer(), pipeline.text_encoder, pipeline.transformer


def _train(arguments: argparse.Namespace, settings: Settings, parts: Parts, maps: list[Tensor]) -> int:
    """Train text encoder and transformer in place; returns the number of steps."""
    vae, tokenizer, text_encoder, transformer = parts
    pictures, clips = (
        encode_pool(
            vae, maps, tokenizer, scenes=scenes, latent_frames=frames, pixels=settings.pixels, cache=arguments.work
        )
        for scenes, frames in ((settings.pictures, 1), (settings.clips, LONG_FRAMES))
    )
    others = [p for name, p in transformer.named_parameters() if not name.startswith("blocks.")]
    learner = Learner(
        {"text_encoder": text_encoder, "transformer": transformer},
        muon_and_adam(transformer.blocks, [*others, *text_encoder.parameters()]),
    )
    lessons = Lessons(Reader(tokenizer, text_encoder, transformer), transformer, pictures, clips)
    chosen = [(replace(STAGES[-1][0], share=1.0), STAGES[-1][1])] if arguments.start else STAGES
    seconds = 60 * arguments.minutes * (1 - (DECODER_SHARE if arguments.start else AUTOENCODER_SHARE))
    stages = [(stage, lessons.draw(shares)) for stage, shares in chosen]
    run_stages(learner, stages, seconds, arguments.work / "transformer.ckpt")
    return learner.step


def _training(arguments: argparse.Namespace, steps: int, device: torch.device) -> dict[str, Any]:
    """What the card says of the training: that of the pipeline that the run began with included."""
    command = f"{COMMAND} --minutes {arguments.minutes:g}"
    if arguments.start:
        before = read_card(arguments.start)["training"]
        command, steps = f"{before['command']}, then {command} --start …", before["steps"] + steps
    return {"command": command, "steps": steps, "device": device.type, "torch": torch.__version__}


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


def _judge(arguments: argparse.Namespace, settings: Settings, model: Path) -> list[dict[str, Any]]:
    """Judge the saved model on held-out scenes, which become the bundled prompts."""
    records = held_out_records(settings.things, settings.judged)
    write_prompts(records, arguments.prompts)
    measured = measure(model, records, _call(settings), arguments.work)
    print(json.dumps(measured), flush=True)
    return measured


def main() -> None:
    """Fetch, render, train, evaluate, write the pipeline and its card."""
    arguments = _arguments()
    settings = SMOKE if arguments.smoke else SHIPPED
    device = training_device()
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    pictures = artwork(settings.things, arguments.work, bundled=arguments.smoke)
    maps = mipmaps(pictures, levels=2)

    parts = _go_on(arguments, maps, device) if arguments.start else _begin(arguments, settings, maps, device)
    vae, tokenizer, text_encoder, transformer = parts
    psnr = autoencoder.reconstruction_psnr(vae, maps, settings.pixels, settings.frames, min(8, settings.judged))
    print(f"autoencoder: {psnr:.2f} dB on held-out clips", flush=True)
    steps = _train(arguments, settings, parts, maps)

    # The text encoder stays in float32: transformers loads it in its stored dtype, diffusers upcasts the rest.
    pipeline = assemble(tokenizer, text_encoder, transformer.bfloat16(), vae.bfloat16())
    card: dict[str, Any] = {
        "call": _call(settings),
        "sizes": [settings.pixels],
        "fps": FRAMES_PER_SECOND,
        "tokens": settings.latent_frames * settings.frame_tokens,
        "concepts": THINGS[: settings.things],
        "artwork": {"package": PACKAGE, "license": LICENSE, "pixels": ARTWORK_PIXELS},
        "autoencoder_psnr": round(psnr, 2),
        "training": _training(arguments, steps, device),
    }
    publish(pipeline, atlas(pictures), card, arguments.out, partial(_judge, arguments, settings), write_card)


if __name__ == "__main__":
    main()

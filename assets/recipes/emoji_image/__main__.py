"""Make the bundled model `emoji-image`: `python -m hasten.assets.recipes.emoji_image --out FOLDER`."""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, PixArtSigmaPipeline, PixArtTransformer2DModel
from torch import Tensor
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from hasten.assets import CARD, read_card
from hasten.assets.recipes.common.learner import run_stages
from hasten.assets.recipes.common.precision import training_device
from hasten.assets.recipes.common.publishing import publish, write_prompts
from hasten.assets.recipes.emoji_image import autoencoder
from hasten.assets.recipes.emoji_image.artwork import LICENSE, PACKAGE, PIXELS, atlas, load_artwork
from hasten.assets.recipes.emoji_image.card import write_card
from hasten.assets.recipes.emoji_image.concepts import ICONS
from hasten.assets.recipes.emoji_image.drafts import Drafts, make_drafts
from hasten.assets.recipes.emoji_image.evaluate import CALL, held_out_records, measure
from hasten.assets.recipes.emoji_image.model import (
    NATIVE_PIXELS,
    assemble,
    build_text_encoder,
    build_tokenizer,
    build_transformer,
)
from hasten.assets.recipes.emoji_image.progress import Clock, save_atomically
from hasten.assets.recipes.emoji_image.reading import STEPS, learn_to_read
from hasten.assets.recipes.emoji_image.render import mipmaps
from hasten.assets.recipes.emoji_image.routing import look_by_place
from hasten.assets.recipes.emoji_image.spelling import CODE_WIDTH, spell
from hasten.assets.recipes.emoji_image.train import STAGES, Lessons, Pool, encode_pool, make_learner

Parts = tuple[AutoencoderKL, PreTrainedTokenizerFast, T5EncoderModel, PixArtTransformer2DModel]
ENCODER_SHARE = 0.08
DECODER_SHARE = 0.06
DRAFTS = 240
COMMAND = "python -m hasten.assets.recipes.emoji_image"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished pipeline; must not exist")
    parser.add_argument("--work", type=Path, required=True, help="downloads and checkpoints; run again to resume")
    parser.add_argument("--start", type=Path, help="a pipeline that this recipe made: go on with its last stage")
    parser.add_argument("--prompts", type=Path, help="where to write the held-out scenes (JSON lines)")
    parser.add_argument("--minutes", type=float, default=200, help="training time without rendering and evaluation")
    parser.add_argument("--concepts", type=int, default=96 if not torch.cuda.is_available() else 200)
    parser.add_argument("--heads", type=int, default=4, help="attention heads of 64 channels")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument(
        "--judge", type=int, nargs=2, default=(96, 32), help="held-out scenes to generate at half and at full size"
    )
    arguments = parser.parse_args()
    if arguments.out.exists():
        parser.error(f"{arguments.out} exists; name a new folder or move that one away.")
    if arguments.start and not (arguments.start / CARD).is_file():
        parser.error(
            f"{arguments.start} is no pipeline of this recipe; name a folder with model_index.json and {CARD}."
        )
    if not 2 <= arguments.concepts <= len(ICONS):
        parser.error(f"--concepts {arguments.concepts} is out of range; the artwork list has 2 to {len(ICONS)}.")
    return arguments


def _autoencoder(
    vae: AutoencoderKL,
    work: Path,
    maps: list[Tensor],
    concepts: int,
    seconds: float,
    *,
    make_drafts: Callable[[], Drafts] | None = None,
) -> None:
    """Train `vae` in place, or load what an earlier run finished; its decoder alone where there is who makes drafts."""
    decoder_only = make_drafts is not None
    name = "decoder" if decoder_only else "autoencoder"
    finished = work / f"{name}.pt"
    if not finished.exists():
        vae.requires_grad_(True)
        drafts = make_drafts() if make_drafts else None
        checkpoint = work / f"{name}.ckpt"
        autoencoder.train(vae, maps, concepts, Clock(seconds), checkpoint, decoder_only=decoder_only, drafts=drafts)
        if not decoder_only:
            autoencoder.normalise_latents(vae, maps, concepts)
        save_atomically(vae.state_dict(), finished)
    vae.load_state_dict(torch.load(finished, map_location=vae.device))
    vae.eval().requires_grad_(False)


def _reading(
    text_encoder: T5EncoderModel,
    tokenizer: PreTrainedTokenizerFast,
    vae: AutoencoderKL,
    maps: list[Tensor],
    concepts: tuple[str, ...],
    arguments: argparse.Namespace,
) -> None:
    """Teach the text encoder to spell and to read, or load what an earlier run taught."""
    finished = arguments.work / "reading.pt"
    if not finished.exists():
        spell(text_encoder, tokenizer, vae, maps, concepts)
        error = learn_to_read(text_encoder, tokenizer, concepts, max(1, int(STEPS * _share(arguments))))
        print(f"reading: error {error:.4f}", flush=True)
        save_atomically(text_encoder.state_dict(), finished)
    text_encoder.load_state_dict(torch.load(finished, map_location=text_encoder.device))


def _begin(arguments: argparse.Namespace, maps: list[Tensor], concepts: tuple[str, ...], device: torch.device) -> Parts:
    """A trained autoencoder, a text encoder that can read, and a transformer that knows nothing."""
    vae = autoencoder.build().to(device)
    seconds = 60 * arguments.minutes * ENCODER_SHARE
    _autoencoder(vae, arguments.work, maps, len(concepts), seconds)
    tokenizer = build_tokenizer(concepts)
    text_encoder = build_text_encoder(len(tokenizer)).to(device)
    _reading(text_encoder, tokenizer, vae, maps, concepts, arguments)
    transformer = build_transformer(arguments.heads, arguments.layers)
    look_by_place(transformer, preferred=range(CODE_WIDTH))
    return vae, tokenizer, text_encoder, transformer.to(device)


def _go_on(folder: Path, concepts: tuple[str, ...], device: torch.device) -> Parts:
    """The parts of a finished pipeline."""
    pipeline = PixArtSigmaPipeline.from_pretrained(folder, torch_dtype=torch.float32).to(device)
    vae = pipeline.vae.requires_grad_(False)
    if vae.config.latent_channels != autoencoder.LATENT_CHANNELS:
        raise SystemExit(
            f"{COMMAND}: {folder} has {vae.config.latent_channels} latent channels, but this recipe trains models with "
            f"{autoencoder.LATENT_CHANNELS}; start from one that it made, or leave --start out."
        )
    return vae, build_tokenizer(concepts), pipeline.text_encoder, pipeline.transformer


def _training(arguments: argparse.Namespace, concepts: int, steps: int, device: torch.device) -> dict[str, Any]:
    """What the card says of the training: that of the pipeline that the run began with included."""
    command = f"{COMMAND} --minutes {arguments.minutes:g} --concepts {concepts}"
    if arguments.start:
        before = read_card(arguments.start)["training"]
        command, steps = f"{before['command']}, then {command} --start …", before["steps"] + steps
    return {"command": command, "steps": steps, "device": device.type, "torch": torch.__version__}


def _share(arguments: argparse.Namespace) -> float:
    """How much of what is drawn and read ahead a run of these minutes can afford."""
    return min(1.0, arguments.minutes / 120)


def _train(
    arguments: argparse.Namespace, parts: Parts, maps: list[Tensor], concepts: tuple[str, ...], checkpoint: Path
) -> int:
    """Train text encoder and transformer in place; returns the number of steps. A short run encodes fewer scenes."""
    vae, tokenizer, text_encoder, transformer = parts
    share = 1 - DECODER_SHARE - (0 if arguments.start else ENCODER_SHARE)
    chosen = [(replace(STAGES[-1][0], share=1.0), STAGES[-1][1])] if arguments.start else STAGES
    pools: dict[int, Pool] = {}
    for size in (size for _, sizes in chosen for size in sizes):
        if size.pixels not in pools:
            scenes = max(size.batch, int(size.pool * _share(arguments)))
            wanted = replace(size, pool=scenes)
            pools[size.pixels] = encode_pool(vae, maps, concepts, tokenizer, wanted, arguments.work)
    lessons = Lessons(tokenizer, text_encoder, transformer, pools)
    learner = make_learner(transformer, text_encoder)
    stages = [(stage, lessons.draw(sizes)) for stage, sizes in chosen]
    run_stages(learner, stages, 60 * arguments.minutes * share, checkpoint)
    return learner.step


def _measure(
    arguments: argparse.Namespace, model: Path, vae: AutoencoderKL, maps: list[Tensor], card: dict[str, Any]
) -> list[dict[str, Any]]:
    """Judge the saved model on held-out scenes at both sizes; the scenes become the bundled prompts."""
    records = held_out_records(card["concepts"], max(arguments.judge))
    write_prompts(records, arguments.prompts)
    measured = []
    for pixels, count in zip(card["sizes"], arguments.judge, strict=True):
        ceiling = autoencoder.reconstruction_psnr(vae.float(), maps, len(card["concepts"]), pixels)
        figures = measure(model, records[:count], pixels, vae.device, arguments.work / f"sheet_{pixels}.png")
        measured.append(figures | {"autoencoder_psnr": round(ceiling, 2)})
        print(json.dumps(measured[-1]), flush=True)
    return measured


def main() -> None:
    """Fetch, render, train, evaluate, write the pipeline and its card."""
    arguments = _arguments()
    device = training_device()
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    concepts = tuple(read_card(arguments.start)["concepts"]) if arguments.start else tuple(ICONS)[: arguments.concepts]
    artwork = load_artwork(concepts, arguments.work)
    maps = mipmaps(artwork)

    go_on = arguments.start is not None
    parts = _go_on(arguments.start, concepts, device) if go_on else _begin(arguments, maps, concepts, device)
    vae, tokenizer, text_encoder, transformer = parts
    steps = _train(arguments, parts, maps, concepts, arguments.work / "transformer.ckpt")
    seconds = 60 * arguments.minutes * DECODER_SHARE
    drafts = partial(make_drafts, vae, transformer, text_encoder, tokenizer, maps, concepts, DRAFTS)
    _autoencoder(vae, arguments.work, maps, len(concepts), seconds, make_drafts=drafts)

    # The text encoder stays in float32: transformers loads it in its stored dtype, diffusers upcasts the rest.
    pipeline = assemble(tokenizer, text_encoder, transformer.bfloat16(), vae.bfloat16())
    card: dict[str, Any] = {
        "call": CALL | {"height": NATIVE_PIXELS, "width": NATIVE_PIXELS},
        "sizes": [NATIVE_PIXELS // 2, NATIVE_PIXELS],
        "concepts": concepts,
        "artwork": {"package": PACKAGE, "license": LICENSE, "pixels": PIXELS},
        "training": _training(arguments, len(concepts), steps, device),
    }
    judge = partial(_measure, arguments, vae=vae, maps=maps, card=card)
    publish(pipeline, atlas(artwork), card, arguments.out, judge, write_card)


if __name__ == "__main__":
    main()

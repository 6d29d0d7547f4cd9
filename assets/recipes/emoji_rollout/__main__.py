"""Make the bundled model `emoji-rollout`: `python -m hasten.assets.recipes.emoji_rollout --base … --out … --work …`."""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline
from PIL import Image
from torch import Tensor

from hasten.assets import model_path, read_card
from hasten.assets.recipes.common.learner import Learner, muon_and_adam, run_stages
from hasten.assets.recipes.common.precision import training_device
from hasten.assets.recipes.common.publishing import publish, write_prompts
from hasten.assets.recipes.emoji_image.render import mipmaps
from hasten.assets.recipes.emoji_rollout.card import write_card
from hasten.assets.recipes.emoji_rollout.causal import CHUNK_FRAMES, CausalTransformer
from hasten.assets.recipes.emoji_rollout.evaluate import measure
from hasten.assets.recipes.emoji_rollout.train import (
    LONGEST_ROLLOUT,
    SHIFT,
    STAGES,
    STEPS,
    WINDOWS,
    Lessons,
)
from hasten.assets.recipes.emoji_video.autoencoder import TEMPORAL_STRIDE
from hasten.assets.recipes.emoji_video.evaluate import held_out_records
from hasten.assets.recipes.emoji_video.model import MAX_TOKENS
from hasten.assets.recipes.emoji_video.parts import artwork
from hasten.assets.recipes.emoji_video.scenes import FRAMES_PER_SECOND
from hasten.assets.recipes.emoji_video.settings import SHIPPED, SMOKE, Settings
from hasten.assets.recipes.emoji_video.train import LONG_FRAMES, Reader, encode_pool
from hasten.pipelines.self_forcing import SelfForcingWanPipeline

COMMAND = "python -m hasten.assets.recipes.emoji_rollout"
WINDOW_FRAMES = 21
TIMES = 4
"""How many times as long as the training of `emoji-video` the judged rollouts are."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--base", type=Path, help="folder of emoji-video; the bundled one if left out")
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished pipeline; must not exist")
    parser.add_argument("--work", type=Path, required=True, help="downloads and checkpoints; run again to resume")
    parser.add_argument("--prompts", type=Path, help="where to write the held-out scenes (JSON lines)")
    parser.add_argument("--minutes", type=float, default=40, help="training time without encoding and evaluation")
    parser.add_argument("--smoke", action="store_true", help="a toy of a model, to see that every part works")
    arguments = parser.parse_args()
    if arguments.out.exists():
        parser.error(f"{arguments.out} exists; name a new folder or move that one away.")
    return arguments


def _train(base: WanPipeline, maps: list[Tensor], settings: Settings, seconds: float, work: Path) -> int:
    """Make the transformer of `base` causal, in place; returns the number of steps."""
    pool = encode_pool(
        base.vae, maps, base.tokenizer, scenes=settings.clips, latent_frames=LONG_FRAMES,
        pixels=settings.pixels, cache=work,
    )  # fmt: skip
    transformer = base.transformer
    reader = Reader(base.tokenizer, base.text_encoder.requires_grad_(False), transformer)
    model = CausalTransformer(transformer)
    others = [p for name, p in transformer.named_parameters() if not name.startswith("blocks.")]
    learner = Learner({"transformer": transformer}, muon_and_adam(transformer.blocks, others))
    lessons = Lessons(reader, model, pool)
    stages = list(zip(STAGES, (lessons.teacher_forcing, lessons.rollouts), strict=True))
    run_stages(learner, stages, seconds, work / "rollout.ckpt")
    model.stock()
    return learner.step


def _assemble(base: WanPipeline, vae: AutoencoderKLWan, pixels: int) -> SelfForcingWanPipeline:
    """The pipeline of rollouts; text encoder and autoencoder are those of `base`."""
    return SelfForcingWanPipeline(
        tokenizer=base.tokenizer,
        text_encoder=base.text_encoder,
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        transformer=base.transformer.bfloat16(),
        chunk_frames=CHUNK_FRAMES,
        window_frames=WINDOW_FRAMES,
        num_inference_steps=STEPS,
        timestep_shift=SHIFT,
        sample_height=pixels,
        sample_width=pixels,
        max_sequence_length=MAX_TOKENS,
    )


def _judge(arguments: argparse.Namespace, settings: Settings, call: dict[str, Any], model: Path) -> dict[str, Any]:
    """Judge the saved model on held-out scenes, which become the bundled prompts."""
    records = held_out_records(settings.things, settings.judged)
    write_prompts(records, arguments.prompts)
    measured = measure(model, records, call, TIMES, arguments.work)
    print(json.dumps(measured), flush=True)
    return measured


def main() -> None:
    """Encode long scenes, train, evaluate, write the pipeline and its card."""
    arguments = _arguments()
    settings = SMOKE if arguments.smoke else SHIPPED
    folder = arguments.base or model_path("emoji-video")
    device = training_device()
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    base = WanPipeline.from_pretrained(folder, dtype=torch.float32).to(device)
    base.vae.requires_grad_(False)
    maps = mipmaps(artwork(settings.things, arguments.work, bundled=arguments.smoke), levels=2)
    steps = _train(base, maps, settings, 60 * arguments.minutes, arguments.work)

    trained = read_card(folder)
    frames = TEMPORAL_STRIDE * (TIMES * settings.latent_frames - 1) + 1
    card: dict[str, Any] = {
        "call": {
            "height": settings.pixels,
            "width": settings.pixels,
            "num_frames": frames,
            "num_inference_steps": STEPS,
            "max_sequence_length": MAX_TOKENS,
        },
        "sizes": [settings.pixels],
        "fps": FRAMES_PER_SECOND,
        "frame_tokens": settings.frame_tokens,
        "concepts": trained["concepts"],
        "artwork": trained["artwork"],
        "rollout": {
            "chunk_frames": CHUNK_FRAMES,
            "window_frames": WINDOW_FRAMES,
            "trained_windows": [CHUNK_FRAMES * chunks for chunks in WINDOWS],
            "longest_chunks": LONGEST_ROLLOUT,
            "trained_frames": settings.frames,
            "times": TIMES,
        },
        "training": {
            "command": f"{COMMAND} --minutes {arguments.minutes:g}",
            "updates": steps,
            "device": device.type,
            "torch": torch.__version__,
        },
    }
    pipeline = _assemble(base, base.vae.bfloat16(), settings.pixels)
    icons = Image.open(folder / "icons.png")
    publish(pipeline, icons, card, arguments.out, partial(_judge, arguments, settings, card["call"]), write_card)


if __name__ == "__main__":
    main()

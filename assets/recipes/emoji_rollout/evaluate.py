"""What a trained rollout model can do, measured stretch by stretch on scenes that training never showed."""

from pathlib import Path
from typing import Any

import torch

from hasten.app.metrics.motion_accuracy import motion_accuracy
from hasten.assets.recipes.common.precision import working_dtype
from hasten.assets.recipes.emoji_video.evaluate import Clip, film_strips, rounded, timed
from hasten.pipelines.self_forcing import SelfForcingWanPipeline


def measure(
    model: Path, records: list[dict[str, Any]], call: dict[str, Any], segments: int, work: Path
) -> dict[str, Any]:
    """Generate every record and judge it in `segments` stretches of equal length.

    Returns:
        `dict`: `frames`, `prompts`, `segments` (for each stretch the shares with the right `thing`, `colour`, `motion`
        and `all` of them), `seconds` for each video, and the `dtype` of model and cache. A film strip of each is left
        in `work`.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = working_dtype(device)
    pipeline = SelfForcingWanPipeline.from_pretrained(model, dtype=dtype).to(device)
    pipeline.set_progress_bar_config(disable=True)

    def generate(prompts: list[str], seeds: list[torch.Generator]) -> list[Clip]:
        return pipeline(prompts, generator=seeds, output_type="pil", **call).frames

    clips, seconds = timed(generate, records, batch=4)
    film_strips(clips, work / "strips_rollout.png")
    accuracy = [rounded(shares) for shares in motion_accuracy(model, records, clips, segments)]
    figures = {"frames": call["num_frames"], "prompts": len(records), "segments": accuracy}
    return figures | {"seconds": round(seconds, 2), "dtype": str(dtype).removeprefix("torch.")}

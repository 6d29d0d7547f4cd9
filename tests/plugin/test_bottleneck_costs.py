"""FLOPs of published architectures, held to what the paper and torch count."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hasten.app.published_models import PUBLISHED_MODELS
from hasten.costs import denoiser_flops
from hasten.families import Size, TokenGrid, family_of
from hasten.pipelines.bottleneck import speedup

META = torch.device("meta")
# TFLOPs of 50 steps in tables 1 and 2 of the paper.
PUBLISHED = {"flux-1024": 3719.50, "hunyuan-video-720p": 605459.49}
# Shares of a full step, and steps of full size, that the stages of tables 4 and 5 come to.
LOW = {"flux-1024": (0.5, 0.289, 19.8), "hunyuan-video-720p": (0.75, 0.355, 28.5)}


def tokens_of(pipeline: Any, name: str) -> tuple[TokenGrid, int]:
    call, family = PUBLISHED_MODELS[name].call, family_of(pipeline)
    size = Size(call["height"], call["width"], call.get("num_frames"))
    return family.pixel_grid(pipeline, size), family.text_tokens(pipeline)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_step_costs_what_the_paper_counts(name: str) -> None:
    pipeline: Any = PUBLISHED_MODELS[name].build(META, torch.bfloat16)
    grid, text = tokens_of(pipeline, name)
    flops = denoiser_flops(pipeline.transformer, family_of(pipeline), grid.tokens, text)
    full = flops.forward(grid.tokens + text)
    assert full / 1e12 == pytest.approx(PUBLISHED[name] / 50, rel=0.01)
    scale, share, steps = LOW[name]
    low = round(grid.height * scale) * round(grid.width * scale) * grid.frames
    assert flops.forward(low + text) / full == pytest.approx(share, abs=0.01)
    first, second, third = (6, 20, 8) if name == "flux-1024" else (4, 24, 16)
    assert 50 / speedup(50, [(first, 1), (second, share), (third, 1)]) == pytest.approx(steps, abs=0.1)


def test_blocks_cost_what_torch_counts() -> None:
    """One double and one single block of FLUX; what runs once for all tokens is not part of the estimate."""
    pipeline: Any = PUBLISHED_MODELS["flux-1024"].build(META, torch.bfloat16, layers=1)
    grid, text = tokens_of(pipeline, "flux-1024")
    flops = denoiser_flops(pipeline.transformer, family_of(pipeline), grid.tokens, text)

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(shape, device=META, dtype=torch.bfloat16)

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        pipeline.transformer(
            hidden_states=empty(1, grid.tokens, 64),
            encoder_hidden_states=empty(1, text, 4096),
            pooled_projections=empty(1, 768),
            timestep=empty(1),
            guidance=empty(1),
            img_ids=empty(grid.tokens, 3),
            txt_ids=empty(text, 3),
        )
    assert flops.forward(grid.tokens + text) == pytest.approx(counter.get_total_flops(), rel=0.02)

"""Published architectures with random weights: what they cost in seconds and memory does not depend on the weights."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    WanPipeline,
    WanTransformer3DModel,
)

from hasten.app.errors import UserError


@dataclass(frozen=True)
class PublishedModel:
    """
    An architecture and a call of its stock pipeline.

    Args:
        name (`str`): Model and size, as in the table.
        pipeline (`type`): Stock pipeline class.
        transformer (`type`): Stock denoiser class.
        config (`dict`): Arguments of the denoiser, as published.
        layers (`tuple[str, ...]`): Those of them that count blocks.
        scheduler (`Callable`): Makes the scheduler.
        call (`dict`): Size, and guidance off: one row, as a denoiser call has.
        embeddings (`dict[str, tuple[int, ...]]`): Shapes of the prompt embeddings that the call takes.
        masks (`dict[str, tuple[int, ...]]`): Shapes of their masks.
        dense_steps (`int`), steps (`int`): Re-ttention's dense prefix, and the steps of a run.
        speedups (`dict[str, float]`): Those of Bottleneck Sampling in seconds, by what its paper calls them.
    """

    name: str
    pipeline: type[DiffusionPipeline]
    transformer: type
    config: dict[str, Any]
    layers: tuple[str, ...]
    scheduler: Callable[[], Any]
    call: dict[str, Any]
    embeddings: dict[str, tuple[int, ...]]
    masks: dict[str, tuple[int, ...]]
    dense_steps: int
    steps: int = 50
    speedups: dict[str, float] = field(default_factory=dict)

    def build(self, device: torch.device, dtype: torch.dtype, layers: int | None = None) -> DiffusionPipeline:
        """The pipeline, of its denoiser and scheduler alone, with at most `layers` blocks of each kind."""
        config = dict(self.config)
        if layers is not None:
            config |= {name: min(layers, config[name]) for name in self.layers}
        default = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with device:
                torch.manual_seed(0)
                transformer = self.transformer(**config).eval()
        finally:
            torch.set_default_dtype(default)
        parameters = inspect.signature(self.pipeline).parameters.values()
        missing = {parameter.name: None for parameter in parameters if parameter.default is parameter.empty}
        pipeline = self.pipeline(**{**missing, "transformer": transformer, "scheduler": self.scheduler()})
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def arguments(self, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        """Arguments of a call, with random embeddings of full length; steps and seed are the caller's."""
        generator = torch.Generator().manual_seed(1)
        embeddings = {
            name: torch.randn(shape, generator=generator).to(device, dtype) for name, shape in self.embeddings.items()
        }
        masks = {name: torch.ones(shape, dtype=torch.long, device=device) for name, shape in self.masks.items()}
        return {**self.call, **embeddings, **masks, "output_type": "latent"}


PUBLISHED_MODELS: dict[str, PublishedModel] = {
    model.name: model
    for model in (
        PublishedModel(
            name="pixart-sigma-1024",
            pipeline=PixArtSigmaPipeline,
            transformer=PixArtTransformer2DModel,
            config={
                "sample_size": 128,
                "num_layers": 28,
                "num_attention_heads": 16,
                "attention_head_dim": 72,
                "cross_attention_dim": 1152,
                "caption_channels": 4096,
                "in_channels": 4,
                "out_channels": 8,
                "interpolation_scale": 2,
                "use_additional_conditions": False,
            },
            layers=("num_layers",),
            scheduler=DPMSolverMultistepScheduler,
            call={
                "height": 1024,
                "width": 1024,
                "guidance_scale": 1.0,
                "use_resolution_binning": False,
                "negative_prompt": None,
            },
            embeddings={"prompt_embeds": (1, 300, 4096)},
            masks={"prompt_attention_mask": (1, 300)},
            dense_steps=5,
            steps=20,
        ),
        PublishedModel(
            name="flux-1024",
            pipeline=FluxPipeline,
            transformer=FluxTransformer2DModel,
            config={"num_layers": 19, "num_single_layers": 38, "guidance_embeds": True},
            layers=("num_layers", "num_single_layers"),
            scheduler=lambda: FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
            call={"height": 1024, "width": 1024, "guidance_scale": 3.5},
            embeddings={"prompt_embeds": (1, 512, 4096), "pooled_prompt_embeds": (1, 768)},
            masks={},
            dense_steps=15,
            speedups={"×2": 1.95, "×3": 2.34},
        ),
        PublishedModel(
            name="cogvideox-2b-480p",
            pipeline=CogVideoXPipeline,
            transformer=CogVideoXTransformer3DModel,
            config={"num_layers": 30},
            layers=("num_layers",),
            scheduler=CogVideoXDDIMScheduler,
            call={"height": 480, "width": 720, "num_frames": 49, "guidance_scale": 1.0},
            embeddings={"prompt_embeds": (1, 226, 4096)},
            masks={},
            dense_steps=15,
        ),
        PublishedModel(
            name="wan-1.3b-480p",
            pipeline=WanPipeline,
            transformer=WanTransformer3DModel,
            config={"num_layers": 30, "num_attention_heads": 12, "ffn_dim": 8960},
            layers=("num_layers",),
            scheduler=lambda: FlowMatchEulerDiscreteScheduler(shift=3.0),
            call={"height": 480, "width": 832, "num_frames": 81, "guidance_scale": 1.0},
            embeddings={"prompt_embeds": (1, 512, 4096)},
            masks={},
            dense_steps=15,
        ),
        PublishedModel(
            name="hunyuan-video-720p",
            pipeline=HunyuanVideoPipeline,
            transformer=HunyuanVideoTransformer3DModel,
            config={"num_layers": 20, "num_single_layers": 40},
            layers=("num_layers", "num_single_layers"),
            scheduler=lambda: FlowMatchEulerDiscreteScheduler(shift=7.0),
            call={"height": 720, "width": 1280, "num_frames": 129},
            embeddings={"prompt_embeds": (1, 256, 4096), "pooled_prompt_embeds": (1, 768)},
            masks={"prompt_attention_mask": (1, 256)},
            dense_steps=15,
            speedups={"×2": 1.43, "×2.5": 2.27, "×3": 2.55},
        ),
    )
}


def published_models(name: str) -> list[PublishedModel]:
    """The model of that name, or all of them for "all".

    Raises:
        UserError: there is none.
    """
    if name == "all":
        return list(PUBLISHED_MODELS.values())
    if name not in PUBLISHED_MODELS:
        raise UserError(f"There is no architecture '{name}' here; choose all or one of {', '.join(PUBLISHED_MODELS)}.")
    return [PUBLISHED_MODELS[name]]

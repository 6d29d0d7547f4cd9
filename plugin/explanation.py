"""What acceleration would do to a call, told before it runs."""

import inspect
import os
import re
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from diffusers import DiffusionPipeline

from hasten.kernels import packed_bytes

from .families import AttentionLayer, Family, Size, TokenGrid, family_of
from .methods.corrections import KEPT_TENSORS, UNPACKED
from .methods.rettention import RettentionConfig, check_rettention
from .presets import resolve_recipe
from .recipe import Recipe
from .report import StepKind

KERNEL_EFFICIENCY = 0.9
"""η: what a sparse step saves of the attention time, as a share of what its density promises. An assumption."""


class LayerPlan(NamedTuple):
    """One self-attention layer: its tokens, and why it stays dense, if it does."""

    name: str
    tokens: int
    stays_dense: str | None


@dataclass(frozen=True)
class Explanation:
    """
    What acceleration would do to one pipeline call.

    Args:
        family (`str`):
            Model family.
        recipe (`Recipe`):
            What would be enabled.
        steps (`tuple[StepKind, ...]`):
            What each step computes.
        layers (`tuple[LayerPlan, ...]`):
            The self-attention layers.
        sparse_density (`float`):
            Share of the query-key pairs that an accelerated layer computes in a sparse step.
        density (`float`):
            Mean share over all steps and layers; the report of the call measures the same figure.
        attention_share (`float`):
            g: share of self-attention in the denoiser's FLOPs; what is counted is self-attention and linear layers on
            image tokens.
        kernel_efficiency (`float`):
            η: the assumption of the estimate.
        expected_saving (`float`):
            Estimated share of the denoiser's time that is saved: g · (1 - density) · η.
        state_bytes (`int`):
            Bytes of cached tensors, with classifier-free guidance.
    """

    family: str
    recipe: Recipe
    steps: tuple[StepKind, ...]
    layers: tuple[LayerPlan, ...]
    sparse_density: float
    density: float
    attention_share: float
    kernel_efficiency: float
    expected_saving: float
    state_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The explanation as JSON-able values."""
        layers = [layer._asdict() for layer in self.layers]
        return {**asdict(self), "recipe": self.recipe.to_dict(), "steps": list(self.steps), "layers": layers}

    def __str__(self) -> str:
        dense = [f"  {layer.name} stays dense: {layer.stays_dense}" for layer in self.layers if layer.stays_dense]
        letters = "".join({"dense": "D", "refresh": "R", "sparse": "."}[kind] for kind in self.steps)
        return "\n".join(
            [
                f"{self.family}: {len(self.layers)} self-attention layers of {self.layers[0].tokens:,} tokens",
                *dense,
                f"steps: {letters}   (D dense, R refresh, . sparse)",
                f"density: {self.sparse_density:.4f} in a sparse step, {self.density:.4f} over the call",
                f"expected saving: {self.expected_saving:.1%} of the denoiser's time "
                f"(self-attention is {self.attention_share:.1%} of it, {1 - self.density:.1%} of that is left out, "
                f"kernel efficiency assumed {self.kernel_efficiency:.0%})",
                f"cached state: {self.state_bytes:,} bytes",
            ]
        )


def explain(
    pipeline: DiffusionPipeline,
    preset_or_recipe: str | os.PathLike[str] | Recipe | None = None,
    *,
    attention: RettentionConfig | None = None,
    sampling: Any = None,
    kv_cache: Any = None,
    height: int | None = None,
    width: int | None = None,
    num_inference_steps: int | None = None,
    num_frames: int | None = None,
    batch_size: int = 1,
) -> Explanation:
    r"""
    Tell what acceleration would do to a call of `pipeline`, without running or changing anything.

    Args:
        preset_or_recipe, attention, sampling, kv_cache:
            As for `enable_acceleration`.
        height, width (`int`, *optional*):
            Size in pixels; the model's native size if left out.
        num_inference_steps (`int`, *optional*):
            Number of steps; the pipeline's default if left out.
        num_frames (`int`, *optional*):
            Number of frames, for video pipelines.
        batch_size (`int`, defaults to `1`):
            Pictures made in one call. Each takes two rows of the batch, one of them for classifier-free guidance.

    Raises:
        AccelerationError: `enable_acceleration` or the call would be refused.
    """
    recipe = resolve_recipe(preset_or_recipe, attention=attention, sampling=sampling, kv_cache=kv_cache)
    family = family_of(pipeline)
    denoiser = family.denoiser_of(pipeline)
    config = recipe.require_attention()
    check_rettention(denoiser, family, config)
    default = family.default_size(pipeline)
    size = Size(height or default.height, width or default.width, num_frames or default.num_frames)
    grid = family.pixel_grid(pipeline, size)
    layout = config.layout(grid, family.text_tokens(pipeline), family.text == "first")
    steps = config.schedule(num_inference_steps or _default_steps(pipeline))
    layers = family.layers(denoiser)
    plans = tuple(LayerPlan(layer.name, layout.tokens, _reason_to_stay_dense(layer, grid, config)) for layer in layers)
    sparse_layers = [layer for layer, plan in zip(layers, plans, strict=True) if not plan.stays_dense]
    sparse_share = steps.count("sparse") / len(steps) * len(sparse_layers) / len(layers)
    sparse_density = config.sparse_density(layout)
    attention_share = _attention_share(denoiser, family, layout.tokens)
    rows = 2 * batch_size
    return Explanation(
        family=family.name,
        recipe=recipe,
        steps=steps,
        layers=plans,
        sparse_density=sparse_density,
        density=1 - sparse_share * (1 - sparse_density),
        attention_share=attention_share,
        kernel_efficiency=KERNEL_EFFICIENCY,
        expected_saving=attention_share * sparse_share * (1 - sparse_density) * KERNEL_EFFICIENCY,
        state_bytes=sum(_state_bytes(layer, layout.tokens, config, rows, denoiser.dtype) for layer in sparse_layers),
    )


def _default_steps(pipeline: DiffusionPipeline) -> int:
    return inspect.signature(type(pipeline).__call__).parameters["num_inference_steps"].default


def _reason_to_stay_dense(layer: AttentionLayer, grid: TokenGrid, config: RettentionConfig) -> str | None:
    if layer.block in config.dense_blocks:
        return f"block {layer.block} is in dense_blocks"
    if grid.tokens < config.min_tokens:
        return f"{grid.tokens} visual tokens are fewer than min_tokens={config.min_tokens}"
    return None


def _attention_share(denoiser: torch.nn.Module, family: Family, tokens: int) -> float:
    """Self-attention's share of the FLOPs of the blocks, per image token."""
    linear = 2 * sum(
        module.weight.numel()
        for name, module in denoiser.named_modules()
        if isinstance(module, torch.nn.Linear) and re.match(family.image_projections, name)
    )
    attention = sum(4 * tokens * layer.module.inner_dim for layer in family.layers(denoiser))
    return attention / (attention + linear)


def _state_bytes(layer: AttentionLayer, tokens: int, config: RettentionConfig, rows: int, dtype: torch.dtype) -> int:
    values = rows * tokens * layer.module.inner_dim
    channels = layer.module.inner_dim // layer.module.heads
    packed = config.state_bits < UNPACKED
    tensor = packed_bytes(values, config.state_bits, channels) if packed else values * dtype.itemsize
    tensors = KEPT_TENSORS[config.correction] * tensor
    per_head = rows * layer.module.heads
    ratio = 4 * per_head * tokens if config.correction == "reshape" else 0
    weight = dtype.itemsize * per_head if config.correction == "fitted" else 0
    return tensors + ratio + weight

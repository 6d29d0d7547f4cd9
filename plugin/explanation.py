"""What acceleration would do to a call, told before it runs."""

import inspect
import os
import re
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from diffusers import DiffusionPipeline

from hasten.kernels import packed_bytes
from hasten.pipelines.bottleneck import TransformerFlops

from .families import AttentionLayer, Family, Size, TokenGrid, family_of
from .methods.bottleneck import BottleneckConfig, check_bottleneck, plan_stages
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


class StagePlan(NamedTuple):
    """Steps at one resolution: `size` in pixels, visual tokens, cost of a dense step in full ones, noise of each step.

    `sigmas` are shares of noise, noise / (signal + noise), which is flow matching's σ.
    """

    size: tuple[int, int]
    tokens: int
    steps: int
    cost: float
    sigmas: tuple[float, ...]


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
            Estimated share of the denoiser's time that is saved: without stages g · (1 - density) · η, with stages by
            the FLOPs of every step, so that nothing counts twice.
        state_bytes (`int`):
            Bytes of cached tensors, with classifier-free guidance.
        stages (`tuple[StagePlan, ...]`, defaults to `()`):
            The stages of Bottleneck Sampling. Noise that a pipeline itself prescribes (Mochi's) is not foreseen.
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
    stages: tuple[StagePlan, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The explanation as JSON-able values."""
        layers = [layer._asdict() for layer in self.layers]
        stages = [stage._asdict() for stage in self.stages]
        own = {"recipe": self.recipe.to_dict(), "steps": list(self.steps), "layers": layers, "stages": stages}
        return {**asdict(self), **own}

    def __str__(self) -> str:
        accelerated = self.layers if self.recipe.attention else ()
        dense = [f"  {layer.name} stays dense: {layer.stays_dense}" for layer in accelerated if layer.stays_dense]
        letters = "".join({"dense": "D", "refresh": "R", "sparse": "."}[kind] for kind in self.steps)
        stages = [
            f"stage {index}: {stage.steps} steps at {stage.size[1]} × {stage.size[0]} pixels, {stage.tokens:,} tokens, "
            f"{stage.cost:.1%} of a full step each; σ " + " ".join(f"{sigma:.3f}" for sigma in stage.sigmas)
            for index, stage in enumerate(self.stages, 1)
        ]
        return "\n".join(
            [
                f"{self.family}: {len(self.layers)} self-attention layers of {self.layers[0].tokens:,} tokens",
                *stages,
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
    sampling: BottleneckConfig | None = None,
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
    recipe.require_parts()
    config = recipe.attention
    if config is not None:
        check_rettention(denoiser, family, config)
    if recipe.sampling is not None:
        check_bottleneck(pipeline, family, recipe.sampling)
    default = family.default_size(pipeline)
    size = Size(height or default.height, width or default.width, num_frames or default.num_frames)
    grid = family.pixel_grid(pipeline, size)
    full_steps = num_inference_steps or _default_steps(pipeline)
    text_tokens = family.text_tokens(pipeline)
    flops = _flops(denoiser, family)
    stages = plan_stages(pipeline, family, recipe.sampling, grid, full_steps) if recipe.sampling else ()
    stage_grids = [(stage.grid, len(stage.sigmas)) for stage in stages] or [(grid, full_steps)]
    steps = _steps(config, [count for _, count in stage_grids])
    layers = family.layers(denoiser)
    plans = tuple(
        LayerPlan(layer.name, grid.tokens + text_tokens, _reason_to_stay_dense(layer, grid, config)) for layer in layers
    )
    sparse_layers = [layer for layer, plan in zip(layers, plans, strict=True) if not plan.stays_dense]
    densities = [_density(config, stage_grid, family, text_tokens) for stage_grid, _ in stage_grids]
    share = len(sparse_layers) / len(layers)
    full_cost = flops.forward(grid.tokens + text_tokens)
    each_step = zip(steps, (index for index, (_, count) in enumerate(stage_grids) for _ in range(count)), strict=True)
    step_densities, cost = [], 0.0
    for kind, index in each_step:
        left_out = share * (1 - densities[index]) if kind == "sparse" else 0.0
        step_densities.append(1 - left_out)
        cost += flops.forward(stage_grids[index][0].tokens + text_tokens, 1 - left_out * KERNEL_EFFICIENCY)
    rows = 2 * batch_size
    return Explanation(
        family=family.name,
        recipe=recipe,
        steps=steps,
        layers=plans,
        sparse_density=densities[-1],
        density=sum(step_densities) / len(steps),
        attention_share=flops.attention_share(grid.tokens + text_tokens),
        kernel_efficiency=KERNEL_EFFICIENCY,
        expected_saving=1 - cost / (full_steps * full_cost),
        state_bytes=sum(
            _state_bytes(layer, grid.tokens + text_tokens, config, rows, denoiser.dtype)
            for layer in sparse_layers
            if config
        ),
        stages=tuple(
            StagePlan(
                (stage.grid.height * size.height // grid.height, stage.grid.width * size.width // grid.width),
                stage.grid.tokens,
                len(stage.sigmas),
                flops.forward(stage.grid.tokens + text_tokens) / full_cost,
                stage.sigmas,
            )
            for stage in stages
        ),
    )


def _steps(config: RettentionConfig | None, counts: list[int]) -> tuple[StepKind, ...]:
    """What each step computes. The first sparse step of a stage finds no statistics, and makes them."""
    if config is None:
        config = RettentionConfig(dense_steps=sum(counts))
    steps = list(config.schedule(sum(counts)))
    for stage in range(1, len(counts)):
        first = sum(counts[:stage])
        kept = "refresh" in steps[first : first + 1]
        for step in range(first, first + counts[stage]):
            if steps[step] == "sparse" and not kept:
                steps[step] = "refresh"
            kept = kept or steps[step] == "refresh"
    return tuple(steps)


def _density(config: RettentionConfig | None, grid: TokenGrid, family: Family, text_tokens: int) -> float:
    """Share of the query-key pairs that a sparse step computes."""
    if config is None or grid.tokens < config.min_tokens:
        return 1.0
    return config.sparse_density(config.layout(grid, text_tokens, family.text == "first"))


def _default_steps(pipeline: DiffusionPipeline) -> int:
    return inspect.signature(type(pipeline).__call__).parameters["num_inference_steps"].default


def _reason_to_stay_dense(layer: AttentionLayer, grid: TokenGrid, config: RettentionConfig | None) -> str | None:
    if config is None:
        return "attention is left as it is"
    if layer.block in config.dense_blocks:
        return f"block {layer.block} is in dense_blocks"
    if grid.tokens < config.min_tokens:
        return f"{grid.tokens} visual tokens are fewer than min_tokens={config.min_tokens}"
    return None


def _flops(denoiser: torch.nn.Module, family: Family) -> TransformerFlops:
    """Cost of the blocks: their linear layers on image tokens, and self-attention."""
    linear = sum(
        module.weight.numel()
        for name, module in denoiser.named_modules()
        if isinstance(module, torch.nn.Linear) and re.match(family.image_projections, name)
    )
    return TransformerFlops(linear, sum(layer.module.inner_dim for layer in family.layers(denoiser)))


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

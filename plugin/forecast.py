"""Works out what acceleration would do to a call, before it runs."""

import inspect
import os
from collections.abc import Mapping, Sequence
from itertools import islice
from statistics import fmean
from typing import Any, NamedTuple

import torch
from diffusers import DiffusionPipeline

from hasten.pipelines.bottleneck import TransformerFlops, speedup

from .acceleration import fit_recipe
from .cache_forecast import explain_cache
from .costs import denoiser_flops, state_bytes
from .errors import AccelerationError
from .explanation import Explanation, LayerPlan, StagePlan
from .families import AttentionLayer, Family, Size, TokenGrid, family_of
from .families.family import Cell
from .measurement import measure_steps
from .methods.bottleneck_config import BottleneckConfig
from .methods.bottleneck_plan import ResolvedStage, plan_stages
from .methods.kv_cache_config import KVCacheConfig
from .methods.rettention_config import RettentionConfig
from .presets import resolve_recipe
from .recipe import Recipe
from .report import StepKind

KERNEL_EFFICIENCY = 0.9
"""η: what a sparse step saves of the attention time, as a share of what its density promises. An assumption."""


def explain(
    pipeline: DiffusionPipeline,
    preset_or_recipe: str | os.PathLike[str] | Recipe | None = None,
    *,
    attention: RettentionConfig | None = None,
    sampling: BottleneckConfig | None = None,
    kv_cache: KVCacheConfig | None = None,
    height: int | None = None,
    width: int | None = None,
    num_inference_steps: int | None = None,
    num_frames: int | None = None,
    batch_size: int = 1,
    measure: Mapping[str, Any] | None = None,
) -> Explanation:
    r"""
    Tell what acceleration would do to a call of `pipeline`, without changing anything or, unless asked, running it.

    Args:
        preset_or_recipe, attention, sampling, kv_cache:
            As for `enable_acceleration`.
        height, width (`int`, *optional*):
            Size in pixels; the model's native size if left out.
        num_inference_steps (`int`, *optional*):
            Number of steps, of an image-to-image call those that its strength leaves; the pipeline's default if left
            out.
        num_frames (`int`, *optional*):
            Number of frames, for video pipelines.
        batch_size (`int`, defaults to `1`):
            Pictures made in one call. Each takes two rows of the batch, one of them for classifier-free guidance.
        measure (`Mapping[str, Any]`, *optional*):
            Other arguments of the call, such as `{"prompt": "a cat"}`: given, three steps at each resolution are run
            and timed, to predict seconds. Nothing is timed for a KV cache.

    Raises:
        AccelerationError: `enable_acceleration` or the call would be refused.
    """
    _check_counts(num_inference_steps=num_inference_steps, num_frames=num_frames, batch_size=batch_size)
    family = family_of(pipeline)
    recipe = resolve_recipe(
        preset_or_recipe, attention=attention, sampling=sampling, kv_cache=kv_cache, pipeline=pipeline
    )
    recipe, left_out = fit_recipe(pipeline, family, recipe)
    if recipe.kv_cache is not None:
        return explain_cache(
            pipeline, family, recipe, recipe.kv_cache, height, width, num_frames, num_inference_steps, batch_size
        )
    denoiser, config = family.denoiser_of(pipeline), recipe.attention
    size = _size(family.default_size(pipeline), height=height, width=width, num_frames=num_frames)
    grid, text_tokens = family.pixel_grid(pipeline, size), family.text_tokens(pipeline)
    full_steps = _default_steps(pipeline) if num_inference_steps is None else num_inference_steps
    resolved = plan_stages(pipeline, family, recipe.sampling, grid, full_steps) if recipe.sampling else ()
    parts = [(stage.grid, len(stage.sigmas)) for stage in resolved] or [(grid, full_steps)]
    stages = [_stage(denoiser, family, config, text_tokens, *part) for part in parts]
    full = stages[-1]
    costs = [stage.dense_flops / full.dense_flops for stage in stages]
    steps = _steps(config, stages)
    expected_speedup = speedup(full_steps, [(1, costs[step.stage] * step.cost) for step in steps])
    seconds = measure_steps(pipeline, recipe.sampling, size, measure) if measure is not None else None
    return Explanation(
        family=family.name,
        recipe=recipe,
        steps=tuple(step.kind for step in steps),
        layers=full.layers,
        sparse_density=full.sparse_density,
        density=fmean(step.density for step in steps),
        attention_share=full.flops.attention_share(full.tokens),
        kernel_efficiency=KERNEL_EFFICIENCY,
        expected_saving=1 - 1 / expected_speedup,
        expected_speedup=expected_speedup,
        state_bytes=sum(
            state_bytes(layer, plan.tokens, config, 2 * batch_size, denoiser.dtype)
            for layer, plan in zip(family.layers(denoiser), full.layers, strict=True)
            if config and not plan.stays_dense
        ),
        stages=tuple(
            _stage_plan(stage, family.cell(pipeline), costs[index], seconds[index] if seconds else None)
            for index, stage in enumerate(resolved)
        ),
        predicted_seconds=sum(seconds[step.stage] * step.cost for step in steps) if seconds else None,
        plain_seconds=full_steps * seconds[-1] if seconds else None,
        left_out=left_out,
    )


class _Stage(NamedTuple):
    """Steps at one resolution, and what a sparse one of them computes.

    `density` is the share of all query-key pairs, `sparse_density` that of the pairs of the accelerated layers.
    """

    grid: TokenGrid
    steps: int
    tokens: int
    layers: tuple[LayerPlan, ...]
    flops: TransformerFlops
    density: float
    sparse_density: float

    @property
    def dense_flops(self) -> float:
        return self.flops.forward(self.tokens)

    def cost(self, density: float) -> float:
        """Of a step that computes that share of the pairs, beside a dense one."""
        return self.flops.forward(self.tokens, 1 - (1 - density) * KERNEL_EFFICIENCY) / self.dense_flops


class _Step(NamedTuple):
    """A step of a stage: share of the query-key pairs that it computes, and its cost beside a dense one there."""

    kind: StepKind
    stage: int
    density: float
    cost: float


def _stage(
    denoiser: torch.nn.Module,
    family: Family,
    config: RettentionConfig | None,
    text_tokens: int,
    grid: TokenGrid,
    steps: int,
) -> _Stage:
    plans, all_pairs, computed, accelerated = [], 0, 0.0, 0
    for layer in family.layers(denoiser):
        text = family.text_tokens_in(layer, text_tokens)
        plan = LayerPlan(layer.name, grid.tokens + text, _reason_to_stay_dense(layer, grid, config))
        all_pairs += plan.tokens**2
        if config and not plan.stays_dense:
            layout = config.layout(grid, text, family.text == "first", config.block_density(layer.block))
            plan = plan._replace(window=layout.description)
            computed += config.sparse_density(layout) * plan.tokens**2
            accelerated += plan.tokens**2
        plans.append(plan)
    return _Stage(
        grid=grid,
        steps=steps,
        tokens=grid.tokens + text_tokens,
        layers=tuple(plans),
        flops=denoiser_flops(denoiser, family, grid.tokens, text_tokens),
        density=(computed + all_pairs - accelerated) / all_pairs,
        sparse_density=computed / accelerated if accelerated else 1.0,
    )


def _steps(config: RettentionConfig | None, stages: Sequence[_Stage]) -> list[_Step]:
    """All steps. The first one of a stage that is not dense finds no statistics, and makes them."""
    count = sum(stage.steps for stage in stages)
    planned = iter((config or RettentionConfig(dense_steps=count)).schedule(count))
    steps = []
    for index, stage in enumerate(stages):
        kinds = list(islice(planned, stage.steps))
        if config and stage.grid.tokens < config.min_tokens:
            kinds = ["dense"] * stage.steps
        first = next((at for at, kind in enumerate(kinds) if kind != "dense"), None)
        if first is not None:
            kinds[first] = "refresh"
        for kind in kinds:
            density = stage.density if kind == "sparse" else 1.0
            steps.append(_Step(kind, index, density, stage.cost(density)))
    return steps


def _stage_plan(stage: ResolvedStage, cell: Cell, cost: float, seconds: float | None) -> StagePlan:
    size = (stage.grid.height * cell.height, stage.grid.width * cell.width)
    return StagePlan(size, stage.grid.tokens, len(stage.sigmas), cost, stage.sigmas, stage.notices, seconds)


def _check_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and count < 1:
            raise AccelerationError(f"{name}={count} leaves nothing to make; give at least 1.")


def _size(default: Size, **given: int | None) -> Size:
    return default._replace(**{name: length for name, length in given.items() if length is not None})


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

"""Works out what acceleration would do to a call, before it runs."""

import inspect
import os
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from diffusers import DiffusionPipeline

from hasten.pipelines.bottleneck import TransformerFlops, speedup

from .acceleration import fit_recipe
from .cache_forecast import explain_cache
from .costs import denoiser_flops, state_bytes
from .explanation import Explanation, LayerPlan, StagePlan
from .families import AttentionLayer, Family, Size, TokenGrid, family_of
from .families.family import Cell
from .measurement import measure_steps
from .methods.bottleneck_config import BottleneckConfig
from .methods.bottleneck_plan import ResolvedStage, plan_stages
from .methods.kv_cache import KVCacheConfig
from .methods.rettention import RettentionConfig
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
    default = family.default_size(pipeline)
    size = Size(height or default.height, width or default.width, num_frames or default.num_frames)
    grid = family.pixel_grid(pipeline, size)
    full_steps = num_inference_steps or _default_steps(pipeline)
    text_tokens = family.text_tokens(pipeline)
    stages = plan_stages(pipeline, family, recipe.sampling, grid, full_steps) if recipe.sampling else ()
    layers = family.layers(denoiser)
    plans = tuple(
        LayerPlan(layer.name, grid.tokens + text_tokens, _reason_to_stay_dense(layer, grid, config)) for layer in layers
    )
    sparse_layers = [layer for layer, plan in zip(layers, plans, strict=True) if not plan.stays_dense]
    call = _Call(
        grids=[stage.grid for stage in stages] or [grid],
        counts=[len(stage.sigmas) for stage in stages] or [full_steps],
        text_tokens=text_tokens,
        flops=denoiser_flops(denoiser, family),
        sparse_share=len(sparse_layers) / len(layers),
    )
    blocks = [layer.block for layer in sparse_layers]
    densities = [_density(config, stage_grid, family, text_tokens, blocks) for stage_grid in call.grids]
    steps = call.steps(_kinds(config, call.counts), densities)
    expected_speedup = speedup(full_steps, [(1, call.cost(step.stage) * step.cost) for step in steps])
    seconds = measure_steps(pipeline, recipe.sampling, size, measure) if measure is not None else None
    return Explanation(
        family=family.name,
        recipe=recipe,
        steps=tuple(step.kind for step in steps),
        layers=plans,
        sparse_density=densities[-1],
        density=sum(step.density for step in steps) / len(steps),
        attention_share=call.flops.attention_share(grid.tokens + text_tokens),
        kernel_efficiency=KERNEL_EFFICIENCY,
        expected_saving=1 - 1 / expected_speedup,
        expected_speedup=expected_speedup,
        state_bytes=sum(
            state_bytes(layer, grid.tokens + text_tokens, config, 2 * batch_size, denoiser.dtype)
            for layer in sparse_layers
            if config
        ),
        stages=tuple(
            _stage_plan(stage, family.cell(pipeline), call.cost(index), seconds[index] if seconds else None)
            for index, stage in enumerate(stages)
        ),
        predicted_seconds=sum(seconds[step.stage] * step.cost for step in steps) if seconds else None,
        plain_seconds=full_steps * seconds[-1] if seconds else None,
        left_out=left_out,
    )


class _Step(NamedTuple):
    """A step of a stage: share of the query-key pairs that it computes, and its cost beside a dense one there."""

    kind: StepKind
    stage: int
    density: float
    cost: float


class _Call(NamedTuple):
    """Tokens and steps of each stage of a call, the last one at full size, and what they cost."""

    grids: list[TokenGrid]
    counts: list[int]
    text_tokens: int
    flops: TransformerFlops
    sparse_share: float

    def tokens(self, stage: int) -> int:
        return self.grids[stage].tokens + self.text_tokens

    def cost(self, stage: int) -> float:
        """Of a dense step there, beside one at full size."""
        return self.flops.forward(self.tokens(stage)) / self.flops.forward(self.tokens(-1))

    def steps(self, kinds: Sequence[StepKind], densities: Sequence[float]) -> list[_Step]:
        """All steps, given what each of them computes, and the density of sparse layers in each stage."""
        stages = [stage for stage, count in enumerate(self.counts) for _ in range(count)]
        steps = []
        for kind, stage in zip(kinds, stages, strict=True):
            left_out = self.sparse_share * (1 - densities[stage]) if kind == "sparse" else 0.0
            dense = self.flops.forward(self.tokens(stage))
            cost = self.flops.forward(self.tokens(stage), 1 - left_out * KERNEL_EFFICIENCY) / dense
            steps.append(_Step(kind, stage, 1 - left_out, cost))
        return steps


def _stage_plan(stage: ResolvedStage, cell: Cell, cost: float, seconds: float | None) -> StagePlan:
    size = (stage.grid.height * cell.height, stage.grid.width * cell.width)
    return StagePlan(size, stage.grid.tokens, len(stage.sigmas), cost, stage.sigmas, stage.notices, seconds)


def _kinds(config: RettentionConfig | None, counts: list[int]) -> tuple[StepKind, ...]:
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


def _density(
    config: RettentionConfig | None, grid: TokenGrid, family: Family, text_tokens: int, blocks: Sequence[int]
) -> float:
    """Share of the query-key pairs that layers of these `blocks` compute in a sparse step."""
    if config is None or not blocks or grid.tokens < config.min_tokens:
        return 1.0
    layouts = (
        config.layout(grid, text_tokens, family.text == "first", config.block_density(block)) for block in blocks
    )
    return fmean(config.sparse_density(layout) for layout in layouts)


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

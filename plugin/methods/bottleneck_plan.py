"""The stages of a call as they will be run, told before it: tokens, noise levels, and what a user should know."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from hasten.pipelines.bottleneck import BottleneckRun, Stage, bottleneck_scheduler, noise_level

from ..errors import AccelerationError
from ..families import Family, TokenGrid
from .bottleneck_config import BottleneckConfig

_ROUNDING_OF_FLOATS = 1e-6


class ResolvedStage(NamedTuple):
    """A stage of a call: its tokens, the share of noise before each step, and what should be known about it."""

    grid: TokenGrid
    sigmas: tuple[float, ...]
    notices: tuple[str, ...] = ()


def plan_stages(
    pipeline: Any, family: Family, config: BottleneckConfig, full: TokenGrid, num_inference_steps: int
) -> tuple[ResolvedStage, ...]:
    """The stages that a call of that many steps with `full` tokens would run.

    Raises:
        AccelerationError: a stage's size does not fit.
    """
    cell = family.cell(pipeline)
    run = BottleneckRun(lambda steps: config.plan(steps, cell[:2]), mu=family.mu)
    scheduler = bottleneck_scheduler(getattr(pipeline.scheduler, "bottleneck_base", pipeline.scheduler), run)
    scheduler.set_timesteps(**_timesteps_call(scheduler.config, family, full.tokens, num_inference_steps))
    stages = []
    for index, (stage, one) in enumerate(zip(run.stages, run.schedulers, strict=True)):
        rows, columns = stage_tokens(stage, (full.height, full.width))
        sigmas = tuple(noise_level(one, step)[0].share for step in range(len(one.timesteps)))
        notices = tuple(stage_notices(pipeline, family, run, index, full))
        stages.append(ResolvedStage(TokenGrid(rows, columns, full.frames), sigmas, notices))
    return tuple(stages)


def _timesteps_call(config: Any, family: Family, tokens: int, steps: int) -> dict[str, Any]:
    """Arguments with which the pipelines of the family call `set_timesteps` of a scheduler of that config."""
    sigmas = family.sigmas(config, steps)
    call: dict[str, Any] = {"num_inference_steps": steps} if sigmas is None else {"sigmas": sigmas}
    if config.get("use_dynamic_shifting"):
        call["mu"] = family.mu.mu(config, tokens, steps)
    return call


def stage_tokens(stage: Stage, full: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of tokens of a stage in a picture of `full` ones.

    Raises:
        AccelerationError: they are more than the picture has.
    """
    rows, columns = stage.grid(full)
    if rows > full[0] or columns > full[1]:
        raise AccelerationError(
            f"A stage of {rows} × {columns} tokens is larger than the picture of {full[0]} × {full[1]}; "
            "give the stage a smaller size."
        )
    return rows, columns


def stage_notices(pipeline: Any, family: Family, run: BottleneckRun, index: int, full: TokenGrid) -> Iterator[str]:
    """What a user should know about stage `index` of a run with `full` tokens."""
    yield from _rounding(run.stages[index], full)
    yield from _experts(pipeline, family, run, index)


def _rounding(stage: Stage, full: TokenGrid) -> Iterator[str]:
    rows, columns = stage.grid((full.height, full.width))
    missed = max(abs(full.height * stage.scale - rows), abs(full.width * stage.scale - columns))
    if stage.size is None and missed > _ROUNDING_OF_FLOATS:
        yield f"its scale {stage.scale} is rounded to {rows} × {columns} of {full.height} × {full.width} tokens"


def _experts(pipeline: Any, family: Family, run: BottleneckRun, index: int) -> Iterator[str]:
    """Whether the noise of the stage brings the first of two denoisers back."""
    boundary = family.expert_boundary(pipeline)
    if boundary is None or index == 0:
        return
    timestep = boundary * pipeline.scheduler.config.num_train_timesteps
    if run.schedulers[index - 1].timesteps[-1] < timestep <= run.schedulers[index].timesteps[0]:
        yield (
            f"it goes back over boundary_ratio={boundary} to the first denoiser; "
            "to avoid it, give it a lower start, or the stage before a higher end"
        )

"""From one stage to the next: clean picture, resize, noise of the level at which the next stage starts."""

import torch
from torch import Tensor

from .noise import NoiseLevel, predict_noise, predict_x0, renoise
from .resizing import Container, pack, unpack
from .run import BottleneckRun, StageBoundary
from .stages import noise_level
from .transitions import carry_noise, matched_picture, matched_state


def next_stage(run: BottleneckRun, output: Tensor, sample: Tensor) -> Tensor:
    """The state at the start of the next stage, from the denoiser's `output` at `sample`; all three are containers."""
    full = run.grid
    assert full is not None
    old, new = run.stage.grid(full), run.stages[run.index + 1].grid(full)
    precise = torch.promote_types(sample.dtype, torch.float32)
    latents, prediction = (_take_out(x.to(precise), full, old, run.patch) for x in (sample, output))
    level, kind = noise_level(run.scheduler, run.step)
    before = predict_x0(latents, prediction, level, kind)
    noise, end = predict_noise(latents, before, level), run.ends[run.index]
    run.index, run.step = run.index + 1, 0
    start = noise_level(run.scheduler, 0)[0]
    height, width = (side // a * b for side, a, b in zip(before.shape[-2:], old, new, strict=True))
    if run.transition == "snr_matched":
        after = matched_picture(before, (height, width))
        latents = _matched(run, before, noise, end, start, after)
    else:
        after = run.resized(before, (height, width))
        fresh = run.fresh_noise(after)
        latents = renoise(after, carry_noise(noise, fresh) if run.transition == "correlated" else fresh, start)
    for watch in run.watchers:
        watch(StageBoundary(run.index - 1, before, after, (level.share, start.share)))
    return _put_in(latents, full, new, run.patch, sample.ndim).to(sample.dtype)


def _matched(run: BottleneckRun, before: Tensor, noise: Tensor, end: float, start: NoiseLevel, after: Tensor) -> Tensor:
    fresh, more = run.fresh_noise(after), run.fresh_noise(after)
    return (start.signal + start.noise) * matched_state(before, noise, end, start.share, fresh, more)


def _take_out(x: Tensor, full: tuple[int, int], small: tuple[int, int], patch: int) -> Tensor:
    """What is in a container of the latents' shape, as (..., height, width); packed latents as whole tokens.

    Unpacked, these are (batch, channels, frames, height, width).
    """
    if x.ndim == 3:
        tokens = Container(full, small).reduce(unpack(x, full, 1))
        return unpack(pack(tokens, 1), small, patch).transpose(1, 2)
    cell = x.shape[-2] // full[0]
    return Container.of_cells(full, small, cell).reduce(x)


def _put_in(x: Tensor, full: tuple[int, int], small: tuple[int, int], patch: int, dimensions: int) -> Tensor:
    """Undo `_take_out`, for latents of that many dimensions."""
    if dimensions == 3:
        tokens = unpack(pack(x.transpose(1, 2), patch), small, 1)
        return pack(Container(full, small).expand(tokens), 1)
    return Container.of_cells(full, small, x.shape[-2] // small[0]).expand(x)

"""Re-ttention: sparse attention whose softmax statistics are carried over from the last dense step.

Chen et al., "Re-ttention: Ultra Sparse Visual Generation via Attention Statistical Reshape", NeurIPS 2025,
arXiv 2505.22918.
"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hasten.kernels import (
    Layout,
    implementation,
    refresh_attention,
    reshaped_attention,
    why_portable,
    window_attention,
)

from ..errors import AccelerationError
from ..families import AttentionLayer, Family
from ..report import StepKind
from ..runs import Run
from ..seam import AttentionCall, attach_core
from ..state import DenoiserHook, attach_hook
from .corrections import Fitted, Reshape, Residual, Reuse, Uncorrected
from .refresh_monitor import RefreshMonitor, Sampled, relative_change, sample
from .rettention_config import RettentionConfig

_RETTENTION_HOOK = "hasten_rettention"


class Window(NamedTuple):
    """Which keys the queries of an attention call see."""

    layout: Layout
    text_mask: Tensor | None


class RettentionHook(DenoiserHook):
    """Follows the schedule, and computes the attention of every self-attention layer by it."""

    def __init__(self, run: Run, family: Family, config: RettentionConfig) -> None:
        super().__init__(run, family)
        self.config = config
        self.schedule: tuple[StepKind, ...] = ()
        self.monitor: RefreshMonitor | None = None
        self._layout = lru_cache(maxsize=256)(config.layout)

    def plan_run(self, num_inference_steps: int) -> None:
        """Resolve the schedule."""
        config = self.config
        self.schedule, self._steps = config.schedule(num_inference_steps), config.accelerated_steps(num_inference_steps)
        if config.refreshes_on_change and config.refresh_threshold is not None:
            self.monitor = RefreshMonitor(config.refresh_threshold, config.refresh_interval, self._steps, self.log)

    def plan_call(self) -> StepKind:
        """The scheduled kind, unless this call is too small or there are no statistics to go by."""
        if self.state.step >= len(self.schedule):
            self.log.fall_back("denoiser", f"it is called more often than the scheduler's {len(self.schedule)} steps")
            return "dense"
        if self.grid is None or self.grid.tokens < self.config.min_tokens:
            return "dense"
        step, kind = self.state.step, self.schedule[self.state.step]
        if self.monitor is not None and step in self._steps:
            kind = self.monitor.kind_of(step)
        return "refresh" if kind == "sparse" and not self.state.layers else kind

    def attend(self, layer: AttentionLayer, call: AttentionCall) -> Tensor:
        """The attention core of `layer`."""
        key = (layer.name, self.calls[layer.name])
        self.calls[layer.name] += 1
        batch, heads, query_tokens, _ = call.query.shape
        pairs = batch * heads * query_tokens * call.key.shape[2]
        window = self.window(layer, call)
        if isinstance(window, str):
            self.log.fall_back(layer.name, window)
        if window is None or isinstance(window, str):
            self.log.count_pairs(pairs, pairs)
            return call.stock()
        refreshed: Any = self.state.layers.get(key)
        if self.kind == "refresh" or refreshed is None:
            self.log.count_pairs(pairs, pairs)
            output, self.state.layers[key] = self._refresh(layer, call, window, refreshed and refreshed.kept)
            return output
        self.log.count_pairs(pairs * self.config.sparse_density(window.layout), pairs)
        return self.watch.add(layer.name, self._sparse(layer, call, window, refreshed))

    def window(self, layer: AttentionLayer, call: AttentionCall) -> Window | str | None:
        """The window of an attention call; None if it is to be dense, and the reason if it cannot be sparse."""
        query_tokens, key_tokens = call.query.shape[2], call.key.shape[2]
        text_tokens = query_tokens - self.grid.tokens if self.grid else 0
        if self.grid is None:
            return None
        if query_tokens != key_tokens or text_tokens < 0 or (text_tokens and self._family.text == "none"):
            shape = f"{query_tokens}×{key_tokens}"
            return f"it attends {shape} tokens, not the grid's {self.grid.tokens}, so it stays dense"
        density = self.config.block_density(layer.block)
        layout = self._layout(self.grid, text_tokens, self._family.text == "first", density)
        text_mask = call.mask
        if text_mask is not None:
            keys_only = text_mask.dtype == torch.bool and text_mask.shape[1:] == (1, 1, key_tokens)
            if not (keys_only and self._family.text_masked):
                return "its attention mask cannot be combined with a window, so it stays dense"
            text_mask = text_mask[:, 0, 0, layout.text].expand(call.query.shape[0], -1)
        if self.kind == "dense" or layer.block in self.config.dense_blocks or layer.name in self.unstable:
            return None
        return Window(layout, text_mask)

    def _state_bits(self, layer: AttentionLayer, call: AttentionCall) -> int:
        bits, channels = self.config.state_bits, call.query.shape[-1]
        if bits < 8 and channels % (8 // bits):
            self.log.fall_back(layer.name, f"its {channels} channels cannot be packed in {bits} bits, so 8 are taken")
            return 8
        return bits

    def _use_kernel(self, layer: AttentionLayer, call: AttentionCall) -> None:
        inputs = call.query, call.key, call.value
        self.log.use_kernel(implementation(*inputs))
        reason = why_portable(*inputs)
        if reason is not None:
            self.log.fall_back(layer.name, f"{reason}, so its windows are computed by plain torch calls")

    def _refresh(
        self, layer: AttentionLayer, call: AttentionCall, window: Window, earlier: Any
    ) -> tuple[Tensor, Sampled]:
        step, config, bits = self.state.step, self.config, self._state_bits(layer, call)
        if config.correction == "none":
            return call.stock(), Sampled(Uncorrected())
        if config.correction == "reuse":
            output = call.stock()
            return output, Sampled(Reuse.keep(output, bits))
        self._use_kernel(layer, call)
        with torch.autocast(call.query.device.type, enabled=False):  # kernels choose their own precision
            refresh = refresh_attention(
                call.query, call.key, call.value, window.layout, text_mask=window.text_mask, scale=call.scale
            )
        kept: Any
        if config.correction == "residual":
            kept = Residual.keep(refresh, bits)
        elif config.correction == "fitted":
            kept = Fitted.keep(refresh, step, earlier, config.slope_damping, bits)
        else:
            kept = Reshape.keep(refresh, step, config.ratio_increment, bits)
        return refresh.output, Sampled(kept, sample(refresh.window_output).clone() if self.monitor else None)

    def _sparse(self, layer: AttentionLayer, call: AttentionCall, window: Window, refreshed: Sampled) -> Tensor:
        kept = refreshed.kept
        if isinstance(kept, Reuse):
            return kept.output
        self._use_kernel(layer, call)
        inputs = call.query, call.key, call.value, window.layout
        options: dict[str, Any] = {"text_mask": window.text_mask, "scale": call.scale}
        with torch.autocast(call.query.device.type, enabled=False):
            if isinstance(kept, Uncorrected):
                return window_attention(*inputs, **options).output
            reshaping = kept.reshaping(self.state.step)
            output = reshaped_attention(
                *inputs,
                reshaping.ratio,
                reshaping.residual,
                drift=reshaping.drift,
                drift_factor=reshaping.drift_factor,
                **options,
            )
        if self.monitor is not None and refreshed.window_output is not None:
            self.monitor.observe(relative_change(output, reshaping, refreshed.window_output))
        return output


def apply_rettention(
    pipeline: Any,
    family: Family,
    config: RettentionConfig,
    make_hook: Callable[[Run, Family, RettentionConfig], RettentionHook] = RettentionHook,
) -> tuple[Run, Callable[[], None]]:
    r"""
    Apply Re-ttention to the self-attention layers of a pipeline's denoisers.

    Args:
        pipeline (`DiffusionPipeline`):
            Supplies the denoisers, and the scheduler that says when a run begins.
        family (`Family`):
            The pipeline's family.
        config (`RettentionConfig`):
            The configuration.
        make_hook (`Callable[[Run, Family, RettentionConfig], RettentionHook]`, defaults to `RettentionHook`):
            Makes what computes the attention of a denoiser.

    Returns:
        `tuple[Run, Callable[[], None]]`: the log of the running call, and a function that takes everything back.
    """
    run = Run(pipeline)
    with ExitStack() as undo:
        undo.callback(run.close)
        for denoiser in family.denoisers_of(pipeline):
            hook = make_hook(run, family, config)
            undo.callback(attach_hook(denoiser, hook, _RETTENTION_HOOK))
            for layer in family.layers(denoiser):
                undo.callback(attach_core(layer.module, partial(hook.attend, layer)))
        return run, undo.pop_all().close


def check_rettention(denoiser: torch.nn.Module, family: Family, config: RettentionConfig) -> None:
    """Refuse a configuration that does not fit the model.

    Raises:
        AccelerationError: `dense_blocks` names a block that the model does not have, or `block_densities` are not one
            for each block.
    """
    blocks = {layer.block for layer in family.layers(denoiser)}
    missing = sorted(set(config.dense_blocks) - blocks)
    if missing:
        raise AccelerationError(
            f"dense_blocks names block {missing[0]}, but this model has {len(blocks)}; "
            f"give indices from 0 to {max(blocks)}."
        )
    if config.block_densities and len(config.block_densities) != len(blocks):
        raise AccelerationError(
            f"block_densities are {len(config.block_densities)}, but this model has {len(blocks)} blocks; give one "
            "density for each, or calibrate this model with hasten.calibrate."
        )


def is_hooked(denoiser: torch.nn.Module) -> bool:
    """Whether Re-ttention is applied to `denoiser`."""
    return _RETTENTION_HOOK in getattr(getattr(denoiser, "_diffusers_hook", None), "hooks", {})

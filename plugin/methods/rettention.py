"""Re-ttention: sparse attention whose softmax statistics are carried over from the last dense step.

Chen et al., "Re-ttention: Ultra Sparse Visual Generation via Attention Statistical Reshape", NeurIPS 2025,
arXiv 2505.22918.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from hasten.kernels import (
    BandLayout,
    Layout,
    TileLayout,
    implementation,
    refresh_attention,
    reshaped_attention,
    why_portable,
    window_attention,
)

from ..errors import AccelerationError
from ..families import AttentionLayer, Family, TokenGrid
from ..fields import check_fields
from ..report import StepKind
from ..runs import Run
from ..seam import AttentionCall, attach_core
from ..state import DenoiserHook, LayerState, attach_hook
from .corrections import Fitted, Reshape, Residual, Reuse, Uncorrected

_RETTENTION_HOOK = "hasten_rettention"


@dataclass(frozen=True)
class RettentionConfig:
    r"""
    Configuration of Re-ttention. The defaults are the paper's for PixArt at 20 steps.

    Important arguments are `density`, `window`, `dense_steps` and `refresh_interval`; the others are for tinkering.

    Args:
        density (`float`, defaults to `0.03125`):
            Size of the attention window as a share of the tokens of a frame; a window spans all frames. What it
            measures to, text and clipping included, is in the report.
        window (`"band"` or `"tiles"`, defaults to `"band"`):
            Shape of the window: the paper's band of `int(frame_tokens * density) // 2` tokens to each side in raster
            order, or a near-square of rows and columns around tiles of some 64 tokens.
        dense_steps (`int`, defaults to `5`):
            Steps at the beginning of a run that stay dense, exactly as without hasten. The paper takes 5 of 20 for
            PixArt, 10 of 50 for HunyuanDiT and 15 of 50 for CogVideoX. "fitted" makes the last of them a refresh.
        refresh_interval (`int`, defaults to `5`):
            After the dense steps, every so many steps compute dense attention and renew the cached statistics. A last
            step that would be a refresh is simply dense.
        ratio_increment (`float`, defaults to `0.04`):
            λ of the paper: what each further sparse step adds to the window's share of the softmax mass. Used by
            "reshape".
        correction (`"reshape"`, `"fitted"`, `"residual"`, `"reuse"` or `"none"`, defaults to `"reshape"`):
            How a sparse step makes up for the tokens outside the window: the paper's re-normalisation, ours with a
            fitted weight and slope, DiTFastAttn's residual, the last dense output itself without any attention, or
            nothing.
        slope_damping (`float`, defaults to `0.5`):
            Share of the residual's slope between two refreshes that the next sparse steps follow. Used by "fitted".
        state_bits (`16`, `8` or `4`, defaults to `16`):
            Bits a value of what is kept between steps: 16 keeps it in the dtype of the model, 8 and 4 pack it, with 32
            bits more for each token of a head.
        min_tokens (`int`, defaults to `0`):
            Calls with fewer visual tokens than this stay dense.
        start_percent (`float`, defaults to `0.0`):
            Share of the steps before which the run stays dense.
        end_percent (`float`, defaults to `1.0`):
            Share of the steps from which on the run stays dense.
        dense_blocks (`tuple[int, ...]`, defaults to `()`):
            Indices of transformer blocks that stay dense.
        block_densities (`tuple[float, ...]`, defaults to `()`):
            A density for each transformer block, in place of `density`; `hasten.calibrate` finds them.

    Raises:
        AccelerationError: a field has the wrong type or is out of bounds.
    """

    density: float = field(default=0.03125, metadata={"exclusiveMinimum": 0, "maximum": 1})
    window: Literal["band", "tiles"] = "band"
    dense_steps: int = field(default=5, metadata={"minimum": 0})
    refresh_interval: int = field(default=5, metadata={"minimum": 1})
    ratio_increment: float = field(default=0.04, metadata={"minimum": 0, "maximum": 1})
    correction: Literal["reshape", "fitted", "residual", "reuse", "none"] = "reshape"
    slope_damping: float = field(default=0.5, metadata={"minimum": 0, "maximum": 1})
    state_bits: Literal[16, 8, 4] = 16
    min_tokens: int = field(default=0, metadata={"minimum": 0})
    start_percent: float = field(default=0.0, metadata={"minimum": 0, "maximum": 1})
    end_percent: float = field(default=1.0, metadata={"minimum": 0, "maximum": 1})
    dense_blocks: tuple[int, ...] = ()
    block_densities: tuple[float, ...] = field(
        default=(), metadata={"items": {"type": "number", "exclusiveMinimum": 0, "maximum": 1}}
    )

    def __post_init__(self) -> None:
        check_fields(self)

    def schedule(self, num_inference_steps: int) -> tuple[StepKind, ...]:
        """What each of `num_inference_steps` steps computes.

        Raises:
            AccelerationError: `dense_steps` are more than there are.
        """
        if self.dense_steps > num_inference_steps:
            raise AccelerationError(
                f"dense_steps={self.dense_steps} are more than the {num_inference_steps} steps of this call; "
                "give fewer dense_steps or more num_inference_steps."
            )
        shares = [step / num_inference_steps for step in range(num_inference_steps)]
        begin = max(self.dense_steps, sum(share < self.start_percent for share in shares))
        end = sum(share < self.end_percent for share in shares)
        kinds: list[StepKind] = ["dense"] * num_inference_steps
        for step in range(begin, end):
            kinds[step] = "sparse" if (step - begin) % self.refresh_interval else "refresh"
        if self.correction == "fitted" and 0 < begin < end:
            kinds[begin - 1] = "refresh"  # a fit needs two refreshes
        if begin < end and kinds[end - 1] == "refresh":
            kinds[end - 1] = "dense"  # no sparse step is left to use its statistics
        return tuple(kinds)

    def block_density(self, block: int) -> float:
        """Size of the windows of a transformer block, as a share of the tokens of a frame."""
        return self.block_densities[block] if self.block_densities else self.density

    def layout(
        self, grid: TokenGrid, text_tokens: int = 0, text_first: bool = True, density: float | None = None
    ) -> Layout:
        """The attention window on `grid`, with text tokens before or behind the visual ones; `density` is a block's."""
        density = self.density if density is None else density
        if self.window == "band":
            return BandLayout.from_density(
                density,
                frame_tokens=grid.frame_tokens,
                frames=grid.frames,
                text_tokens=text_tokens,
                text_first=text_first,
            )
        return TileLayout.from_density(
            density,
            frames=grid.frames,
            height=grid.height,
            width=grid.width,
            text_tokens=text_tokens,
            text_first=text_first,
        )

    def sparse_density(self, layout: Layout) -> float:
        """Share of the query-key pairs that a sparse step computes."""
        return 0.0 if self.correction == "reuse" else layout.density


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
        self._layout = lru_cache(maxsize=256)(config.layout)

    def plan_run(self, num_inference_steps: int) -> None:
        """Resolve the schedule."""
        self.schedule = self.config.schedule(num_inference_steps)

    def plan_call(self) -> StepKind:
        """The scheduled kind, unless this call is too small or there are no statistics to go by."""
        if self.state.step >= len(self.schedule):
            self.log.fall_back("denoiser", f"it is called more often than the scheduler's {len(self.schedule)} steps")
            return "dense"
        if self.grid is None or self.grid.tokens < self.config.min_tokens:
            return "dense"
        kind = self.schedule[self.state.step]
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
        kept = self.state.layers.get(key)
        if self.kind == "refresh" or kept is None:
            self.log.count_pairs(pairs, pairs)
            output, self.state.layers[key] = self._refresh(layer, call, window, kept)
            return output
        self.log.count_pairs(pairs * self.config.sparse_density(window.layout), pairs)
        return self.watch(layer.name, self._sparse(layer, call, window, kept))

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
    ) -> tuple[Tensor, LayerState]:
        step, config, bits = self.state.step, self.config, self._state_bits(layer, call)
        if config.correction == "none":
            return call.stock(), Uncorrected()
        if config.correction == "reuse":
            output = call.stock()
            return output, Reuse.keep(output, bits)
        self._use_kernel(layer, call)
        with torch.autocast(call.query.device.type, enabled=False):  # kernels choose their own precision
            refresh = refresh_attention(
                call.query, call.key, call.value, window.layout, text_mask=window.text_mask, scale=call.scale
            )
        if config.correction == "residual":
            return refresh.output, Residual.keep(refresh, bits)
        if config.correction == "fitted":
            return refresh.output, Fitted.keep(refresh, step, earlier, config.slope_damping, bits)
        return refresh.output, Reshape.keep(refresh, step, config.ratio_increment, bits)

    def _sparse(self, layer: AttentionLayer, call: AttentionCall, window: Window, kept: Any) -> Tensor:
        if isinstance(kept, Reuse):
            return kept.output
        self._use_kernel(layer, call)
        inputs = call.query, call.key, call.value, window.layout
        options: dict[str, Any] = {"text_mask": window.text_mask, "scale": call.scale}
        with torch.autocast(call.query.device.type, enabled=False):
            if isinstance(kept, Uncorrected):
                return window_attention(*inputs, **options).output
            reshaping = kept.reshaping(self.state.step)
            return reshaped_attention(
                *inputs,
                reshaping.ratio,
                reshaping.residual,
                drift=reshaping.drift,
                drift_factor=reshaping.drift_factor,
                **options,
            )


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

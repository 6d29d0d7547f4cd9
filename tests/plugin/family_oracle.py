"""Re-ttention inside a whole stock pipeline, in float64 matrices; it shares no code with hasten.

`oracle_attention` takes the place of `torch.nn.functional.scaled_dot_product_attention`, through which all stock
attention goes here, in the modules that it is told to, and leaves that of the others alone.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

TEXT = {
    "pixart": None,
    "hunyuan_dit": None,
    "sd3": "last",
    "flux": "first",
    "flux2": "first",
    "cogvideox": "first",
    "wan": None,
    "hunyuan_video": "last",
    "ltx": None,
    "mochi": "last",
    "qwen_image": "first",
    "z_image": "last",
}
"""Where the text tokens of the families are."""


@dataclass
class Oracle:
    """
    Attention of the accelerated layers of a run.

    Args:
        kinds: The steps of the run: D dense, R refresh, S sparse.
        text: Where the text tokens are: "first", "last" or None.
        window: Bool matrix over the visual tokens, True where a query (row) sees a key.
        correction: "reshape" or "fitted".
        ratio_increment: λ of "reshape".
        slope_damping: Share of the slope that "fitted" follows.
        step: The running step.
        calls: Calls of each module in it.
        statistics: Of each module and call: step, dense attention, attention to the window and its share ρ, of every
            refresh.
        sparse_calls: Calls that were sparse.
    """

    kinds: str
    text: str | None
    window: Tensor
    correction: str
    ratio_increment: float
    slope_damping: float
    step: int = 0
    calls: dict[Any, int] = field(default_factory=dict)
    statistics: dict[Any, list[Any]] = field(default_factory=dict)
    sparse_calls: int = 0

    def next_step(self) -> None:
        self.step += 1
        self.calls.clear()

    def __call__(self, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        call = self.calls.get(module, 0)
        self.calls[module] = call + 1
        exponentials = (query.double() @ key.double().mT / query.shape[-1] ** 0.5).exp()
        if mask is not None:
            exponentials = exponentials * mask
        inside = exponentials * self._window(query.shape[2])
        ratio = inside.sum(-1, keepdim=True) / exponentials.sum(-1, keepdim=True)
        full = exponentials / exponentials.sum(-1, keepdim=True) @ value.double()
        sparse = inside / inside.sum(-1, keepdim=True) @ value.double()
        kind = self.kinds[self.step]
        history = self.statistics.setdefault((module, call), [])
        if history and history[-1][1].shape != full.shape:
            history.clear()
        if kind == "R" or (kind == "S" and not history):
            history.append((self.step, full, sparse, ratio))
            return full
        if kind == "D":
            return full
        self.sparse_calls += 1
        return getattr(self, f"_{self.correction}")(history, sparse)

    def _window(self, tokens: int) -> Tensor:
        visual = len(self.window)
        window = torch.ones(tokens, tokens, dtype=torch.bool)
        first = tokens - visual if self.text == "first" else 0
        window[first : first + visual, first : first + visual] = self.window
        return window

    def _reshape(self, history: list[Any], sparse: Tensor) -> Tensor:
        when, full, then, ratio = history[-1]
        increased = (ratio + self.ratio_increment * (self.step - when - 1)).clamp(max=1)
        return increased * sparse + full - ratio * then

    def _fitted(self, history: list[Any], sparse: Tensor) -> Tensor:
        when, full, then, _ = history[-1]
        weight, slope = torch.ones(()), torch.zeros(())
        if len(history) > 1:
            earlier, earlier_full, earlier_then, _ = history[-2]
            change, regressor = full - earlier_full, then - earlier_then
            weight = ((change * regressor).sum((-2, -1)) / regressor.square().sum((-2, -1)))[..., None, None]
            weight = weight.clamp(0, 1.5)
            slope = (full - weight * then - earlier_full + weight * earlier_then) / (when - earlier)
        return weight * (sparse - then) + full + self.slope_damping * slope * (self.step - when)


def band(grid: tuple[int, int, int], density: float) -> Tensor:
    """The paper's band over every frame."""
    frames, height, width = grid
    position = torch.arange(height * width).repeat(frames)
    return (position[:, None] - position[None, :]).abs() <= int(height * width * density) // 2


@contextmanager
def oracle_attention(pipeline: Any, names: str, oracle: Oracle) -> Iterator[None]:
    """Let the modules of these names compute their attention with `oracle`."""
    stock, running, handles = F.scaled_dot_product_attention, [None], []

    def attention(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, *rest: Any, **others: Any
    ) -> Tensor:
        if running[0] is None:
            return stock(query, key, value, attn_mask, *rest, **others)
        return oracle(running[0], query, key, value, attn_mask).to(query.dtype)

    def enter(module: Any, *_: Any) -> None:
        running[0] = module

    def leave(*_: Any) -> None:
        running[0] = None

    for denoiser in (pipeline.transformer, pipeline.components.get("transformer_2")):
        for name, module in denoiser.named_modules() if denoiser is not None else ():
            if re.fullmatch(names, name):
                handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    F.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        F.scaled_dot_product_attention = stock
        for handle in handles:
            handle.remove()

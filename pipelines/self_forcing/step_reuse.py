"""Transformer blocks whose result is repeated while what enters them has moved little (a method's `StepReuse`)."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor, nn

from ..kv_cache import StepReuse


class _Computed(NamedTuple):
    feature: Tensor
    residual: Tensor


class ReusingBlocks(nn.Module):
    """Stands for all blocks of a transformer at once: computes them, or adds again what they added last time.

    Args:
        rule (`StepReuse`): says when.
        blocks (`nn.ModuleList`): the stock blocks.
    """

    def __init__(self, rule: StepReuse, blocks: nn.ModuleList) -> None:
        super().__init__()
        self.blocks = blocks
        self._rule = rule
        self._computed: dict[str, _Computed] = {}
        self._reused_here: Counter[str] = Counter()
        self._step: int | None = None
        self._context = ""

    def begin_chunk(self) -> None:
        """Forget the chunk before."""
        self._computed.clear()
        self._reused_here.clear()

    def begin_step(self, context: str, step: int | None) -> None:
        """Say what comes: denoising step `step` of a chunk, or with `None` the pass that writes the cache."""
        self._context, self._step = context, step

    def forward(self, hidden_states: Tensor, *inputs: Tensor) -> Tensor:
        """What the stock blocks make of `hidden_states`, (B, N, C), or nearly."""
        kept = self._computed.get(self._context)
        if kept is not None and self._may_reuse(hidden_states, kept.feature):
            self._reused_here[self._context] += 1
            return hidden_states + kept.residual
        output = hidden_states
        for block in self.blocks:
            output = block(output, *inputs)
        if self._step is not None:
            self._computed[self._context] = _Computed(hidden_states, output - hidden_states)
        return output

    def _may_reuse(self, feature: Tensor, kept: Tensor) -> bool:
        if self._step is None:
            return False
        return self._rule.reuses(self._step, feature, kept, self._reused_here[self._context])


@contextmanager
def reusing(transformer: nn.Module, stack: ReusingBlocks | None) -> Iterator[None]:
    """Within it, `stack` stands for the transformer's blocks; behind it, and after an error, the stock blocks do."""
    if stack is None:
        yield
        return
    transformer.blocks = nn.ModuleList([stack])
    try:
        yield
    finally:
        transformer.blocks = stack.blocks

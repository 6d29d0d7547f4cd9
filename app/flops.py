"""Floating-point operations that a denoiser really performs, counted where its layers run."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn


class FlopCount:
    """Operations seen so far; a multiply and an add count as two.

    A layer that a method skips is not seen and so not counted. Linear and convolution layers are counted from the
    shapes of their outputs, attention from the shapes of its projected queries and keys.
    """

    def __init__(self) -> None:
        self.layers = 0
        self.cross_attention = 0
        self.self_attention = 0
        self._query_shapes: dict[int, torch.Size] = {}

    def total(self, density: float = 1.0) -> float:
        """All operations when self-attention computes the share `density` of its query-key pairs."""
        return self.layers + self.cross_attention + density * self.self_attention

    def count_layer(self, layer: nn.Linear | nn.Conv2d, _inputs: Any, output: Tensor) -> None:
        """A linear or convolution layer ran."""
        output_channels = layer.weight.shape[0]
        self.layers += 2 * output.numel() * (layer.weight.numel() // output_channels)

    def count_queries(self, attention: nn.Module, _layer: nn.Module, _inputs: Any, output: Tensor) -> None:
        """An attention layer projected its queries (B, N, C)."""
        self._query_shapes[id(attention)] = output.shape

    def count_keys(self, attention: nn.Module, _layer: nn.Module, _inputs: Any, output: Tensor) -> None:
        """It then projected its keys (B, M, C): QKᵀ and PV take 2 · B · N · M · C operations each."""
        batch, queries, channels = self._query_shapes[id(attention)]
        operations = 4 * batch * queries * output.shape[1] * channels
        if getattr(attention, "is_cross_attention", queries != output.shape[1]):  # not every family's class tells
            self.cross_attention += operations
        else:
            self.self_attention += operations


@contextmanager
def count_flops(*denoisers: nn.Module) -> Iterator[FlopCount]:
    """Count what `denoisers` perform within the block."""
    count = FlopCount()
    with ExitStack() as stack:
        for module in chain.from_iterable(denoiser.modules() for denoiser in denoisers):
            if isinstance(module, nn.Linear | nn.Conv2d):
                stack.enter_context(module.register_forward_hook(count.count_layer))
            parts = dict(module.named_children())
            if "to_q" in parts and "to_k" in parts:
                stack.enter_context(parts["to_q"].register_forward_hook(partial(count.count_queries, module)))
                stack.enter_context(parts["to_k"].register_forward_hook(partial(count.count_keys, module)))
        yield count

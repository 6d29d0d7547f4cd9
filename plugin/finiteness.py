"""Whether what goes into a denoiser call, and what its layers make of it, is finite."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves


class OutputWatch:
    """The outputs of layers in a denoiser call, looked at together when it is over."""

    def __init__(self) -> None:
        self._largest: list[tuple[str, Tensor]] = []

    def add(self, layer: str, output: Tensor) -> Tensor:
        """Watch this output of a layer; gives it back."""
        self._largest.append((layer, torch.linalg.vector_norm(output.detach(), float("inf"))))
        return output

    def take_unstable(self) -> list[str]:
        """The layers whose outputs were not finite, in their order. Makes the host wait for the device once."""
        watched, self._largest = self._largest, []
        if not watched:
            return []
        finite = torch.stack([largest for _, largest in watched]).isfinite().tolist()
        return list(dict.fromkeys(layer for (layer, _), good in zip(watched, finite, strict=True) if not good))


def is_finite(arguments: Any) -> bool:
    """Whether no tensor among the arguments of a call holds a NaN or +∞; a mask may hold -∞."""
    tensors = [leaf for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)]
    return not any((one.isnan() | one.isposinf()).any() for one in tensors if one.is_floating_point())

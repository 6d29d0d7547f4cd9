"""Weights of the original Self-Forcing repository, for diffusers' `WanTransformer3DModel`.

Huang et al., "Self Forcing: Bridging the Train-Test Gap in Autoregressive Video Diffusion", arXiv 2506.08009. Its
checkpoints hold a generator, its moving average and a critic, in the names of the original Wan code.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from safetensors.torch import load_file
from torch import Tensor, nn

_WEIGHTS = ("generator_ema", "generator", "model")
# what sharding, activation checkpointing and compilation put into the names of a module's parameters
_WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")


def load_self_forcing_weights(
    transformer: nn.Module, checkpoint: str | os.PathLike[str] | Mapping[str, Any], weights: str | None = None
) -> None:
    """Loads an original Self-Forcing checkpoint into a Wan transformer, in the transformer's dtype and on its device.

    Args:
        transformer (`WanTransformer3DModel`): of the checkpoint's size; for the published ones, that of Wan 2.1 1.3B.
        checkpoint (`str`, `PathLike` or mapping): a `.pt` or `.safetensors` file, or what it holds.
        weights (`str`, *optional*): which part to take: "generator_ema", "generator" or "model"; the first that is
            there if left out.

    Raises:
        ValueError: the part is not there, or parameters are missing, unknown or of another shape; the transformer is
            left as it was.
    """
    converted = convert_self_forcing_weights(_read(checkpoint), weights)
    expected = transformer.state_dict()
    faults = {
        "missing": sorted(expected.keys() - converted.keys()),
        "unknown": sorted(converted.keys() - expected.keys()),
        "of another shape": sorted(
            name for name in expected.keys() & converted.keys() if expected[name].shape != converted[name].shape
        ),
    }
    found = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in faults.items() if names)
    if found:
        raise ValueError(f"The checkpoint does not fit the transformer ({found}); load it into one of its size.")
    transformer.load_state_dict(converted)


def convert_self_forcing_weights(checkpoint: Mapping[str, Any], weights: str | None = None) -> dict[str, Tensor]:
    """Weights in diffusers' names from the content of a checkpoint, which is left as it was.

    Args:
        checkpoint (mapping): of parts, or of parameters.
        weights (`str`, *optional*): the part to take; the first of "generator_ema", "generator" and "model" that is
            there if left out.

    Raises:
        ValueError: the part is not there.
    """
    parts = [name for name in _WEIGHTS if isinstance(checkpoint.get(name), Mapping)]
    if weights is not None and weights not in parts:
        there = ", ".join(parts) or "no named part at all"
        raise ValueError(f"The checkpoint has no weights '{weights}' but {there}; choose one that it has.")
    parameters = checkpoint[weights or parts[0]] if parts else checkpoint
    return convert_wan_transformer_to_diffusers({_original_name(name): value for name, value in parameters.items()})


def _original_name(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name.removeprefix("model.")


def _read(checkpoint: str | os.PathLike[str] | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(checkpoint, Mapping):
        return checkpoint
    if Path(checkpoint).suffix == ".safetensors":
        return load_file(checkpoint)
    return torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)

"""The memory that a comparison needs, and that is there."""

from pathlib import Path
from typing import Any

import torch

from hasten.app.errors import UserError
from hasten.app.loading import LoadedModel
from hasten.families import Size, family_of
from hasten.methods.kv_cache_config import rolls_out

_MEMINFO = Path("/proc/meminfo")
_GUIDED_ROWS = 2
_LIVE_ACTIVATIONS = 10
"""Activations of the denoiser that live at once, in widths of its tokens: residual, query, key, value, output, and the
feed-forward's four and more."""
_LIVE_DECODED = 5
"""Full-size feature maps that live at once when the autoencoder decodes, as wide as those that enter its last block."""
_OUTPUT_BYTES = 3 * 4


def check_memory(model: LoadedModel, arguments: dict[str, Any], share: float, state_bytes: int = 0) -> None:
    """Refuse a call that would not fit, with `state_bytes` that it caches, into a `share` of the device's free memory.

    Raises:
        UserError: with the bytes that it needs and the bytes that are free.
    """
    free = free_bytes(model.pipe.device)
    if free is None:
        return
    needed = needed_bytes(model, arguments) + state_bytes
    if needed > share * free:
        raise UserError(f"This size needs about {needed:,} bytes of memory and {free:,} are free; give a smaller one.")


def needed_bytes(model: LoadedModel, arguments: dict[str, Any]) -> int:
    """Estimate of what a call takes beyond the loaded weights: the larger of its denoiser and of its decoder.

    An estimate from shapes, good to a factor of about two; attention counts as if it stored no score matrix. A rollout
    holds one chunk at a time, and the keys and values of its window, whichever cache it will have.
    """
    family = family_of(model.pipe)
    default = family.default_size(model.pipe)
    size = Size(*(arguments.get(name) or getattr(default, name) for name in Size._fields))
    width = family.layers(model.denoiser)[0].module.inner_dim
    grid, itemsize = family.pixel_grid(model.pipe, size), model.denoiser.dtype.itemsize
    if rolls_out(model.pipe):
        config = model.pipe.config
        chunk, window = (frames * grid.frame_tokens for frames in (config.chunk_frames, config.window_frames))
        cache = 2 * window * len(family.layers(model.denoiser))
        denoiser = (chunk * _LIVE_ACTIVATIONS + cache) * width * itemsize
    else:
        denoiser = _GUIDED_ROWS * grid.tokens * width * itemsize * _LIVE_ACTIVATIONS
    vae = getattr(model.pipe, "vae", None)
    if vae is None:
        return denoiser
    widths = getattr(vae.config, "block_out_channels", None) or (96, 192)
    pixels = size.height * size.width
    # autoencoders for videos decode one latent after the other
    at_once = pixels * (family.cell(model.pipe).frames or 1) * widths[min(1, len(widths) - 1)] * vae.dtype.itemsize
    return max(denoiser, at_once * _LIVE_DECODED + pixels * (size.num_frames or 1) * _OUTPUT_BYTES)


def free_bytes(device: torch.device) -> int | None:
    """Bytes that are free on `device`, None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "cpu" and _MEMINFO.exists():
        line = next(line for line in _MEMINFO.read_text().splitlines() if line.startswith("MemAvailable"))
        return int(line.split()[1]) * 1024
    return None

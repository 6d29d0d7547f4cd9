"""Block sizes of the Triton kernels, one row for each architecture and head dim; nothing is tried out at run time.

A program holds a block of queries and streams keys and values past it. What decides a row:

- Queries: 128 of them read a key half as often as 64 do, which the L2 cache needs; 64 where their sums do not fit.
- Keys: 64 at a time leave the registers to the sums, a float32 for each query and channel, and waste little of a
  window that is some hundred keys long.
- Warps: 4 for 128 queries of 64 channels, so that two programs share a multiprocessor and one multiplies while the
  other exponentiates; 8 where the sums would take more than 64 registers of a thread. A thread of gfx942 has 512.
- Stages: blocks of keys and values in shared memory at once. There are 227 KiB on sm_90 and sm_100, 99 KiB on the
  smaller of sm_8x and sm_12x, and 64 KiB on gfx942.

They agree with the ones that PyTorch measured for its flex attention where the kernels are alike. The registers, shared
memory and spills of every row are in `assets/benchmarks/triton-compile.json`, from `hasten.kernels.compile_report`.
"""

from functools import lru_cache
from typing import NamedTuple

import torch

LEAST_KEYS = 16
"""Fewer do not fill a matrix instruction."""


class Blocks(NamedTuple):
    """Queries of a program, keys at a time, warps of a program, and blocks of keys under way."""

    queries: int
    keys: int
    warps: int
    stages: int


# by channels, padded to a power of two, at 2 bytes each
_BLOCKS = {
    "sm_80": {64: Blocks(128, 64, 4, 3), 128: Blocks(128, 64, 8, 2), 256: Blocks(64, 32, 8, 2)},
    "sm_90": {64: Blocks(128, 64, 4, 3), 128: Blocks(128, 64, 8, 3), 256: Blocks(64, 64, 8, 2)},
    "sm_100": {64: Blocks(128, 64, 4, 3), 128: Blocks(128, 64, 8, 3), 256: Blocks(64, 64, 8, 2)},
    "gfx942": {64: Blocks(128, 64, 4, 2), 128: Blocks(128, 64, 4, 2), 256: Blocks(64, 32, 4, 2)},
}


def blocks_for(
    channels: int, dtype: torch.dtype, architecture: str, tile_tokens: int | None = None, *, numbers: int = 0
) -> Blocks:
    """Returns how a kernel is cut.

    Args:
        channels (`int`): the head dim, padded to a power of two.
        dtype (`torch.dtype`): of the inputs. Float32 takes twice the memory, so that its blocks are half as large.
        architecture (`str`): such as "sm_90" or "gfx942"; others take the rows of the nearest one above.
        tile_tokens (`int`, *optional*): queries that share a window; where they fill half a block, it is halved.
        numbers (`int`): scales and offsets of a group, where keys and values are coded. They pass through shared
            memory as well, and sm_8x lacks the registers to decode 64 keys at a time.
    """
    family = _family(architecture)
    blocks = _BLOCKS[family][min(max(channels, 64), 256)]
    if numbers:
        halvings = (family == "sm_80") + (numbers > 1)
        blocks = blocks._replace(keys=max(LEAST_KEYS, blocks.keys >> halvings))
    if dtype == torch.float32:
        return Blocks(blocks.queries // 2, max(LEAST_KEYS, blocks.keys // 2), 8, 2)
    if tile_tokens is not None and tile_tokens <= blocks.queries // 2 and blocks.queries > 64:
        return Blocks(blocks.queries // 2, blocks.keys, 4, 2)
    return blocks


def _family(architecture: str) -> str:
    if architecture.startswith("gfx"):
        return "gfx942"
    number = int(architecture.removeprefix("sm_"))
    return "sm_90" if number == 90 else "sm_100" if 100 <= number < 120 else "sm_80"


@lru_cache
def architecture_of(device: torch.device) -> str:
    """Returns the architecture of a device; sm_90 for those where kernels are interpreted or only compiled."""
    if device.type != "cuda":
        return "sm_90"
    if torch.version.hip:
        return torch.cuda.get_device_properties(device).gcnArchName.split(":")[0]
    return "sm_{}{}".format(*torch.cuda.get_device_capability(device))

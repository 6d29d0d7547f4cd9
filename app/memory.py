"""Peak memory of a piece of work."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


class PeakMemory:
    """Filled in when the work is over: `bytes`, or None where the system does not tell."""

    bytes: int | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[PeakMemory]:
    """Measure the peak within the block, weights included.

    On a CUDA or ROCm device it is the allocator's peak. On a CPU under Linux it is the resident peak of the whole
    process as the kernel counts it, after memory that earlier work freed has been handed back. Elsewhere it stays None.
    """
    peak = PeakMemory()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device)
    elif device.type == "cpu" and _CLEAR_REFS.exists():
        _hand_back_freed_memory()
        _CLEAR_REFS.write_text(_RESET_PEAK)
        yield peak
        peak.bytes = _resident_peak()
    else:
        yield peak


def _hand_back_freed_memory() -> None:
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _resident_peak() -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def out_of_memory(device: torch.device) -> str:
    """What a row says for want of memory on the GPU `device`, whose cached blocks are given back for the next one."""
    torch.cuda.empty_cache()
    return f"out of memory on {torch.cuda.get_device_name(device)}"

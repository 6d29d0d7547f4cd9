"""Seconds and memory of calls on a CPU and on a GPU: medians of interleaved calls, so that a slow minute meets all."""

import os
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch.profiler import ProfilerActivity, profile

Call = Callable[[], object]
WARM_UPS = 3


def interleaved_medians(calls: Sequence[Call], repeats: int, device: torch.device) -> list[float]:
    """Returns the median seconds of each call on a device, after it has been warmed up."""
    return (_gpu_medians if device.type == "cuda" else _cpu_medians)(calls, repeats, device)


def peak_allocated_bytes(call: Call, device: torch.device) -> int:
    """Returns the peak of the memory that torch allocates on a device during a call, above what was there before."""
    return _gpu_peak(call, device) if device.type == "cuda" else _cpu_peak(call)


def _cpu_medians(calls: Sequence[Call], repeats: int, device: torch.device) -> list[float]:
    seconds: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(repeats):
        for call, taken in zip(calls, seconds, strict=True):
            began = time.perf_counter()
            call()
            taken.append(time.perf_counter() - began)
    return [statistics.median(taken) for taken in seconds]


def _gpu_medians(calls: Sequence[Call], repeats: int, device: torch.device) -> list[float]:
    """Times by events on the GPU. What a call leaves in the L2 cache is written over before the next one."""
    cache = torch.empty(2 * torch.cuda.get_device_properties(device).L2_cache_size, dtype=torch.int8, device=device)
    events: list[list[tuple[torch.cuda.Event, torch.cuda.Event]]] = [[] for _ in calls]
    for call in calls:
        for _ in range(WARM_UPS):
            call()
    for _ in range(repeats):
        for call, taken in zip(calls, events, strict=True):
            began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            cache.zero_()  # long enough for the CPU to be ready with the call
            began.record()
            call()
            ended.record()
            taken.append((began, ended))
    torch.cuda.synchronize(device)
    return [statistics.median(began.elapsed_time(ended) / 1000 for began, ended in taken) for taken in events]


def _cpu_peak(call: Call) -> int:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own notes would mix with what the user reads
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = call()
    del result
    events = profiler.profiler.kineto_results.events()
    current = peak = 0
    for event in sorted((event for event in events if event.name() == "[memory]"), key=lambda event: event.start_ns()):
        current += event.nbytes()
        peak = max(peak, current)
    return peak


def _gpu_peak(call: Call, device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = call()
    torch.cuda.synchronize(device)
    del result
    return torch.cuda.max_memory_allocated(device) - before

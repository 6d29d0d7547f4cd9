"""What an accelerated call really did: kind, seconds and measured density of every step, memory, fallbacks."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from .errors import AccelerationWarning

if TYPE_CHECKING:
    import torch

StepKind = Literal["dense", "refresh", "sparse"]


@dataclass(frozen=True)
class StepReport:
    """One denoising step: `seconds` spent in the denoiser, `density` = attention pairs computed / all pairs.

    `change` is how much the windows' part of the attention outputs had changed since the last refresh, on average over
    the layers, in sparse steps of a recipe with a `refresh_threshold`; not known of the last step.
    """

    index: int
    kind: StepKind
    seconds: float
    density: float
    change: float | None = None

    def __str__(self) -> str:
        change = "" if self.change is None else f"  {self.change:>6.3f}"
        return f"{self.index:>4}  {self.kind:<7}  {self.seconds:>8.3f}  {self.density:>7.4f}{change}"


@dataclass(frozen=True)
class Fallback:
    """A part of the call that ran without acceleration `count` times."""

    where: str
    reason: str
    count: int


@dataclass(frozen=True)
class AccelerationReport:
    """
    What the last call of an accelerated pipeline did.

    Args:
        steps (`tuple[StepReport, ...]`):
            The denoising steps in order. Where cond and uncond are separate denoiser calls, a step joins them.
        state_bytes (`int`):
            Largest number of bytes that cached tensors took at the end of a step.
        fallbacks (`tuple[Fallback, ...]`):
            What ran without acceleration, and why.
        kernels (`tuple[str, ...]`):
            Implementations that computed windows and refreshes, or read the pages of a cache: "triton", "portable" or
            "cpu".
        kv_cache (`str`, *optional*):
            Method of the cache of keys and values that the call rolled out with.
        kv_bytes (`int`):
            Bytes that this cache took, all layers and contexts together.
        kv_used_bytes (`tuple[int, ...]`):
            Bytes of the pages that it held when each chunk was done.
    """

    steps: tuple[StepReport, ...]
    state_bytes: int
    fallbacks: tuple[Fallback, ...]
    kernels: tuple[str, ...] = ()
    kv_cache: str | None = None
    kv_bytes: int = 0
    kv_used_bytes: tuple[int, ...] = ()

    @property
    def density(self) -> float:
        """Mean over the steps of the share of query-key pairs that were computed; 1 if no step was recorded."""
        return sum(step.density for step in self.steps) / len(self.steps) if self.steps else 1.0

    @property
    def seconds(self) -> float:
        """Seconds spent in the denoiser."""
        return sum(step.seconds for step in self.steps)

    def count(self, kind: StepKind) -> int:
        """Number of steps of one kind."""
        return sum(step.kind == kind for step in self.steps)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return {
            "steps": [asdict(step) for step in self.steps],
            "density": self.density,
            "state_bytes": self.state_bytes,
            "fallbacks": [asdict(fallback) for fallback in self.fallbacks],
            "kernels": list(self.kernels),
            "kv_cache": self.kv_cache,
            "kv_bytes": self.kv_bytes,
            "kv_used_bytes": list(self.kv_used_bytes),
            "seconds": self.seconds,
            "sparse_steps": self.count("sparse"),
            "refresh_steps": self.count("refresh"),
            "dense_steps": self.count("dense"),
        }

    def __str__(self) -> str:
        observed = any(step.change is not None for step in self.steps)
        rows = [f"{'step':>4}  {'kind':<7}  {'seconds':>8}  {'density':>7}" + observed * "  change"]
        rows += [str(step) for step in self.steps]
        rows.append(f"{'all':>4}  {'':<7}  {self.seconds:>8.3f}  {self.density:>7.4f}")
        rows.append(f"cached state: {self.state_bytes:,} bytes at most")
        rows += [f"KV cache: {self.kv_cache}, {self.kv_bytes:,} bytes"] if self.kv_cache else []
        rows += [f"kernels: {', '.join(self.kernels)}"] if self.kernels else []
        rows += [f"fallback: {item.where}: {item.reason} ({item.count}×)" for item in self.fallbacks]
        return "\n".join(rows)


@dataclass
class _Step:
    kind: StepKind
    marks: list[tuple[Any, Any]] = field(default_factory=list)
    computed_pairs: float = 0.0
    all_pairs: int = 0
    change: float | None = None


class RunLog:
    """Collects what the report of the running call needs; each new run starts afresh, warnings stay given."""

    def __init__(self) -> None:
        self._warned: set[str] = set()
        self._left_out: list[tuple[str, str]] = []
        self.begin_run()

    def begin_run(self) -> None:
        """Forget the previous run."""
        self._steps: dict[int, _Step] = {}
        self._fallbacks: Counter[tuple[str, str]] = Counter(self._left_out)
        self._state_bytes = 0
        self._kernels: dict[str, None] = {}
        self._kv_cache: tuple[str | None, int] = None, 0
        self._kv_used_bytes: list[int] = []

    def begin_step(self, index: int, kind: StepKind, device: torch.device) -> None:
        """A denoiser call of step `index` begins."""
        self._running = self._steps.setdefault(index, _Step(kind))
        self._began = _now(device)

    def end_step(self, state_bytes: int, device: torch.device) -> None:
        """The running denoiser call is over and left `state_bytes` of cached tensors."""
        self._running.marks.append((self._began, _now(device)))
        self._state_bytes = max(self._state_bytes, state_bytes)

    def count_pairs(self, computed: float, total: int) -> None:
        """An attention layer computed `computed` of `total` query-key pairs."""
        self._running.computed_pairs += computed
        self._running.all_pairs += total

    def note_change(self, index: int, change: float) -> None:
        """In step `index`, outputs had changed by that share since the last refresh."""
        self._steps[index].change = change

    def hold_cache(self, method: str, nbytes: int) -> None:
        """A run begins with a cache of keys and values of that many bytes."""
        self.begin_run()
        self._kv_cache = method, nbytes

    def use_cache(self, nbytes: int) -> None:
        """A chunk is done, and the pages of the cache took that many bytes."""
        self._kv_used_bytes.append(nbytes)

    def use_kernel(self, name: str) -> None:
        """A window or a refresh is computed by the implementation of that name."""
        self._kernels[name] = None

    def fall_back(self, where: str, reason: str) -> None:
        """Something runs without acceleration: recorded every time, warned the first time."""
        self._fallbacks[where, reason] += 1
        if reason not in self._warned:
            self._warned.add(reason)
            warnings.warn(f"hasten: {where}: {reason}.", AccelerationWarning, stacklevel=2)

    def leave_out(self, where: str, reason: str) -> None:
        """A part of the recipe is left out of this run and of all to come."""
        self._left_out.append((where, reason))
        self.fall_back(where, reason)

    def report(self) -> AccelerationReport:
        """The report of the run so far."""
        steps = tuple(
            StepReport(
                index=index,
                kind=step.kind,
                seconds=sum(_seconds(*marks) for marks in step.marks),
                density=step.computed_pairs / step.all_pairs if step.all_pairs else 1.0,
                change=step.change,
            )
            for index, step in self._steps.items()
        )
        fallbacks = tuple(Fallback(where, reason, count) for (where, reason), count in self._fallbacks.items())
        cache = (*self._kv_cache, tuple(self._kv_used_bytes))
        return AccelerationReport(steps, self._state_bytes, fallbacks, tuple(self._kernels), *cache)


def _now(device: torch.device) -> Any:
    """A point in time; on an accelerator an event in its queue, so that measuring does not make the host wait."""
    if device.type == "cpu":
        return time.perf_counter()
    import torch  # known by then

    event = torch.Event(device.type, enable_timing=True)
    event.record()
    return event


def _seconds(begin: Any, end: Any) -> float:
    if isinstance(begin, float):
        return end - begin
    end.synchronize()
    return begin.elapsed_time(end) / 1000

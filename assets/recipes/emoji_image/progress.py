"""Time-boxed training: stages measured in active seconds, checkpoints written whole, interruptions resumed."""

import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

CHECKPOINT_EVERY = 120.0
LONGEST_STEP = 8.0


def save_atomically(state: Any, path: Path) -> None:
    """`torch.save` that leaves either the old file or the whole new one."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


@dataclass
class Clock:
    """Active seconds of a stage. A pause of the process (a stop, a laptop asleep) counts as one long step at most."""

    budget: float
    spent: float = 0.0

    def ticks(self) -> Iterator[float]:
        """The share of the budget spent, before every step, until it is used up."""
        last = time.monotonic()
        while self.spent < self.budget:
            yield self.spent / self.budget
            now = time.monotonic()
            self.spent += min(now - last, LONGEST_STEP)
            last = now


def cosine(share: float, start: float, end: float, *, warmup: float = 0.0) -> float:
    """Learning-rate factor: linear warm-up over the share `warmup`, then half a cosine from `start` to `end`."""
    if share < warmup:
        return start * (share + 0.01) / (warmup + 0.01)
    phase = (share - warmup) / (1 - warmup)
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(phase, 1.0)))

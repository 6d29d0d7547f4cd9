"""Pairs for the blind test: both results of a run under names that tell nothing, in an order drawn by chance."""

import random
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from hasten.app.web.runs import PastRun
from hasten.app.web.tidying import keep_newest
from hasten.app.web.votes import Side

_MOST_KEPT = 60
"""Files of pairs that stay on disk: those of the last thirty pairs, some of which wait for a vote."""


@dataclass(frozen=True)
class Ballot:
    """A pair before the vote; stays on the server. `shown` are the files of A and B."""

    run: str
    accelerated: Side
    shown: tuple[Path, Path]


def draw_ballot(run: PastRun, folder: Path) -> Ballot:
    """Copy both results of `run` to new names in `folder`, where the oldest copies make room."""
    folder.mkdir(parents=True, exist_ok=True)
    accelerated: Side = random.choice(("a", "b"))
    lanes = ("accelerated", "baseline") if accelerated == "a" else ("baseline", "accelerated")
    first, second = (_copy(run.media(lane), folder) for lane in lanes)
    keep_newest(folder.iterdir(), _MOST_KEPT)
    return Ballot(run.name, accelerated, (first, second))


def differs(run: PastRun) -> bool:
    """Whether there is something to see: identical results would make every answer a guess."""
    return run.result["accelerated"]["psnr"] is not None


def _copy(file: Path, folder: Path) -> Path:
    return Path(shutil.copyfile(file, folder / f"{secrets.token_hex(8)}{file.suffix}"))

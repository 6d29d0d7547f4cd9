"""The blind test: votes in a file, one JSON object a line, and what they add up to."""

import json
import math
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

FILE = "votes.jsonl"
_Z95 = 1.959963984540054
_LOCK = threading.Lock()

Side = Literal["a", "b"]


@dataclass(frozen=True)
class Vote:
    """One answer: which of A and B was taken for the accelerated one, which it was, and how to make both again."""

    answer: Side
    accelerated: Side
    run: str
    model: str
    prompt: str
    seed: int
    recipe: dict[str, Any]

    @property
    def correct(self) -> bool:
        """Whether the accelerated one was found."""
        return self.answer == self.accelerated


@dataclass(frozen=True)
class Tally:
    """How many votes there are, and how many found the accelerated one."""

    votes: int
    correct: int

    @property
    def share(self) -> float:
        """Share of correct votes, 0 to 1."""
        return self.correct / self.votes if self.votes else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % confidence interval of the share; (0, 1) without votes."""
        if not self.votes:
            return 0.0, 1.0
        weight = _Z95**2 / self.votes
        centre = (self.share + weight / 2) / (1 + weight)
        half = _Z95 * math.sqrt(self.share * (1 - self.share) / self.votes + weight / (4 * self.votes)) / (1 + weight)
        return max(0.0, centre - half), min(1.0, centre + half)

    @classmethod
    def of(cls, file: Path) -> Self:
        """The tally of a file of votes; lines that are none are passed over."""
        outcomes = []
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
            try:
                outcomes.append(bool(json.loads(line)["correct"]))
            except (ValueError, KeyError, TypeError):
                continue
        return cls(len(outcomes), sum(outcomes))


def cast(vote: Vote, file: Path) -> None:
    """Append `vote` to `file`, which is made if need be."""
    line = json.dumps({**asdict(vote), "correct": vote.correct, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")})
    with _LOCK:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as votes:
            votes.write(line + "\n")

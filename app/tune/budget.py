"""How long a search may take."""

import re
from dataclasses import dataclass

from hasten.app.errors import UserError

_UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Budget:
    """Seconds of everything together, trials, or both, of which the first to be used up ends the search."""

    seconds: float | None = None
    trials: int | None = None

    def allows(self, *, trials: int, spent: float, next_trial: float, confirmation: float) -> bool:
        """Whether one more trial fits in.

        Args:
            trials: Made so far.
            spent: Seconds so far.
            next_trial: Seconds that it is expected to take.
            confirmation: Seconds that must be left behind it.
        """
        if self.trials is not None and trials >= self.trials:
            return False
        return self.seconds is None or spent + next_trial + confirmation <= self.seconds

    def left(self, *, trials: int, spent: float) -> str:
        """What is left of it, in words."""
        seconds = [] if self.seconds is None else [f"{describe_seconds(max(0.0, self.seconds - spent))} left"]
        counted = [] if self.trials is None else [f"{max(0, self.trials - trials)} trials left"]
        return ", ".join(seconds + counted)


def parse_seconds(text: str) -> float:
    """Seconds of a duration such as `600s`, `10m` or `1.5h`.

    Raises:
        UserError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip())
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if seconds <= 0:
        raise UserError(f"The budget '{text}' is no duration; give a number with its unit, such as 600s, 10m or 1.5h.")
    return seconds


def describe_seconds(seconds: float) -> str:
    """A duration as minutes and seconds, with hours where there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

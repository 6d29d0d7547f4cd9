"""Everything that was measured, on disk as soon as it is there: one line a trial."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import hasten
from hasten.app.console import to_json
from hasten.app.errors import UserError
from hasten.app.files import append_line, refusing, write_whole
from hasten.app.folders import REMEDY, Resumable, check_folder
from hasten.app.output import RESULT
from hasten.app.tune.samples import Measured
from hasten.app.tune.space import Params

TRIALS = "trials.jsonl"
BASELINE = "baseline.json"
RECIPE = "recipe.json"
FIGURE = "frontier.png"

State = Literal["measured", "stopped early", "refused"]


@dataclass(frozen=True)
class Trial:
    """One recipe that was tried.

    Args:
        name (`str`): Of the preset that it is, or its number.
        recipe (`Recipe`): What was tried.
        params (`dict`, *optional*): Where it is in the search space; None outside of it.
        state (`State`): How far it came.
        cost (`float`): Seconds that trying it took.
        measured (`Measured`, *optional*): On all tuning requests; None if it did not come so far.
        violation (`float`): By how much it misses the limits.
        why (`str`): Why it did not come so far.
    """

    name: str
    recipe: hasten.Recipe
    params: Params | None
    state: State
    cost: float
    measured: Measured | None = None
    violation: float = 0.0
    why: str = ""

    @property
    def feasible(self) -> bool:
        """Whether it was measured and keeps the limits."""
        return self.measured is not None and not self.violation

    def to_dict(self) -> dict[str, Any]:
        """The trial as JSON-able values."""
        measured = None if self.measured is None else self.measured.to_dict()
        return {**vars(self), "recipe": self.recipe.to_dict(), "measured": measured}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave."""
        measured = None if values["measured"] is None else Measured.from_dict(values["measured"])
        return cls(**{**values, "recipe": hasten.Recipe.from_dict(values["recipe"]), "measured": measured})


@dataclass
class Ledger:
    """The trials of a search and, before them, plain with fewer steps; in `folder`, or only in memory."""

    folder: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    baseline: tuple[Measured, ...] = ()
    baseline_cost: float = 0.0
    trials: list[Trial] = field(default_factory=list)

    @property
    def spent(self) -> float:
        """Seconds that everything in it took."""
        return self.baseline_cost + sum(trial.cost for trial in self.trials)

    def begin(self, baseline: tuple[Measured, ...], cost: float) -> None:
        """Write what plain with fewer steps measured to, and for which settings the trials will be."""
        self.baseline, self.baseline_cost = baseline, cost
        rows = [one.to_dict() for one in baseline]
        text = to_json({"settings": self.settings, "cost": cost, "rows": rows}) + "\n"
        if self.folder is not None:
            with refusing(self.folder):
                write_whole(self.folder / BASELINE, text.encode())

    def append(self, trial: Trial) -> None:
        """Write one more trial."""
        self.trials.append(trial)
        line = json.dumps(json.loads(to_json({"trial": len(self.trials), **trial.to_dict()})))
        if self.folder is not None:
            with refusing(self.folder):
                append_line(self.folder / TRIALS, line)


def open_ledger(folder: Path, settings: Mapping[str, Any], *, resume: bool, force: bool) -> Ledger:
    """The ledger of an output folder: a new one, or with `resume` the one that is there, if it was begun.

    Raises:
        UserError: the folder holds something, or nothing to resume, or was begun with other settings.
    """
    plain_settings: dict[str, Any] = json.loads(to_json(dict(settings)))
    check_search_folder(folder, resume=resume, force=force)
    if resume and (folder / BASELINE).exists():
        return _read(folder, plain_settings)
    with refusing(folder, remedy=REMEDY):
        folder.mkdir(parents=True, exist_ok=True)
        for name in (RESULT, RECIPE, FIGURE, TRIALS, BASELINE):
            (folder / name).unlink(missing_ok=True)
    return Ledger(folder, plain_settings)


def check_search_folder(folder: Path, *, resume: bool, force: bool) -> None:
    """Refuse what `open_ledger` would refuse, as far as it can be told without the settings.

    Raises:
        UserError: as `check_folder`.
    """
    check_folder(folder, force=force, resume=resume, resumable=Resumable("search", Path(BASELINE)))


def _read(folder: Path, settings: dict[str, Any]) -> Ledger:
    try:
        begun = json.loads((folder / BASELINE).read_text(encoding="utf-8"))
        trials = _whole_lines(folder / TRIALS)
        ledger = Ledger(folder, settings, tuple(map(Measured.from_dict, begun["rows"])), begun["cost"], trials)
        before = begun["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"The search in '{folder}' cannot be read ({error}); begin anew with --force.") from error
    for name, value in settings.items():
        if before.get(name) != value:
            raise UserError(
                f"The search in '{folder}' was begun with another {name} ({before.get(name)}, now {value}); "
                "give the same, or another --out."
            )
    return ledger


def _whole_lines(file: Path) -> list[Trial]:
    """The trials of a file, whose last line an interruption may have cut; that is taken off."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole, encoding="utf-8")
    rows = [json.loads(line) for line in whole.splitlines()]
    return [Trial.from_dict({name: value for name, value in row.items() if name != "trial"}) for row in rows]

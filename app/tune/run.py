"""`hasten tune` from beginning to end: prepare, search, confirm, write."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hasten.app.console import to_json
from hasten.app.errors import UserError
from hasten.app.files import refusing
from hasten.app.loading import LoadedModel, refuse_rollout
from hasten.app.machine import provenance
from hasten.app.output import RESULT, write_result
from hasten.app.tune.bench import PipelineLandscape
from hasten.app.tune.budget import Budget
from hasten.app.tune.confirmation import Verdict, decide
from hasten.app.tune.ledger import FIGURE, RECIPE, TRIALS, Ledger, Trial, check_search_folder, open_ledger
from hasten.app.tune.limits import Limits, Yardstick
from hasten.app.tune.optimiser import require_optuna
from hasten.app.tune.preparation import count_prompts, search_space, split
from hasten.app.tune.samples import Entry, Landscape, Measured
from hasten.app.tune.search import Search
from hasten.app.tune.space import Lever
from hasten.app.tune.steps_line import StepsLine
from hasten.app.tune.words import describe_recipe
from hasten.app.workload import prepare
from hasten.presets import DEFAULT_PRESET


@dataclass(frozen=True)
class Order:
    """What the command line asks for."""

    model: str
    prompts: Path | None
    tuning_prompts: int
    held_out: int
    limits: Limits
    budget: Budget
    methods: Sequence[Lever]
    height: int | None
    width: int | None
    frames: int | None
    steps: int | None
    guidance: float | None
    seed: int
    dtype: str
    device: str
    out: Path
    resume: bool
    force: bool


def tune(order: Order, say: Callable[[str], None]) -> dict[str, Any]:
    """Search, confirm on held-out prompts, and write the recipe; gives the result, which lies beside it.

    Raises:
        UserError: what is asked for is not possible, or the folder cannot be written.
        AccelerationError: the preset that is the reference cannot be run.
    """
    require_optuna()
    check_search_folder(order.out, resume=order.resume, force=order.force)
    model, workload = prepare(
        order.model,
        prompt=None,
        prompts=order.prompts,
        num_prompts=count_prompts(order.model, order.prompts),
        height=order.height,
        width=order.width,
        steps=order.steps,
        guidance=order.guidance,
        seed=order.seed,
        dtype=order.dtype,
        device=order.device,
        frames=order.frames,
        videos=True,
    )
    refuse_rollout(model, "hasten tune")
    if order.limits.max_accuracy_drop is not None and workload.requests[0].scene is None:
        raise UserError("--max-accuracy-drop needs prompts whose scenes are known; leave --prompts out.")
    model.pipe.set_progress_bar_config(disable=True)
    tuning, held_out = split(workload.requests, order.tuning_prompts, order.held_out)
    space = search_space(model, workload.arguments, order.methods)
    about = {name: value for name, value in provenance(model.pipe.device).items() if name != "command"}
    settings = {
        "model": order.model,
        "dtype": str(model.denoiser.dtype).removeprefix("torch."),
        "methods": list(space.methods),
        "limits": dataclasses.asdict(order.limits),
        "seed": order.seed,
        "arguments": workload.arguments,
        "tuning_prompts": [[request.prompt, request.seed] for request in tuning],
        "held_out_prompts": [[request.prompt, request.seed] for request in held_out],
        **about,
    }
    ledger = open_ledger(order.out, settings, resume=order.resume, force=order.force)
    landscape = PipelineLandscape(model, workload, tuning=tuning, held_out=held_out, say=say)
    search = Search(space, landscape, ledger, order.limits, order.budget, order.seed, say)
    search.run()
    confirmed = confirm(landscape, search, say)
    return _write(order, model, search, confirmed, settings, say)


@dataclass(frozen=True)
class Confirmed:
    """What held-out requests say: everything that was measured, how it was judged, and the decision."""

    rows: tuple[Measured, ...]
    seconds: float
    yardstick: Yardstick
    verdict: Verdict
    trial: Trial


def confirm(landscape: Landscape, search: Search, say: Callable[[str], None]) -> Confirmed:
    """Measure preset, finalists and plain with as few steps on held-out requests, interleaved, and decide."""
    preset, finalists = search.ledger.trials[0], search.finalists()
    candidates = [preset, *finalists]
    shares = [trial.measured.share for trial in candidates if trial.measured is not None]
    steps = StepsLine(search.ledger.baseline).entries_around(shares)
    say(f"on {landscape.held_out} held-out prompts: {', '.join(trial.name for trial in candidates)}")
    began = search.clock()
    rows = landscape.measure([*steps, *(Entry(trial.name, trial.recipe) for trial in candidates)], held_out=True)
    line, (reference, *others) = rows[: len(steps)], rows[len(steps) :]
    yardstick = Yardstick(search.limits, StepsLine(tuple(line)), reference)
    verdict = decide(others, yardstick)
    chosen = next(trial for trial in candidates if trial.name == verdict.chosen.name)
    return Confirmed(tuple(rows), search.clock() - began, yardstick, verdict, chosen)


def _write(
    order: Order,
    model: LoadedModel,
    search: Search,
    confirmed: Confirmed,
    settings: dict[str, Any],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Recipe, figure and, last of all, the result, which names them."""
    yardstick, verdict = confirmed.yardstick, confirmed.verdict
    command = provenance(model.pipe.device)["command"]
    described = describe_recipe(confirmed.trial.recipe, search.space.steps)
    decided = {**verdict.to_dict(yardstick.preset), "recipe": described}
    measured = {
        **settings,
        "tuning_prompts": len(settings["tuning_prompts"]),
        "held_out_prompts": len(settings["held_out_prompts"]),
        "limits": yardstick.to_dict(),
        "command": command,
        "held_out": {**verdict.chosen.figures(), "over_fewer_steps": yardstick.over_fewer_steps(verdict.chosen)},
        f"over_{DEFAULT_PRESET}": decided["over_preset"],
        "verdict": verdict.sentence,
    }
    recipe = dataclasses.replace(confirmed.trial.recipe, measured=json.loads(to_json(measured)))
    with refusing(order.out):
        (order.out / RESULT).unlink(missing_ok=True)
        recipe.save(order.out / RECIPE, force=True)
        files = [RECIPE, TRIALS, *_figure(order, model, search, say)]
        result = {
            **settings,
            "limits": yardstick.to_dict(),
            "recipe": recipe.to_dict(),
            "verdict": decided,
            "rows": [_row(row, search, yardstick) for row in confirmed.rows],
            "frontier": [_trial_row(trial, search) for trial in _frontier(search.ledger)],
            "trials": _counts(search.ledger),
            "seconds": {"search": search.ledger.spent, "confirmation": confirmed.seconds},
            "budget": dataclasses.asdict(order.budget),
            "out": str(order.out),
            "files": files,
            "command": command,
        }
        write_result(order.out, result)
    return result


def _row(measured: Measured, search: Search, yardstick: Yardstick) -> dict[str, Any]:
    recipes = {trial.name: trial.recipe for trial in search.ledger.trials}
    described = describe_recipe(recipes[measured.name], search.space.steps) if measured.name in recipes else ""
    own = {"recipe": described, "misses": yardstick.misses(measured), "samples": measured.to_dict()["samples"]}
    over = yardstick.over_fewer_steps(measured) if measured.name in recipes else None
    return {**measured.figures(), **own, "over_fewer_steps": over}


def _trial_row(trial: Trial, search: Search) -> dict[str, Any]:
    assert trial.measured is not None
    described = describe_recipe(trial.recipe, search.space.steps)
    return {**trial.measured.figures(), "recipe": described, "feasible": trial.feasible}


def _frontier(ledger: Ledger) -> list[Trial]:
    """The preset, and the trials to which no other one is superior in speed and PSNR, from the fastest on."""
    measured = [(trial.measured, trial) for trial in ledger.trials if trial.measured is not None]
    found, best = [], -math.inf
    for figures, trial in sorted(measured, key=lambda pair: -pair[0].speedup):
        if figures.psnr > best or trial is ledger.trials[0]:
            found.append(trial)
        best = max(best, figures.psnr)
    return found


def _counts(ledger: Ledger) -> dict[str, int]:
    states = [trial.state for trial in ledger.trials]
    counts = {state.replace(" ", "_"): states.count(state) for state in ("measured", "stopped early", "refused")}
    return {**counts, "feasible": sum(trial.feasible for trial in ledger.trials)}


def _figure(order: Order, model: LoadedModel, search: Search, say: Callable[[str], None]) -> list[str]:
    try:
        from hasten.app.figures import frontier
    except ImportError as error:
        say(f"no figure was drawn ({error}); install hasten[bench] for it")
        return []
    rows = [one.figures() for one in search.ledger.baseline]
    rows += [_trial_row(trial, search) for trial in _frontier(search.ledger)]
    title = f"{model.name}, {search.space.steps} steps, {model.pipe.device.type}: the tuning prompts' frontier"
    frontier(rows, title, order.out / FIGURE)
    return [FIGURE]

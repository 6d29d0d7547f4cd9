"""The recipes among which the tuner searches, as points of a space with few dimensions."""

import dataclasses
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import hasten

Lever = Literal["attention", "sampling", "steps"]
Params = dict[str, Any]

ALL_STEPS, FEWER_STEPS, LOW_FULL, FULL_LOW_FULL = "all steps", "fewer steps", "low, full", "full, low, full"
DENSE = "dense"
SCALES = (1 / 2, 2 / 3, 3 / 4)
_TWO_DIGITS = 2


@dataclass(frozen=True)
class Choice:
    """A dimension of unordered values."""

    values: tuple[Any, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.values


@dataclass(frozen=True)
class Grid:
    """A dimension of ordered values, from `low` to `high`."""

    low: float
    high: float
    step: float

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        position = (value - self.low) / self.step
        return math.isclose(position, round(position), abs_tol=1e-6)


Dimension = Choice | Grid


@dataclass(frozen=True)
class SearchSpace:
    """All recipes that can win on one pipeline.

    Args:
        family (`str`): Pipeline family for which the recipes are.
        steps (`int`): Steps that the user asks for; a recipe with stages runs as many as it says.
        scales (`tuple[float, ...]`): Resolutions of a low stage, as shares of the full one.
        methods (`Collection[Lever]`): What may be used: sparse attention, stages of lower resolution, fewer steps.
    """

    family: str
    steps: int
    scales: tuple[float, ...]
    methods: Collection[Lever] = ("attention", "sampling", "steps")

    @property
    def dimensions(self) -> dict[str, Dimension]:
        """Every dimension by its name, each behind those that decide whether it exists (see `exists`)."""
        windows = (DENSE, "band", "tiles") if "attention" in self.methods else (DENSE,)
        stages = [ALL_STEPS]
        stages += [FEWER_STEPS] if "steps" in self.methods else []
        stages += [LOW_FULL, FULL_LOW_FULL] if "sampling" in self.methods and self.scales else []
        return {
            "window": Choice(windows),
            "density_halvings": Grid(2, 6, 1),
            "dense_steps": Grid(1, max(2, self.steps // 2), 1),
            "refresh_interval": Grid(2, 10, 1),
            "correction": Choice(("reshape", "residual", "fitted")),
            "stages": Choice(tuple(stages)),
            "share": Grid(0.2, 0.95, 0.05),
            "scale": Choice(self.scales),
            "first_share": Grid(0.04, 0.3, 0.02),
            "low_share": Grid(0.1, 0.6, 0.02),
            "last_share": Grid(0.04, 0.5, 0.02),
            "low_start": Grid(0.7, 0.95, 0.05),
            "last_start": Grid(0.3, 0.65, 0.05),
            "transition": Choice(("fresh", "correlated", "snr_matched")),
            "interpolation": Choice(("lanczos", "bicubic", "bilinear")),
        }

    def exists(self, name: str, params: Mapping[str, Any]) -> bool:
        """Whether a point whose earlier dimensions are `params` has the dimension `name`."""
        if name in ("window", "stages"):
            return True
        if name in ("density_halvings", "dense_steps", "refresh_interval", "correction"):
            return params["window"] != DENSE
        if name == "share":
            return params["stages"] == FEWER_STEPS
        if name in ("first_share", "low_start"):
            return params["stages"] == FULL_LOW_FULL
        resized = params["stages"] in (LOW_FULL, FULL_LOW_FULL)
        return resized and (name != "interpolation" or params["transition"] != "snr_matched")

    def recipe(self, params: Mapping[str, Any]) -> hasten.Recipe | None:
        """The recipe at a point, without attention that would stay dense; None where nothing is switched on."""
        sampling = self._sampling(params)
        run = self.steps if sampling is None else sum(stage.count(self.steps) for stage in sampling.stages)
        attention = None
        if params["window"] != DENSE:
            attention = hasten.RettentionConfig(
                density=2.0 ** -params["density_halvings"],
                window=params["window"],
                dense_steps=min(params["dense_steps"], run - 1),
                refresh_interval=params["refresh_interval"],
                correction=params["correction"],
            )
            if "sparse" not in attention.schedule(run):
                attention = None
        if attention is None and sampling is None:
            return None
        return hasten.Recipe(attention, sampling, family=self.family)

    def params(self, recipe: hasten.Recipe) -> Params | None:
        """The point at which `recipe` is; None if it is not in the space."""
        recipe = dataclasses.replace(recipe.for_kind(rolls_out=False), family=self.family).for_family(self.family)
        found: Params = {"window": DENSE, "stages": ALL_STEPS}
        if recipe.attention is not None:
            names = ("window", "dense_steps", "refresh_interval", "correction")
            found |= {name: getattr(recipe.attention, name) for name in names}
            found["density_halvings"] = round(-math.log2(recipe.attention.density))
        if recipe.sampling is not None:
            found |= _stage_params(recipe.sampling)
        dimensions = self.dimensions
        params = {name: found[name] for name in dimensions if self.exists(name, found) and name in found}
        inside = all(params[name] in dimensions[name] for name in params)
        complete = all(name in params for name in dimensions if self.exists(name, found))
        if not inside or not complete or self.recipe(params) != recipe:
            return None
        return params

    def fewer_steps(self, share: float) -> Params:
        """The point at which plain with `share` of its steps is."""
        return {"window": DENSE, "stages": FEWER_STEPS, "share": share}

    def _sampling(self, params: Mapping[str, Any]) -> hasten.BottleneckConfig | None:
        def share(name: str) -> float:
            return round(params[name], _TWO_DIGITS)

        if params["stages"] == ALL_STEPS:
            return None
        if params["stages"] == FEWER_STEPS:
            return hasten.BottleneckConfig((hasten.BottleneckStage(steps=share("share")),))
        last = hasten.BottleneckStage(steps=share("last_share"), start=share("last_start"))
        three = params["stages"] == FULL_LOW_FULL
        low = hasten.BottleneckStage(
            steps=share("low_share"), scale=params["scale"], start=share("low_start") if three else 1.0
        )
        first = (hasten.BottleneckStage(steps=share("first_share")),) if three else ()
        resize = {} if params["transition"] == "snr_matched" else {"interpolation": params["interpolation"]}
        return hasten.BottleneckConfig((*first, low, last), **resize).with_transition(params["transition"])


def _stage_params(config: hasten.BottleneckConfig) -> Params:
    """The values that stages would have in the space, as far as they can be read off."""
    *first, last = config.stages
    if not first:
        return {"stages": FEWER_STEPS, "share": last.steps}
    low = first[-1]
    return {
        "stages": LOW_FULL if len(first) == 1 else FULL_LOW_FULL,
        "scale": low.scale,
        "first_share": first[0].steps,
        "low_share": low.steps,
        "last_share": last.steps,
        "low_start": low.start,
        "last_start": last.start,
        "transition": config.transition,
        "interpolation": config.interpolation,
    }

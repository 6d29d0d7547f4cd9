"""From rows, and what the command line says for all of them, to the items of a batch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

from hasten import AccelerationError, Recipe, accelerate
from hasten.app.batch.columns import Row
from hasten.app.batch.items import Item
from hasten.app.errors import UserError, as_options
from hasten.app.loading import LoadedModel
from hasten.app.methods import PLAIN, choose_recipe, explain_call
from hasten.app.workload import seed_of


@dataclass(frozen=True)
class Defaults:
    """
    What a row gets that says nothing else.

    Args:
        seed (`int`): Of the first item; each further item takes the next one.
        variants (`int`): Items a row, each with its own seed.
        plain (`bool`): Whether items run without acceleration.
        preset, recipe, sampling: As for `choose_recipe`.
        arguments (`dict`): Pipeline arguments; `None` leaves one to the model.
    """

    seed: int
    variants: int
    plain: bool
    preset: str | None
    recipe: Path | None
    sampling: str | None
    arguments: dict[str, Any]

    def method(self, pipeline: DiffusionPipeline | None = None) -> tuple[str, Recipe | None]:
        """Name and recipe of a row that chooses none, for a `pipeline` that may have presets of its own.

        Raises:
            UserError, AccelerationError: there is no such preset or recipe, or plain and one of them are asked for.
        """
        if not self.plain:
            return choose_recipe(self.preset, self.recipe, self.sampling, pipeline)
        if self.preset or self.recipe or self.sampling:
            raise UserError("Give either --plain, or --preset, --recipe and --sampling.")
        return PLAIN.name, None


def plan_items(rows: Sequence[Row], defaults: Defaults, model: LoadedModel) -> tuple[Item, ...]:
    """The items that `rows` ask for; one that `model` cannot make carries the reason.

    Raises:
        UserError: no row can run.
    """
    planner = _Planner(defaults, model)
    items = [item for number, row in enumerate(rows, start=1) for item in planner.items(number, row)]
    if all(item.error for item in items):
        raise UserError(f"No row can run; {items[0].source}: {items[0].error}")
    return tuple(items)


class _Planner:
    def __init__(self, defaults: Defaults, model: LoadedModel) -> None:
        self._defaults = defaults
        self._model = model
        self._refusals: dict[str, str | None] = {}

    def items(self, number: int, row: Row) -> list[Item]:
        try:
            if row.error is not None:
                raise UserError(row.error)
            name, recipe = self._method(row)
            arguments = self._arguments(row)
            if recipe is not None:
                self._require_that_it_runs(recipe, arguments)
        except (UserError, AccelerationError) as error:
            return [Item(number, None, row.id, row.source, row.prompt, row.seed or 0, {}, "", None, as_options(error))]
        variants = self._defaults.variants
        return [
            Item(
                number=number,
                variant=None if variants == 1 else variant + 1,
                id=row.id,
                source=row.source,
                prompt=row.prompt,
                seed=self._seed(number, row, variant),
                arguments=arguments,
                method=name,
                recipe=None if recipe is None else recipe.to_dict(),
            )
            for variant in range(variants)
        ]

    def _seed(self, number: int, row: Row, variant: int) -> int:
        defaults = self._defaults
        first = defaults.seed + (number - 1) * defaults.variants if row.seed is None else row.seed
        return seed_of(first, variant)

    def _method(self, row: Row) -> tuple[str, Recipe | None]:
        """What the row says about acceleration comes before the command line; a sampling preset joins either."""
        if row.preset == PLAIN.name:
            if row.recipe is not None or row.sampling is not None:
                raise UserError("this row is plain and has a recipe or a sampling preset; leave one empty.")
            return PLAIN.name, None
        if row.preset is None and row.recipe is None and row.sampling is None:
            return self._defaults.method(self._model.pipe)
        if row.preset is not None and row.recipe is not None:
            raise UserError("this row has a preset and a recipe; leave one empty.")
        chosen = (row.preset, row.recipe)
        if chosen == (None, None) and not self._defaults.plain:
            chosen = (self._defaults.preset, self._defaults.recipe)
        return choose_recipe(*chosen, row.sampling or self._defaults.sampling, self._model.pipe)

    def _arguments(self, row: Row) -> dict[str, Any]:
        own = {
            "negative_prompt": row.negative_prompt,
            "width": row.width,
            "height": row.height,
            "num_frames": row.frames,
            "num_inference_steps": row.steps,
            "guidance_scale": row.guidance,
        }
        given = {name: value for name, value in own.items() if value is not None}
        return self._model.arguments(**{**self._defaults.arguments, **given})

    def _require_that_it_runs(self, recipe: Recipe, arguments: dict[str, Any]) -> None:
        """Try once for each combination of recipe, size and steps whether the family can do it."""
        call = {name: value for name, value in arguments.items() if name != "negative_prompt"}
        key = json.dumps([recipe.to_dict(), call], sort_keys=True, default=str)
        if key not in self._refusals:
            try:
                with accelerate(self._model.pipe, recipe):
                    pass
                explain_call(self._model, recipe, arguments)
                self._refusals[key] = None
            except AccelerationError as error:
                self._refusals[key] = str(error)
        if self._refusals[key] is not None:
            raise UserError(self._refusals[key])

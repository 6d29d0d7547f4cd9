"""The advanced settings: one input for every field of the configuration dataclasses, made from their own schema."""

import dataclasses
import json
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import gradio as gr

from hasten import AccelerationError, Recipe
from hasten.app.errors import UserError
from hasten.app.web.numbers import number_input, parsed, written
from hasten.fields import json_schema, plain

_TITLES = {"attention": "Sparse attention", "sampling": "Bottleneck sampling", "kv_cache": "Quantized KV cache"}
_WHOLE_CALLS = "Only for pictures, and for videos that are made as a whole."
_SERVES = {
    "attention": _WHOLE_CALLS,
    "sampling": _WHOLE_CALLS,
    "kv_cache": "Only for videos that are made chunk by chunk; any other model leaves it out.",
}


@dataclass(frozen=True)
class Control:
    """A Gradio component for one field, and how its value travels from it (`read`) and to it (`write`)."""

    part: str
    field: str
    component: Any
    read: Callable[[Any], Any]
    write: Callable[[Any], Any]


@dataclass(frozen=True)
class Part:
    """The inputs of one part of a recipe; without its `switch` the part is left out."""

    name: str
    config: type
    switch: gr.Checkbox
    controls: tuple[Control, ...]

    @property
    def components(self) -> list[Any]:
        """Its inputs in their order."""
        return [self.switch, *(one.component for one in self.controls)]


class AdvancedSettings:
    """
    All parts of a recipe as inputs; made inside a `gr.Blocks` context.

    Args:
        recipe (`Recipe`): What the inputs show at first.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.parts = tuple(_part(name, config, getattr(recipe, name)) for name, config in recipe_parts().items())

    @property
    def components(self) -> list[Any]:
        """Every input, in the order that `read` takes and `write` gives."""
        return [item for part in self.parts for item in part.components]

    def read(self, values: Sequence[Any]) -> Recipe:
        """The recipe that the inputs say.

        Raises:
            UserError, AccelerationError: a value is none that its field takes.
        """
        left = list(values)
        chosen: dict[str, Any] = {}
        for part in self.parts:
            switched_on = left.pop(0)
            given = {one.field: left.pop(0) for one in part.controls}
            if switched_on:
                chosen[part.name] = {one.field: _read(one, given[one.field]) for one in part.controls}
        return Recipe.from_dict({"format": "hasten-recipe", "version": 1, **chosen})

    def write(self, recipe: Recipe) -> list[Any]:
        """Values of the inputs that show `recipe`; a part that it lacks keeps the defaults, switched off."""
        values: list[Any] = []
        for part in self.parts:
            config = getattr(recipe, part.name)
            shown = plain(part.config() if config is None else config)
            values += [config is not None, *(one.write(shown[one.field]) for one in part.controls)]
        return values


def recipe_parts() -> dict[str, type]:
    """The configuration dataclasses of a recipe by the names of its parts; parts without one are not there yet."""
    found = {}
    for name, hint in get_type_hints(Recipe).items():
        config = next((one for one in get_args(hint) if dataclasses.is_dataclass(one)), None)
        if isinstance(config, type):
            found[name] = config
    return found


def _part(name: str, config: type, value: Any) -> Part:
    title = _TITLES.get(name, name)
    with gr.Accordion(title, open=False):
        switch = gr.Checkbox(value is not None, label=f"Use {title[0].lower()}{title[1:]}", info=_SERVES.get(name))
        shown = plain(config() if value is None else value)
        hints, schema = get_type_hints(config), json_schema(config)["properties"]
        controls = tuple(_control(name, field, hints[field], schema[field], shown[field]) for field in schema)
    return Part(name, config, switch, controls)


def _control(part: str, field: str, hint: Any, schema: dict[str, Any], value: Any) -> Control:
    labels = {"label": field.replace("_", " "), "info": schema["description"], "elem_id": f"{part}-{field}"}
    if get_origin(hint) is Literal:
        return Control(part, field, gr.Dropdown(list(get_args(hint)), value=value, **labels), _same, _same)
    if get_origin(hint) is tuple:
        text = gr.Textbox(_to_text(value), **labels, max_lines=8)
        return Control(part, field, text, _from_text, _to_text)
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if str in kinds:
        return Control(part, field, gr.Textbox(value, **labels), lambda given: given or None, _same)
    return Control(part, field, number_input(value=value, **labels), parsed, written)


def _read(control: Control, value: Any) -> Any:
    try:
        return control.read(value)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{control.part}: {reprlib.repr(value)} was given for {control.field}; give a JSON list such as [0, 1]."
        ) from error


def _same(value: Any) -> Any:
    return value


def _to_text(value: Any) -> str:
    nested = bool(value) and isinstance(value[0], dict)
    return "[\n " + ",\n ".join(json.dumps(one) for one in value) + "\n]" if nested else json.dumps(value)


def _from_text(text: Any) -> Any:
    value = json.loads(text or "[]")
    if not isinstance(value, list):
        raise AccelerationError(f"{reprlib.repr(text)} was given; give a JSON list such as [0, 1].")
    return value

"""A comparison's settings as text to take home: JSON, Python, and an address."""

import dataclasses
import json
from typing import Any

from hasten import Recipe
from hasten.app.web.settings import Settings
from hasten.presets import presets


def recipe_json(recipe: Recipe) -> str:
    """The recipe as the file that `hasten --recipe` and `enable_acceleration` read."""
    return json.dumps(recipe.to_dict(), indent=2)


def recipe_python(settings: Settings) -> str:
    """A script that loads the model, accelerates it and draws the prompt."""
    call = {
        "height": settings.height,
        "width": settings.width,
        "num_frames": settings.num_frames,
        "num_inference_steps": settings.steps,
        "guidance_scale": settings.guidance,
        "negative_prompt": settings.negative_prompt or None,
    }
    given = "".join(f"    {name}={value!r},\n" for name, value in call.items() if value is not None)
    return (
        "import hasten\n"
        "import torch\n"
        "from hasten.app.loading import load_model\n\n"
        f"model = load_model({settings.model!r}, videos=True)\n"
        f"model.pipe.enable_acceleration({_acceleration(settings)})\n"
        f"arguments = model.arguments({given and f'{chr(10)}{given}'})\n"
        f"output = model.pipe(\n    {settings.prompt!r},\n"
        f"    generator=torch.Generator().manual_seed({settings.seed}),\n    **arguments,\n)\n"
        "print(model.pipe.acceleration_report())\n"
    )


def page_link(settings: Settings, page: str) -> str:
    """Address that opens the page at `page` with these settings."""
    return f"{page.split('?')[0].split('#')[0]}?compare={settings.link()}"


def _acceleration(settings: Settings) -> str:
    if presets().get(settings.preset) == settings.recipe:
        return repr(settings.preset)
    parts = ((field.name, getattr(settings.recipe, field.name)) for field in dataclasses.fields(settings.recipe))
    given = "".join(f"    {name}={_constructor(config)},\n" for name, config in parts if config is not None)
    return f"\n{given}"


def _constructor(value: Any) -> str:
    """Python that builds `value`, without the fields that have their defaults."""
    if isinstance(value, tuple):
        items = ", ".join(_constructor(one) for one in value)
        return f"({items},)" if len(value) == 1 else f"({items})"
    if not dataclasses.is_dataclass(value):
        return repr(value)
    changed = {
        field.name: getattr(value, field.name)
        for field in dataclasses.fields(value)
        if getattr(value, field.name) != field.default
    }
    arguments = ", ".join(f"{name}={_constructor(one)}" for name, one in changed.items())
    return f"hasten.{type(value).__name__}({arguments})"

"""Data that ships with hasten: trained models in stock diffusers format, prompts, the recipe schema, figures."""

import json
from functools import cache
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parent
MODELS = ASSETS / "models"
CARD = "hasten.json"
"""What a recipe says of its model, beside the model's parts."""


def bundled_models() -> tuple[str, ...]:
    """Names of the models that ship with hasten; each is a folder for `from_pretrained` of the class that it names.

    That is a class of diffusers, or `hasten.pipelines.self_forcing.SelfForcingWanPipeline`.
    """
    return tuple(sorted(path.parent.name for path in MODELS.glob("*/model_index.json")))


def model_path(name: str) -> Path:
    """Folder of the bundled model `name`.

    Raises:
        KeyError: no bundled model has that name.
    """
    if name not in bundled_models():
        raise KeyError(f"'{name}' is not a bundled model; choose one of {', '.join(bundled_models())}.")
    return MODELS / name


@cache
def model_card(name: str) -> dict[str, Any]:
    """Machine-readable card of a bundled model: `call` (default pipeline arguments), `sizes` (pixels), `measured`."""
    return read_card(model_path(name))


def read_card(folder: Path) -> dict[str, Any]:
    """What the recipe that made the model in `folder` says of it."""
    return json.loads((folder / CARD).read_text())


def prompts(name: str) -> list[dict[str, Any]]:
    """Held-out scenes of the bundled model `name`, in order: `prompt` and the scene that it describes."""
    return [json.loads(line) for line in (ASSETS / "prompts" / f"{name}.jsonl").read_text().splitlines()]


@cache
def kv_study() -> dict[str, Any]:
    """Published figures of 33 cache methods, by benchmark (`moviegen`, `storyeval`) and method; `about` explains."""
    return json.loads((ASSETS / "kv_study.json").read_text())

"""`hasten models`: what there is to use, and why the rest does not work."""

from typing import Any

from hasten.app import options
from hasten.app.console import Screen, screen

METHODS = (
    {"name": "rettention", "works": True, "why": "sparse attention with reshaped statistics: RettentionConfig"},
    {"name": "bottleneck", "works": True, "why": "high, low, high resolution inside one call: BottleneckConfig"},
    {"name": "kv_cache", "works": False, "why": "quantized KV caches are not in this release"},
)


def models(json: options.Json = False) -> None:
    """Bundled models, supported families and methods, and why the rest does not work."""
    with screen(json) as shown:
        shown.result = {"models": _models(), "families": _families(), "methods": [dict(method) for method in METHODS]}
        for kind, entries in shown.result.items():
            _table(shown, kind, entries)


def _models() -> list[dict[str, Any]]:
    from hasten.assets import bundled_models, model_card, model_path

    return [
        {
            "name": name,
            "works": True,
            "why": f"bundled; trained at {', '.join(map(str, model_card(name)['sizes']))} pixels",
            "path": str(model_path(name)),
            "card": model_card(name),
        }
        for name in bundled_models()
    ]


def _families() -> list[dict[str, Any]]:
    from hasten.families import FAMILIES

    return [
        {"name": family.name, "works": family.works, "why": family.why, "pipelines": list(family.pipelines)}
        for family in FAMILIES.values()
    ]


def _table(shown: Screen, kind: str, entries: list[dict[str, Any]]) -> None:
    rows = [(entry["name"], "yes" if entry["works"] else "no", entry["why"]) for entry in entries]
    shown.table(kind, ("name", "works", "why"), rows, texts=3)

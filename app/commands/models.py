"""`hasten models`: what there is to use, and what works of it."""

from typing import Annotated, Any

import typer

from hasten.app import options
from hasten.app.console import Screen, screen
from hasten.app.tables import DASH

ACCELERATIONS = (
    {"name": "rettention", "works": True, "why": "sparse attention with reshaped statistics: RettentionConfig"},
    {"name": "bottleneck", "works": True, "why": "high, low, high resolution inside one call: BottleneckConfig"},
    {"name": "kv_cache", "works": True, "why": "quantized KV caches of self-forcing video: KVCacheConfig, --methods"},
)

Methods = Annotated[
    bool, typer.Option("--methods", help="The cache methods, with the compression that a study of them published.")
]


def models(methods: Methods = False, json: options.Json = False) -> None:
    """Bundled models, supported families and methods, and what works of each."""
    with screen(json) as shown:
        shown.result = {
            "models": _models(),
            "families": _families(),
            "methods": _cache_methods() if methods else [dict(method) for method in ACCELERATIONS],
        }
        if methods:
            _cache_method_table(shown, shown.result["methods"])
            return
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


def _cache_methods() -> list[dict[str, Any]]:
    from hasten.assets import kv_study
    from hasten.pipelines.kv_cache import METHODS, compression_ratio

    published = kv_study()["moviegen"]
    return [
        {
            "name": method.name,
            "family": method.family,
            "works": True,
            "why": method.description,
            "published_ratio": published.get(method.name, {}).get("ratio"),
            "ratio": round(compression_ratio(method), 3),
        }
        for method in METHODS.values()
    ]


def _table(shown: Screen, kind: str, entries: list[dict[str, Any]]) -> None:
    rows = [(entry["name"], "yes" if entry["works"] else "no", entry["why"]) for entry in entries]
    shown.table(kind, ("name", "works", "why"), rows, texts=3)


def _cache_method_table(shown: Screen, entries: list[dict[str, Any]]) -> None:
    rows = [
        (
            entry["name"],
            entry["why"],
            DASH if entry["published_ratio"] is None else f"{entry['published_ratio']:.2f}×",
            f"{entry['ratio']:.2f}×",
        )
        for entry in entries
    ]
    shown.table("cache methods", ("name", "what it keeps", "published", "ours"), rows, texts=2)
    shown.text(
        "published: against 42 frames in 16 bits, half of which no query sees, with packing counted but not done. "
        "ours: real bytes against the window of 21 frames in 16 bits, Wan 2.1 1.3B at 480 × 832."
    )

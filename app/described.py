"""What `hasten generate` tells of a call, as JSON-able values."""

from typing import Any

from hasten import Recipe
from hasten.app.series import Call
from hasten.app.workload import Request, Workload


def describe_call(call: Call, request: Request, workload: Workload, recipe: Recipe, fps: int) -> dict[str, Any]:
    """What `request` gave and cost with `recipe`; of a video also its frames and what its cache held."""
    return {
        "prompt": request.prompt,
        "seed": request.seed,
        "seconds": call.seconds,
        "steps": call.steps or workload.steps,
        "density": 1.0 if call.density is None else call.density,
        "peak_bytes": call.peak_bytes,
        "fallbacks": list(call.fallbacks),
        **(_describe_video(call, recipe, fps) if call.video else {}),
    }


def _describe_video(call: Call, recipe: Recipe, fps: int) -> dict[str, Any]:
    """No bytes of a cache that does not report."""
    return {
        "frames": len(call.video),
        "fps": fps,
        "kv_cache": recipe.kv_cache.method if recipe.kv_cache else None,
        "kv_bytes": call.kv_bytes,
        "kv_used_bytes": list(call.kv_used_bytes),
    }

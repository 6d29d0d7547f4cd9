"""What commands need for videos that are generated chunk by chunk: their cache, their refusals, their end."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import hasten
from hasten.app.errors import UserError
from hasten.app.loading import LoadedModel
from hasten.app.methods import choose_recipe, explain_call
from hasten.app.series import Call
from hasten.app.video import FPS
from hasten.assets import model_card
from hasten.explanation import CachePlan
from hasten.methods.kv_cache_config import rolls_out
from hasten.pipelines.kv_cache import shortage

PLAIN_WINDOW = "bf16"
"""The cache method that keeps the window as it is, in the dtype of the model."""


def choose_cache(method: str | None, window: int | None, sink_frames: int | None) -> hasten.KVCacheConfig | None:
    """The cache for `--kv-cache`, `--window` and `--sink-frames`; None for none of them.

    Raises:
        AccelerationError: there is no such method; the nearest is named.
    """
    if (method, window, sink_frames) == (None, None, None):
        return None
    return hasten.KVCacheConfig(method or PLAIN_WINDOW, window_frames=window, sink_frames=sink_frames)


def choose(
    cache: hasten.KVCacheConfig | None, preset: str | None, file: Path | None, sampling: str | None
) -> tuple[str, hasten.Recipe]:
    """Name and recipe for the cache that was chosen, or for `--preset`, `--recipe` and `--sampling`.

    Raises:
        UserError: both were given.
        AccelerationError: as `choose_recipe`.
    """
    if cache is None:
        return choose_recipe(preset, file, sampling)
    if preset or file or sampling:
        raise UserError(
            "Give either --kv-cache, --window and --sink-frames, or one of --preset, --recipe and --sampling."
        )
    return cache.method, hasten.Recipe(kv_cache=cache)


def fitted(model: LoadedModel, recipe: hasten.Recipe, arguments: dict[str, Any], *, plain: bool) -> hasten.Recipe:
    """What of `recipe` will run on the model; a call that would fail is refused before the first minute is spent.

    A `plain` call runs nothing of it. Of those only rollouts are checked.

    Raises:
        AccelerationError: the recipe does not fit the model or the call; for a rollout, frames are no whole chunks, or
            the window has no room for one.
    """
    if not plain:
        return explain_call(model, recipe, arguments).recipe
    if rolls_out(model.pipe):
        explain_call(model, hasten.Recipe(kv_cache=hasten.KVCacheConfig(PLAIN_WINDOW)), arguments)
    return hasten.Recipe()


def cache_facts(
    model: LoadedModel, recipe: hasten.Recipe, arguments: dict[str, Any], call: Call
) -> dict[str, Any] | None:
    """What the cache of a rollout held, JSON-able, in bytes; None where there is none.

    `bytes` are those of its tensors, `used_bytes` those in use after each chunk, `exact_bytes` those of the same window
    in 16 bits; with guidance all of them are those of both contexts.
    """
    if recipe.kv_cache is None or call.kv_bytes is None:
        return None
    plan = _cache_plan(model, recipe, arguments)
    return {
        "method": plan.method,
        "bytes": call.kv_bytes,
        "used_bytes": list(call.kv_used_bytes),
        "exact_bytes": plan.exact_bytes,
        "ratio": plan.exact_bytes / call.kv_bytes,
    }


def _cache_plan(model: LoadedModel, recipe: hasten.Recipe, arguments: dict[str, Any]) -> CachePlan:
    """The cache of a call with these arguments, all contexts together."""
    plan = explain_call(model, recipe, arguments).kv_cache
    assert plan is not None
    return plan.in_contexts(2 if arguments.get("guidance_scale", 1.0) > 1 else 1)


def frame_rate(model: LoadedModel) -> int:
    """Frames a second of the model's videos."""
    return model_card(model.name).get("fps", FPS) if model.bundled else FPS


@contextmanager
def memory_sentence(model: LoadedModel, recipe: hasten.Recipe, arguments: dict[str, Any]) -> Iterator[None]:
    """Within it, a rollout that runs out of memory is answered with the bytes of its cache and a smaller method.

    Raises:
        UserError: it did.
    """
    try:
        yield
    except RuntimeError as error:
        if not rolls_out(model.pipe):
            raise
        from hasten.pipelines.self_forcing import CacheMemoryError, is_out_of_memory

        if isinstance(error, CacheMemoryError):
            raise UserError(str(error)) from None
        if not is_out_of_memory(error):
            raise
        used = recipe if recipe.kv_cache else hasten.Recipe(kv_cache=hasten.KVCacheConfig(PLAIN_WINDOW))
        plan = _cache_plan(model, used, arguments)
        raise UserError(shortage(plan.method, plan.nbytes, plan.smaller)) from None


class Cancellation:
    """Whether Ctrl-C was pressed."""

    cancelled = False


@contextmanager
def cancelled_by_interrupt(model: LoadedModel) -> Iterator[Cancellation]:
    """Within it, Ctrl-C ends a rollout with the chunks that are done; a second one ends the command."""
    cancellation = Cancellation()
    if not rolls_out(model.pipe) or threading.current_thread() is not threading.main_thread():
        yield cancellation
        return

    def cancel(_signal: int, _frame: FrameType | None) -> None:
        cancellation.cancelled = True
        model.pipe._interrupt = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, cancel)
    try:
        yield cancellation
    finally:
        signal.signal(signal.SIGINT, before)

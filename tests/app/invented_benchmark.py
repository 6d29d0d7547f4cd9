"""A benchmark whose calls are invented in no time: what they give depends on method, steps and request alone."""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hasten.app.benchmark.folder import BenchFolder
from hasten.app.benchmark.run import measure_into
from hasten.app.loading import LoadedModel
from hasten.app.methods import PLAIN
from hasten.app.series import Call, Method
from hasten.app.workload import Request, Workload

SIDE, STEPS = 32, 10
REQUESTS = (
    Request("a rocket on a blue background", 0),
    Request("a rocket on a blue background", 1),
    Request('<b>"a cat" & a dog</b>', 2),
)
WORKLOAD = Workload(REQUESTS, {"num_inference_steps": STEPS, "height": SIDE, "width": SIDE})
METHODS = [Method("half", PLAIN.active), Method("third, <i>bold</i>", PLAIN.active)]
SHARES = {"plain": 1.0, "half": 0.5, "third, <i>bold</i>": 0.33}
NAMES = ["plain", "plain, 5 steps", "plain, 3 steps", "half", "third, <i>bold</i>"]
"""Of the rows, in their order."""
CALLS = len(REQUESTS) * len(NAMES)


def invented_call(method: Method, request: Request, workload: Workload) -> Call:
    """A call that takes a tenth of a second a step, times the method's share, and a little for each request."""
    identity = zlib.crc32(repr((method.name, workload.steps, request.prompt, request.seed)).encode())
    noise = np.random.default_rng(identity).integers(0, 40, (SIDE, SIDE, 3))
    scene = np.random.default_rng(request.seed).integers(0, 200, 3)
    denoise = 0.1 * workload.steps * SHARES[method.name] * (1 + request.seed / 97)
    return Call(
        image=Image.fromarray((noise + scene).astype(np.uint8)),
        seconds=denoise + 0.02,
        denoiser_seconds=denoise,
        decode_seconds=0.015,
        peak_bytes=10**8 + identity % 1000,
        flops=1e12 * workload.steps,
        self_attention_flops=1e11 * workload.steps,
        fallbacks=({"reason": "invented"},),
    )


def measure(folder: Path, model: LoadedModel, *, force: bool = False, **changes: Any) -> dict[str, Any]:
    """`measure_into` with the invented workload and methods: what `result.json` holds."""
    given = {"methods": METHODS, "workload": WORKLOAD, "say": lambda _line: None, "schedule": {}, "judges": ()}
    return measure_into(BenchFolder(folder), model, force=force, **{**given, **changes})[1]


def counting(calls: list[str], stop_at: int | None = None) -> Callable[..., Call]:
    """In place of `run`: notes each call in `calls`, and is interrupted in call number `stop_at`, from 1."""

    def run(_model: LoadedModel, method: Method, request: Request, workload: Workload) -> Call:
        if len(calls) + 1 == stop_at:
            raise KeyboardInterrupt
        calls.append(f"{method.name}, {workload.steps} steps, {request.seed}")
        return invented_call(method, request, workload)

    return run

"""Measured calls that outlast an interruption: each is on disk before the next one begins."""

import dataclasses
import io
import json
from typing import Any
from zipfile import BadZipFile

import numpy as np
from PIL import Image

from hasten.app.benchmark.folder import BenchFolder
from hasten.app.loading import LoadedModel
from hasten.app.measure import run
from hasten.app.series import Call, Method
from hasten.app.workload import Request, Workload

PIXELS = ("image", "video")
"""The fields of a call that are a file of their own."""

Key = tuple[str, int, str, int]
"""Method, steps, prompt, seed."""


class KeptCalls:
    """The calls of one benchmark: those that an earlier process measured, and those that `measure` adds."""

    def __init__(self, folder: BenchFolder) -> None:
        self._folder = folder
        self._lines = folder.calls.read_bytes().splitlines() if folder.calls.exists() else []
        self._calls: dict[Key, Call] = {}
        for line in self._lines:
            try:
                key, call = self._read(json.loads(line))
            except (OSError, ValueError, KeyError, TypeError, BadZipFile):
                continue  # torn, or its pixels are gone: it is measured again
            self._calls[key] = call

    def __len__(self) -> int:
        return len(self._calls)

    def measure(self, model: LoadedModel, method: Method, request: Request, workload: Workload) -> Call:
        """What `run` gives, now or before an interruption.

        Raises:
            UserError: it cannot be written.
        """
        key = _key(method, request, workload)
        if key not in self._calls:
            self._calls[key] = self._keep(key, run(model, method, request, workload))
        return self._calls[key]

    def has_all(self, method: Method, workload: Workload) -> bool:
        """Whether no call of `method` is left to be measured."""
        return all(_key(method, request, workload) in self._calls for request in workload.requests)

    def _keep(self, key: Key, call: Call) -> Call:
        values = {field.name: getattr(call, field.name) for field in dataclasses.fields(call)}
        kept = {name: value for name, value in values.items() if name not in PIXELS}
        name = f"{len(self._lines) + 1:05}.npz"
        line = json.dumps({"key": key, "pixels": name, "is_video": bool(call.video), "call": kept})
        file = io.BytesIO()
        np.savez_compressed(file, frames=np.stack([np.asarray(frame.convert("RGB")) for frame in call.frames]))
        # the line makes the call known, so its pixels have to be there before it
        self._folder.keep_pixels(name, file.getvalue())
        self._folder.keep_line(line)
        self._lines.append(line.encode())
        return call

    def _read(self, kept: dict[str, Any]) -> tuple[Key, Call]:
        with np.load(self._folder.state / kept["pixels"]) as pixels:
            frames = tuple(Image.fromarray(frame) for frame in pixels["frames"])
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in kept["call"].items()
        }
        method, steps, prompt, seed = kept["key"]
        call = Call(image=frames[0], video=frames if kept["is_video"] else (), **values)
        return (method, steps, prompt, seed), call


def _key(method: Method, request: Request, workload: Workload) -> Key:
    return method.name, workload.steps, request.prompt, request.seed

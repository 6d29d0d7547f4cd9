"""What changed from one benchmark to another, beyond noise."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hasten.app.benchmark.noise import paired_change, unpaired_change
from hasten.app.benchmark.results import Result
from hasten.app.errors import UserError
from hasten.app.methods import PLAIN

CHANGED, SAME, UNKNOWN = "changed", "same", "unknown"
IDENTICAL_DB = 120.0
"""Stands for the PSNR of identical pictures; that of any others is lower up to five million pixels."""
FEW = 4
"""With fewer requests, intervals are several times as wide as the noise itself."""


@dataclass(frozen=True)
class Figure:
    """A figure that is compared.

    Args:
        label (`str`): As in tables.
        least (`float`): A smaller change is none: for ratios a share, else in the figure's unit.
        is_ratio (`bool`): Whether it is compared as a ratio, 0.1 meaning 10 % more.
        is_counted (`bool`): Whether it is counted rather than measured, and so free of noise.
    """

    label: str
    least: float
    is_ratio: bool = False
    is_counted: bool = False


FIGURES = {
    "speedup": Figure("speed-up", 0.02, is_ratio=True),
    "psnr": Figure("PSNR dB", 0.05),
    "ssim": Figure("SSIM", 0.0005),
    "lpips": Figure("LPIPS", 0.0005),
    "clip": Figure("CLIP", 0.05),
    "caption_accuracy": Figure("captions", 0.005),
    "density": Figure("density", 0.0005, is_counted=True),
    "flops": Figure("FLOP", 0.005, is_ratio=True, is_counted=True),
    "peak_bytes": Figure("peak bytes", 0.02, is_ratio=True),
}
"""By their keys in results. The least change is what tables show, and 2 % for what is measured anew in each run."""


@dataclass(frozen=True)
class Change:
    """One figure of one method.

    `a` and `b` are as in the results. `change` and `noise`, the half-width of its 95 % interval, come from the figures
    of single requests, as shares for ratios; None where there are none, or one request tells no noise.
    """

    method: str
    figure: str
    a: float | None
    b: float | None
    change: float | None
    noise: float | None
    verdict: str


def differences(a: Result, b: Result) -> dict[str, Any]:
    """Compare two results: speed-ups, which are ratios within each run, never seconds, and all other figures.

    Returns:
        `dict`: `notes`, sentences on what differs besides the methods; `changes`, one for each figure of each method
            that both have, as of `Change`; `only_in_a` and `only_in_b`, names of methods; `changed`, whether any did.

    Raises:
        UserError: they have no method in common.
    """
    shared = [name for name in a.rows if name in b.rows]
    if not shared:
        raise UserError(f"'{a.path}' and '{b.path}' have no method in common; compare results that have.")
    changes = [change for name in shared for change in _changes(name, a, b)]
    return {
        "a": str(a.path),
        "b": str(b.path),
        "notes": _notes(a, b),
        "changes": [asdict(change) for change in changes],
        "only_in_a": [name for name in a.rows if name not in b.rows],
        "only_in_b": [name for name in b.rows if name not in a.rows],
        "changed": any(change.verdict == CHANGED for change in changes),
    }


def _notes(a: Result, b: Result) -> list[str]:
    notes = [
        f"Another {what}: {a.about[key]} in A, {b.about[key]} in B."
        for key, what in (("model", "model"), ("device", "device"))
        if a.about[key] != b.about[key]
    ]
    if a.about["requests"] != b.about["requests"]:
        counts = f"{len(a.about['requests'])} in A, {len(b.about['requests'])} in B"
        notes.append(f"Other prompts or seeds ({counts}): figures are not compared request by request.")
    fewest = min(len(result.about["requests"]) for result in (a, b))
    if fewest < FEW:
        notes.append(
            f"Only {fewest} request(s): small changes do not stand out from noise; take more prompts or seeds."
        )
    for key, what in (("arguments", "pipeline arguments"), ("versions", "versions")):
        differing = _differing(a.about[key], b.about[key])
        if differing:
            notes.append(f"Other {what}: {differing}.")
    for side, result in (("A", a), ("B", b)):
        if any(result.requests(name) is None for name in result.rows):
            notes.append(f"{side} comes from an older hasten, which kept no figures of requests: noise is unknown.")
    return notes


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {a.get(key)} and {b.get(key)}" for key in {**a, **b} if a.get(key) != b.get(key))


def _changes(name: str, a: Result, b: Result) -> list[Change]:
    figures = [key for key in FIGURES if key in a.rows[name] and key in b.rows[name]]
    if name == PLAIN.name:  # what others are compared with
        figures = [key for key in figures if key not in ("speedup", "psnr", "ssim", "lpips")]
    return [change for key in figures if (change := _change(name, key, a, b)) is not None]


def _change(name: str, key: str, a: Result, b: Result) -> Change | None:
    shown = a.rows[name][key], b.rows[name][key]
    if key != "psnr" and None in shown:
        return None
    figure = FIGURES[key]
    before, after = (_values(result, name, key) for result in (a, b))
    if before is None or after is None:
        return Change(name, key, *shown, None, None, SAME if shown[0] == shown[1] else UNKNOWN)
    same_requests = a.about["requests"] == b.about["requests"]
    compare: Callable[..., tuple[float, float | None]] = paired_change if same_requests else unpaired_change
    change, noise = compare(before, after)
    if figure.is_ratio:
        change, noise = math.expm1(change), None if noise is None else math.expm1(noise)
    if figure.is_counted and same_requests:
        noise = 0.0
    return Change(name, key, *shown, change, noise, _verdict(change, noise, figure.least))


def _verdict(change: float, noise: float | None, least: float) -> str:
    if abs(change) <= least:
        return SAME
    if noise is None:
        return UNKNOWN
    return CHANGED if abs(change) > noise else SAME


def _values(result: Result, name: str, key: str) -> Sequence[float] | None:
    """The figure for each request, ratios as logarithms; None if it was not kept."""
    requests, plain = result.requests(name), result.requests(PLAIN.name)
    if requests is None or plain is None:
        return None
    if key == "speedup":
        return [math.log(one["seconds"] / other["seconds"]) for one, other in zip(plain, requests, strict=True)]
    found = [one.get(key) for one in requests]
    if key == "psnr":
        return [IDENTICAL_DB if value is None else value for value in found]
    values = [value for value in found if value is not None]
    if len(values) < len(found):
        return None
    return [math.log(value) for value in values] if FIGURES[key].is_ratio else values

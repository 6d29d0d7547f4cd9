"""Times whole rollouts of a published architecture with random weights: the study's cache, the ring, and ours."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import AutoencoderKLWan

from hasten.app.bench_kv_study import StudySetting
from hasten.app.errors import UserError
from hasten.app.machine import provenance
from hasten.app.measure import synchronize
from hasten.app.memory import peak_memory
from hasten.app.published_models import PUBLISHED_MODELS, PublishedModel
from hasten.pipelines.kv_cache import METHODS
from hasten.pipelines.self_forcing import CacheMemoryError, CacheSetting, SelfForcingWanPipeline, is_out_of_memory
from hasten.pipelines.self_forcing.caching import Cache
from hasten.pipelines.self_forcing.chunks import frames_of

STUDY = "study layout"
RING = "16-bit ring"
COMPARED = (
    "rtn_int4",
    "quarot_kv_int4",
    "flowcache_soft_prune_int4",
    "rotate_sink_int4",
    "attention_soft_prune_int4",
    "turboquant_int2",
)
"""The study's methods that it recommends, and ours."""
CHUNK_FRAMES = 3
WARM_UP_CHUNKS = 2


@dataclass(frozen=True)
class RolloutCase:
    """
    What is rolled out.

    Args:
        model (`PublishedModel`): The transformer and the size of the video; its pipeline is not used.
        autoencoder (`dict`): Arguments of `AutoencoderKLWan`; those of Wan 2.1 are its defaults.
        latent_frames (`int`): Of the video.
        window_frames (`int`): Latent frames that a chunk attends to, itself included.

    Raises:
        UserError: the latent frames are no whole chunks.
    """

    model: PublishedModel = PUBLISHED_MODELS["wan-1.3b-480p"]
    autoencoder: dict[str, Any] = field(default_factory=dict)
    latent_frames: int = 42
    window_frames: int = 21

    def __post_init__(self) -> None:
        if self.latent_frames % CHUNK_FRAMES:
            raise UserError(
                f"{self.latent_frames} latent frames are no whole chunks; give a multiple of {CHUNK_FRAMES}."
            )

    def build(self, device: torch.device, dtype: torch.dtype) -> SelfForcingWanPipeline:
        """The pipeline without its text encoder."""
        pipe = dataclasses.replace(self.model, pipeline=SelfForcingWanPipeline).build(device, dtype)
        pipe.register_modules(vae=AutoencoderKLWan(**self.autoencoder).eval().to(device, dtype))
        pipe.register_to_config(window_frames=self.window_frames, chunk_frames=CHUNK_FRAMES)
        return pipe

    def arguments(self, device: torch.device, dtype: torch.dtype, latent_frames: int | None = None) -> dict[str, Any]:
        """Arguments of a call that makes so many latent frames, all of the video by default, and decodes them."""
        frames = frames_of(latent_frames or self.latent_frames, 4)
        return {**self.model.arguments(device, dtype), "num_frames": frames, "output_type": "pt"}

    def settings(self, only: Sequence[str] = ()) -> dict[str, CacheSetting]:
        """The caches to measure, by name."""
        settings = {STUDY: StudySetting(frames=self.latent_frames), RING: CacheSetting()}
        settings |= {name: CacheSetting(METHODS[name]) for name in only or COMPARED}
        return settings


def run(
    case: RolloutCase,
    *,
    device: torch.device,
    dtype: torch.dtype,
    repeats: int = 3,
    only: Sequence[str] = (),
    say: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any]:
    """Roll out with every cache, all of them in turn, after a short call of each.

    Args:
        case: Architecture, size and length.
        device, dtype: Where, and in what.
        repeats: Calls of each cache.
        only: Names of cache methods, in place of those that are `COMPARED`.
        say: Told of every call.

    Returns:
        `dict`: `rows` with `name`, `seconds` (median of whole calls), `seconds_ratio` and `kv_ratio` to the ring's,
        `kv_bytes`, `peak_bytes` of the whole call, weights and decoding included, and `peak_ratio` to the study's; a
        row that found no memory says `why`. And where and how it was measured.
    """
    pipe = case.build(device, dtype)
    short = case.arguments(device, dtype, WARM_UP_CHUNKS * CHUNK_FRAMES)
    whole = case.arguments(device, dtype)
    rows: dict[str, _Row] = {name: _Row(name, setting) for name, setting in case.settings(only).items()}
    for row in rows.values():
        row.measure(pipe, short, device, counts=False)
    for _ in range(repeats):
        for row in rows.values():
            row.measure(pipe, whole, device)
            say(f"{row.name}: {row.why or f'{row.seconds[-1]:.2f} s'}")
    figures = [row.figures(rows[RING], rows[STUDY]) for row in rows.values()]
    sizes = {"latent_frames": case.latent_frames, "window_frames": case.window_frames, "repeats": repeats}
    return {"model": case.model.name, **sizes, "rows": figures, **provenance(device)}


@dataclass
class _Row:
    """A cache and what was measured of it."""

    name: str
    setting: CacheSetting
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    kv_bytes: int | None = None
    why: str | None = None

    def measure(
        self, pipe: SelfForcingWanPipeline, arguments: dict[str, Any], device: torch.device, *, counts: bool = True
    ) -> None:
        """Call the pipeline once, unless there was no memory for it before."""
        if self.why:
            return
        held: list[Cache] = []  # what a cache does not free itself stays until the call is over

        def hold(cache: Cache) -> None:
            held.append(cache)
            self.kv_bytes = cache.nbytes

        pipe.kv_cache = dataclasses.replace(self.setting, on_begin=hold)
        try:
            with peak_memory(device) as peak:
                began = time.perf_counter()
                pipe(**arguments, generator=torch.Generator().manual_seed(0))
                synchronize(device)
                seconds = time.perf_counter() - began
        except RuntimeError as error:
            if not isinstance(error, CacheMemoryError) and not is_out_of_memory(error):
                raise
            self.why = "there is too little memory"
        else:
            self.seconds += [seconds] if counts else []
            self.peak_bytes = None if peak.bytes is None else max(peak.bytes, self.peak_bytes or 0)

    def figures(self, ring: "_Row", study: "_Row") -> dict[str, Any]:
        """The row of the table."""
        if self.why:
            return {"name": self.name, "why": self.why}
        seconds = statistics.median(self.seconds)
        return {
            "name": self.name,
            "seconds": seconds,
            "seconds_ratio": seconds / statistics.median(ring.seconds) if ring.seconds else None,
            "kv_bytes": self.kv_bytes,
            "kv_ratio": _ratio(self.kv_bytes, ring.kv_bytes),
            "peak_bytes": self.peak_bytes,
            "peak_ratio": _ratio(self.peak_bytes, study.peak_bytes),
        }


def _ratio(value: float | None, reference: float | None) -> float | None:
    return None if value is None or not reference else value / reference

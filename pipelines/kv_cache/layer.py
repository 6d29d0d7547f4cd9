"""The cached pages of one transformer layer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hasten.kernels.paged import KeysAndValues, PagePool, Segment

from .geometry import CacheGeometry
from .method import CacheMethod
from .policies import PageState, Tier, plan
from .scores import RelativeChange, TemporalVariance, attention_mass
from .storage import TierStorage


@dataclass
class CachedFrame:
    """
    A frame of the window in one layer; its page may have been pruned.

    Args:
        number (`int`):
            Of the latent frame in the video, from 0.
        score (`float`):
            Its importance.
        tier (`Tier`, *optional*):
            Where its page is; none until it is written.
        slot (`int`, *optional*):
            And in which slot there.
    """

    number: int
    score: float = 0.0
    tier: Tier | None = None
    slot: int | None = None

    @property
    def best_tier(self) -> Tier:
        """The best one that its page may be in from now on."""
        return Tier.EXACT if self.tier is None else self.tier


class LayerCache:
    """Pages of one layer. A page is written once; it may be moved to a lower tier later, one page at a time."""

    def __init__(self, method: CacheMethod, geometry: CacheGeometry, layer: int, device: torch.device | str) -> None:
        self._method, self._window, self._shape = method, geometry.window, geometry.page
        self._layer, self._layers = layer, geometry.layers
        self._storage = {
            tier: TierStorage(method.parts(tier), slots, geometry.page, device)
            for tier, slots in method.slots(geometry.window, layer, geometry.layers).items()
        }
        self._change = RelativeChange(geometry.page.heads, device) if method.policy.importance == "change" else None
        self._variance = TemporalVariance(geometry.page.frame_tokens, device) if method.splits_pages else None
        self._frames: list[CachedFrame] = []
        self._written = 0

    @property
    def frames(self) -> tuple[CachedFrame, ...]:
        """The frames of the window, oldest first."""
        return tuple(self._frames)

    @property
    def nbytes(self) -> int:
        """Bytes of all that is allocated, in use or not."""
        parts = (*self._storage.values(), self._change, self._variance)
        return sum(part.nbytes for part in parts if part is not None)

    @property
    def used_bytes(self) -> int:
        """Bytes of the pages that are there."""
        return sum(storage.used_bytes for storage in self._storage.values())

    @property
    def pools(self) -> tuple[PagePool, ...]:
        """Where the pages are that attention reads token by token."""
        return tuple(pool for storage in self._storage.values() for pool in storage.pools)

    def get(self, sink_query: Tensor | None = None) -> list[Segment | KeysAndValues]:
        """What attention to all cached frames takes, for `paged_attention`; good until the next `update`.

        The best tier comes first, with its sink frames in front; inside a tier frames go by age, oldest first.

        Args:
            sink_query (`Tensor`, *optional*):
                (B, H, M, D), by which sink frames are seen in place of the query of the call, so that their positions
                can follow the window.
        """
        segments: list[Segment | KeysAndValues] = []
        for tier, storage in self._storage.items():
            pages = self._in_tier(tier)
            sinks = 0 if sink_query is None else sum(map(self._is_sink, pages))
            for segment in storage.attended(slice(sinks)) if sinks else ():
                assert isinstance(segment, Segment)  # a method keeps the tokens of its sink frames
                segments.append(segment._replace(query=sink_query))
            if len(pages) > sinks:
                segments += storage.attended(slice(sinks, len(pages)))
        return segments

    def update(self, key: Tensor, value: Tensor, query: Tensor | None = None) -> None:
        """Write the pages of a finished chunk, and move or drop older ones as the policy says.

        Args:
            key, value (`Tensor`):
                (B, H, frames · N, D), any strides; keys with their positions.
            query (`Tensor`, *optional*):
                (B, H, M, D), the queries of that chunk, which methods that go by attention ask for.

        Raises:
            ValueError: a shape does not fit the cache, or queries are missing.
        """
        pages = self._split(key, value)
        new = [CachedFrame(self._written + place) for place in range(len(pages))]
        self._score(new, pages, query)
        self._written += len(new)
        self._enter(new)
        targets = self._targets()
        # the lowest tier first and the new pages last, so that a slot is free by the time a page needs it
        for tier in sorted(self._storage, reverse=True):
            for frame in self._in_tier(tier):
                self._move(frame, tier, targets[frame.number])
        order = self._variance.order([page.value for page in pages]) if self._variance else None
        for frame, page in zip(new, pages, strict=True):
            if frame.number in targets:
                self._write(frame, targets[frame.number], page, order)
        for tier, storage in self._storage.items():
            storage.arrange([frame.slot for frame in self._in_tier(tier) if frame.slot is not None])

    def _split(self, key: Tensor, value: Tensor) -> list[KeysAndValues]:
        frames = key.shape[2] // self._shape.frame_tokens if key.dim() == 4 else 0
        expected = self._shape.sized(frames * self._shape.frame_tokens)
        if not frames or tuple(key.shape) != expected or tuple(value.shape) != expected:
            raise ValueError(
                f"Keys and values of the shapes {tuple(key.shape)} and {tuple(value.shape)} are no frames of this "
                f"cache; give both as (batch, heads, tokens, head_dim) = {self._shape.sized(0)} with a multiple of "
                f"{self._shape.frame_tokens} tokens."
            )
        tokens = self._shape.frame_tokens
        return [KeysAndValues(*pages) for pages in zip(key.split(tokens, 2), value.split(tokens, 2), strict=True)]

    def _score(self, new: list[CachedFrame], pages: list[KeysAndValues], query: Tensor | None) -> None:
        if self._change is not None:
            for frame, change in zip(new, self._change.of(pages), strict=True):
                frame.score = change
        if self._method.policy.importance != "attention":
            return
        if query is None:
            raise ValueError(
                f"The cache method '{self._method.name}' ranks pages by attention; pass the chunk's queries to update."
            )
        frames = list(new)
        segments: list[list[Segment | KeysAndValues]] = [[page] for page in pages]
        for tier, storage in self._storage.items():
            for row, frame in enumerate(self._in_tier(tier)):
                frames.append(frame)
                segments.append(storage.attended(slice(row, row + 1)))
        for frame, mass in zip(frames, attention_mass(query, segments), strict=True):
            frame.score = mass

    def _enter(self, new: list[CachedFrame]) -> None:
        """Let new frames into the window, and the oldest ones out of it."""
        frames = [*self._frames, *new]
        sinks = [frame for frame in frames if self._is_sink(frame)]
        others = frames[len(sinks) :]
        surplus = max(len(others) - (self._window.pages - self._window.sink_frames), 0)
        for frame in others[:surplus]:
            if frame.tier is not None and frame.slot is not None:
                self._storage[frame.tier].release(frame.slot)
        self._frames = [*sinks, *others[surplus:]]

    def _targets(self) -> dict[int, Tier]:
        """The tier of each frame of the window from now on."""
        sinks = sum(map(self._is_sink, self._frames))
        states = [PageState(frame.score, frame.best_tier) for frame in self._frames[sinks:]]
        tiers = [self._method.tier_of_sinks(self._layer, self._layers)] * sinks
        tiers += plan(self._method.policy, states, self._layer, self._layers) if states else ()
        return {frame.number: tier for frame, tier in zip(self._frames, tiers, strict=True)}

    def _move(self, frame: CachedFrame, source: Tier, target: Tier) -> None:
        if target == source or frame.slot is None:
            return
        storage = self._storage[source]
        storage.release(frame.slot)
        frame.slot = None if target == Tier.GONE else self._storage[target].write(*storage.read(frame.slot))
        frame.tier = target

    def _write(self, frame: CachedFrame, tier: Tier, page: KeysAndValues, order: Tensor | None) -> None:
        frame.tier = tier
        if tier != Tier.GONE:
            frame.slot = self._storage[tier].write(page.key, page.value, order)

    def _in_tier(self, tier: Tier) -> list[CachedFrame]:
        """Frames whose pages are stored there, sinks first."""
        return [frame for frame in self._frames if frame.tier == tier and frame.slot is not None]

    def _is_sink(self, frame: CachedFrame) -> bool:
        return frame.number < self._window.sink_frames

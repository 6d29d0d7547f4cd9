"""A cache method: what a page's bytes are in each tier, and which tier a page is in."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .formats import SUMMARY, Packed, Part
from .policies import Policy, Tier, capacities
from .step_reuse import StepReuse
from .window import Window


@dataclass(frozen=True)
class CacheMethod:
    """
    A quantizer and a policy.

    Args:
        name (`str`):
            In lower case, as in `hasten.KVCacheConfig`.
        family (`str`):
            What it is a variant of.
        description (`str`):
            What it does, in a sentence.
        policy (`Policy`):
            Which tier a page is in.
        formats (`Mapping[Tier, tuple[Part, ...]]`):
            How the pages of a tier are stored. Summaries need not be named.
        sink_tier (`Tier`, *optional*):
            Where sink frames stay; with the newest pages if left out.
        sink_frames (`int`, defaults to `0`):
            Sink frames that the method wants if the caller names no number.
        step_reuse (`StepReuse`, *optional*):
            Denoising steps that repeat a residual. The pipeline's business; the cache knows nothing of it.
    """

    name: str
    family: str
    description: str
    policy: Policy
    formats: Mapping[Tier, tuple[Part, ...]]
    sink_tier: Tier | None = None
    sink_frames: int = 0
    step_reuse: StepReuse | None = None

    def parts(self, tier: Tier) -> tuple[Part, ...]:
        """How pages of a tier are stored."""
        return SUMMARY if tier == Tier.SUMMARY else self.formats[tier]

    @property
    def splits_pages(self) -> bool:
        """Whether tokens of a page are stored in different ways."""
        return any(len(parts) > 1 for parts in self.formats.values())

    @property
    def is_quantized(self) -> bool:
        """Whether any tokens are stored in codes."""
        return any(_is_coded(part) for parts in self.formats.values() for part in parts)

    def with_group(self, group: int) -> "CacheMethod":
        """The method with another wanted number of values that share a scale."""
        formats = {tier: tuple(_with_group(part, group) for part in parts) for tier, parts in self.formats.items()}
        return replace(self, formats=formats)

    def slots(self, window: Window, layer: int, layers: int) -> dict[Tier, int]:
        """Most pages that are ever in each tier of a layer, the best one first; each gets a slot ahead."""
        slots = capacities(self.policy, window.pages - window.sink_frames, layer, layers)
        if window.sink_frames:
            tier = self.tier_of_sinks(layer, layers)
            slots[tier] = slots.get(tier, 0) + window.sink_frames
        return dict(sorted(slots.items()))

    def tier_of_sinks(self, layer: int, layers: int) -> Tier:
        """Where sink frames stay."""
        return self.policy.quotas(1, layer, layers)[0].tier if self.sink_tier is None else self.sink_tier


def _is_coded(part: Part) -> bool:
    return isinstance(part.storage, Packed) and bool(part.storage.keys or part.storage.values)


def _with_group(part: Part, group: int) -> Part:
    if not isinstance(part.storage, Packed):
        return part
    keys, values = (x and replace(x, group=group) for x in (part.storage.keys, part.storage.values))
    return part._replace(storage=part.storage._replace(keys=keys, values=values))

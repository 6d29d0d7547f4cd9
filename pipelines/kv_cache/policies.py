"""Which tier each page of a layer belongs in: pure functions of ages and scores.

The tier formulas of the FlowCache methods are those of the study of 33 cache methods for self-forcing video
(github.com/suraj-ranganath/kv-quant-longhorizon), which are not those of the FlowCache paper (arXiv 2602.10825).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Literal, NamedTuple, Protocol

Importance = Literal["change", "attention"]


class Tier(IntEnum):
    """What is left of a page, from all to nothing. A page only ever moves down."""

    EXACT = 0
    HIGH = 1
    LOW = 2
    SUMMARY = 3
    GONE = 4


class PageState(NamedTuple):
    """
    What a policy knows of a page. Pages are given oldest first, so its place is its age.

    Args:
        score (`float`):
            How much it matters by the policy's importance; 0 for policies that go by age alone.
        tier (`Tier`):
            The best one that it may be in: where it is now, and `Tier.EXACT` for a page that is being written.
    """

    score: float = 0.0
    tier: Tier = Tier.EXACT


class Quota(NamedTuple):
    """So many pages in that tier."""

    tier: Tier
    pages: int


class Policy(Protocol):
    """
    How the pages of a layer are shared out.

    Args:
        importance (`"change"`, `"attention"` or `None`):
            What the scores measure: the relative change of a page's keys and values from the page before it, or the
            attention that it gets from the newest chunk. `None`: pages go by age.
        recency (`float`):
            Weight of a page's place, 0 the oldest and 1 the newest, in its score; the rest is its importance.
    """

    @property
    def importance(self) -> Importance | None:
        """What the scores measure."""

    @property
    def recency(self) -> float:
        """Weight of a page's place in its score."""

    def quotas(self, pages: int, layer: int, layers: int) -> tuple[Quota, ...]:
        """The first for the newest pages, the others for the best of the older ones, the last for what remains."""


class _ByAge:
    """Nothing is ranked."""

    importance: ClassVar[Importance | None] = None
    recency: ClassVar[float] = 0.0


@dataclass(frozen=True)
class Uniform(_ByAge):
    """All pages in one tier."""

    tier: Tier

    def quotas(self, pages: int, layer: int, layers: int) -> tuple[Quota, ...]:
        """All of them."""
        return (Quota(self.tier, pages),)


@dataclass(frozen=True)
class RecentFrames(_ByAge):
    """The newest `frames` pages exact, the others in the high tier."""

    frames: int

    def quotas(self, pages: int, layer: int, layers: int) -> tuple[Quota, ...]:
        """The newest, then the others."""
        newest = min(self.frames, pages)
        return Quota(Tier.EXACT, newest), Quota(Tier.HIGH, pages - newest)


@dataclass(frozen=True)
class AgeTiers(_ByAge):
    """The newest `recent` share of the pages that are there in the high tier, the others in the tier `older`."""

    recent: float
    older: Tier = Tier.LOW

    def quotas(self, pages: int, layer: int, layers: int) -> tuple[Quota, ...]:
        """The newest, then the others."""
        newest = _share(self.recent, pages)
        return Quota(Tier.HIGH, newest), Quota(self.older, pages - newest)


@dataclass(frozen=True)
class FlowCache:
    """
    Newest and important pages in the high tier, retained ones there or in the low tier, the rest below.

    Args:
        recent (`float`, defaults to `0.25`):
            Share of all pages that are newest.
        important (`float`, defaults to `0.0`):
            Share of the older pages that keeps the high tier.
        retained (`float`, *optional*):
            Share of the pages that are left after that which is retained; all of them if left out.
        retained_tier (`Tier`, defaults to `Tier.LOW`):
            Where those are.
        rest (`Tier`, defaults to `Tier.GONE`):
            What becomes of the others.
        budgets (`tuple[float, ...]`, defaults to `()`):
            Factor of the shares for each layer of the model.
        profile (`tuple[float, ...]`, defaults to `()`):
            The same from a profile of some model, used without budgets in models of as many layers. In others it is a
            ramp from 0.75 to 1.25 with depth.
        importance, recency:
            See `Policy`; the study scores 0.7 · change + 0.3 · place.
    """

    recent: float = 0.25
    important: float = 0.0
    retained: float | None = None
    retained_tier: Tier = Tier.LOW
    rest: Tier = Tier.GONE
    budgets: tuple[float, ...] = ()
    profile: tuple[float, ...] = ()
    importance: Importance | None = "change"
    recency: float = 0.3

    def quotas(self, pages: int, layer: int, layers: int) -> tuple[Quota, ...]:
        """The newest, the important, the retained, the rest; no share is less than one page."""
        budget = self.budget(layer, layers)
        newest = _share(min(self.recent * budget, 1.0), pages)
        older = pages - newest
        important = _share(self.important * budget, older)
        left = older - important
        retained = left if self.retained is None else _share(self.retained * budget, left)
        return (
            Quota(Tier.HIGH, newest),
            Quota(Tier.HIGH, important),
            Quota(self.retained_tier, retained),
            Quota(self.rest, left - retained),
        )

    def budget(self, layer: int, layers: int) -> float:
        """Factor of the shares at `layer`.

        Raises:
            ValueError: there are budgets, but not for each of the model's layers.
        """
        if self.budgets and len(self.budgets) != layers:
            raise ValueError(
                f"{len(self.budgets)} layer budgets were given for a model of {layers} layers; give {layers}, or none."
            )
        for budgets in (self.budgets, self.profile):
            if len(budgets) == layers:
                return budgets[layer]
        return 0.75 + 0.5 * layer / max(layers - 1, 1)


def _share(share: float, pages: int) -> int:
    """The share of `pages` in whole ones, halves to even: one at least where there are any and the share is not 0."""
    return min(pages, max(1, round(share * pages))) if share else 0


def plan(policy: Policy, pages: Sequence[PageState], layer: int, layers: int) -> tuple[Tier, ...]:
    """The tier of each page from now on, never above its present one.

    Args:
        policy (`Policy`):
            Shares the pages out.
        pages (`Sequence[PageState]`):
            The pages of the window, oldest first, pruned ones among them: shares are of all of them.
        layer, layers (`int`):
            Index of the layer, and how many there are.
    """
    newest, *others = policy.quotas(len(pages), layer, layers)
    older = len(pages) - newest.pages
    tiers = [newest.tier] * len(pages)
    ranking = sorted(range(older), key=lambda page: (_score(policy, pages, page), page), reverse=True)
    for quota in others:
        allowed = [page for page in ranking if pages[page].tier <= quota.tier]
        taken = allowed if quota is others[-1] else allowed[: quota.pages]
        for page in taken:
            tiers[page] = quota.tier
        ranking = [page for page in ranking if page not in taken]
    return tuple(max(tier, page.tier) for tier, page in zip(tiers, pages, strict=True))


def _score(policy: Policy, pages: Sequence[PageState], page: int) -> float:
    place = page / max(len(pages) - 1, 1)
    return (1 - policy.recency) * pages[page].score + policy.recency * place


def capacities(policy: Policy, pages: int, layer: int, layers: int) -> dict[Tier, int]:
    """Most pages that `plan` ever puts into each tier while the window fills up to `pages` pages, the best tier first.

    A summary costs next to nothing, so there is room for one of every page but the newest.
    """
    most: dict[Tier, int] = {}
    for present in range(1, pages + 1):
        quotas = policy.quotas(present, layer, layers)
        for tier in {quota.tier for quota in quotas}:
            here = sum(quota.pages for quota in quotas if quota.tier == tier)
            if tier == Tier.SUMMARY:
                here = present - quotas[0].pages
            most[tier] = max(most.get(tier, 0), here)
    return {tier: most[tier] for tier in sorted(most) if most[tier] and tier != Tier.GONE}

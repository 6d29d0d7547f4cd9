"""Tiers: shares as the study states them, pages that only move down, and room for all of them."""

import dataclasses
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.pipelines.kv_cache import (
    METHODS,
    AgeTiers,
    CacheMethod,
    FlowCache,
    PageState,
    Quota,
    RecentFrames,
    Tier,
    Uniform,
    capacities,
    plan,
)

# the study's profile of layer budgets on MovieGen prompts
BUDGETS = (
    *(1.300, 1.022, 1.016, 0.878, 0.867, 0.889, 1.013, 0.915, 0.820, 1.016, 0.788, 0.889, 0.808, 0.727, 0.710),
    *(0.799, 0.700, 0.757, 0.851, 0.838, 0.856, 0.896, 0.878, 0.875, 0.972, 0.919, 0.862, 1.054, 0.979, 1.112),
)


def test_shares_of_soft_pruning_are_those_in_the_studys_logs() -> None:
    """The mean shares of newest, important, retained and pruned frames over all layers of 14 chunks of 3 frames."""
    policy = METHODS["flowcache_soft_prune_int4"].policy
    plans = [(policy.quotas(pages, layer, 30), pages) for pages in range(3, 43, 3) for layer in range(30)]
    logged = (0.2325, 0.0982, 0.2823, 0.3870)
    for zone, share in enumerate(logged):
        mean = sum(quotas[zone].pages / pages for quotas, pages in plans) / len(plans)
        assert mean == pytest.approx(share, abs=1e-4)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Uniform(Tier.HIGH), "HHHHHHHHHH"),
        (RecentFrames(6), "HHHHEEEEEE"),
        (RecentFrames(12), "EEEEEEEEEE"),
        (AgeTiers(0.3), "LLLLLLLHHH"),
        (AgeTiers(0.3, older=Tier.HIGH), "HHHHHHHHHH"),
        (AgeTiers(0.01), "LLLLLLLLLH"),
        (FlowCache(budgets=(1.0,)), "LLLLLLLLHH"),  # 2.5 rounds to the even 2
        (FlowCache(budgets=(1.3,)), "LLLLLLLHHH"),
    ],
    ids=str,
)
def test_tiers_by_age(policy: Uniform | RecentFrames | AgeTiers | FlowCache, expected: str) -> None:
    tiers = plan(policy, [PageState()] * 10, layer=0, layers=1)
    assert "".join(tier.name[0] for tier in tiers) == expected


def test_the_most_important_of_the_older_pages_are_kept() -> None:
    policy = FlowCache(important=0.2, retained=0.5, rest=Tier.GONE, budgets=(1.0,), recency=0.0)
    scores = [0.1, 0.9, 0.3, 0.8, 0.2, 0.7, 0.4, 0.5, 1.0, 0.0]
    tiers = plan(policy, [PageState(score) for score in scores], 0, 1)
    # of ten pages 2 are newest, of the older eight round(1.6) = 2 important, of the other six 3 retained
    assert "".join(tier.name[0] for tier in tiers) == "GHGHGLLLHH"


def test_recency_is_part_of_a_score() -> None:
    policy = FlowCache(important=0.1, retained=0.5, rest=Tier.GONE, budgets=(1.0,), recency=0.3)
    # 0.7 · 0.40 + 0.3 · 0/7 = 0.280 is less than 0.7 · 0.15 + 0.3 · 5/7 = 0.319
    tiers = plan(policy, [PageState(score) for score in (0.40, 0, 0, 0, 0, 0.15, 0, 0)], 0, 1)
    assert tiers[5] == Tier.HIGH
    assert tiers[0] == Tier.LOW


def test_budgets_ramp_with_depth_unless_a_profile_is_given() -> None:
    assert [FlowCache().budget(layer, 5) for layer in range(5)] == [0.75, 0.875, 1.0, 1.125, 1.25]
    assert FlowCache(budgets=(0.9, 1.2)).budget(1, 2) == 1.2
    with pytest.raises(ValueError, match=r"2 layer budgets were given for a model of 30 layers; give 30, or none\."):
        FlowCache(budgets=(0.9, 1.2)).quotas(5, 0, 30)


@pytest.mark.parametrize(
    "method", [one for one in METHODS.values() if isinstance(one.policy, FlowCache)], ids=lambda one: one.name
)
def test_the_studys_profile_holds_in_models_of_as_many_layers(method: CacheMethod) -> None:
    policy = method.policy
    assert [policy.budget(layer, 30) for layer in range(30)] == list(BUDGETS)
    assert [policy.budget(layer, 5) for layer in range(5)] == [0.75, 0.875, 1.0, 1.125, 1.25]
    own = dataclasses.replace(policy, budgets=(1.5,) * 30)
    assert own.budget(0, 30) == 1.5


def test_a_share_is_never_less_than_a_page_nor_more_than_there_are() -> None:
    policy = FlowCache(important=0.1, retained=0.45)
    for pages in range(1, 20):
        quotas = policy.quotas(pages, 0, 2)
        assert sum(quota.pages for quota in quotas) == pages
        assert quotas[0].pages >= 1
        if pages >= 3:
            assert all(quota.pages >= 1 for quota in quotas[:3])
    assert policy.quotas(1, 0, 2)[0] == Quota(Tier.HIGH, 1)


@given(
    name=st.sampled_from(sorted(METHODS)),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=20),
    room=st.integers(1, 20),
    layer=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
@settings(max_examples=300, deadline=None)
def test_pages_only_move_down_and_always_find_a_slot(
    name: str, sizes: list[int], room: int, layer: int, seed: int
) -> None:
    policy, chance = METHODS[name].policy, random.Random(seed)
    slots = capacities(policy, room, layer, 4)
    pages: list[PageState] = []
    for size in sizes:
        pages = [*(page._replace(score=chance.random()) for page in pages), *[PageState(chance.random())] * size][
            -room:
        ]
        tiers = plan(policy, pages, layer, 4)
        assert all(after >= page.tier for after, page in zip(tiers, pages, strict=True))
        pages = [page._replace(tier=tier) for page, tier in zip(pages, tiers, strict=True)]
        for tier in set(tiers) - {Tier.GONE}:
            assert tiers.count(tier) <= slots[tier]

"""What a KVCacheConfig accepts, refuses and makes of a method."""

import dataclasses
from typing import Any

import pytest

from hasten import AccelerationError
from hasten.fields import from_plain, plain
from hasten.methods.kv_cache_config import KVCacheConfig, kv_cache_methods
from hasten.pipelines.kv_cache import METHODS, AgeTiers, FlowCache, Tier


@pytest.mark.parametrize("name", kv_cache_methods())
def test_a_preset_is_the_method_of_that_name(name: str) -> None:
    config = KVCacheConfig.preset(name)
    assert config.cache_method() == METHODS[name]
    assert config == KVCacheConfig(method=name)


def test_the_default_runs_with_every_model() -> None:
    method = KVCacheConfig().cache_method()
    assert method.name == "rtn_int4"
    assert not any(part.storage.rotated for part in method.formats[Tier.HIGH])


def test_a_method_takes_what_is_different_about_it() -> None:
    config = KVCacheConfig(
        "flowcache_soft_prune_int2", group=24, recent=0.5, important=0, retained=0.2, layer_budgets=(0.9, 1, 1.1)
    )
    method = config.cache_method()
    policy = METHODS[config.method].policy
    assert isinstance(policy, FlowCache)
    assert method.policy == dataclasses.replace(policy, recent=0.5, important=0, retained=0.2, budgets=(0.9, 1, 1.1))
    formats = [part.storage for parts in method.formats.values() for part in parts]
    assert {page_format.group for packed in formats for page_format in (packed.keys, packed.values)} == {24}
    assert KVCacheConfig("age_tier_int2", recent=0.4).cache_method().policy == AgeTiers(0.4)


def test_a_group_leaves_exact_and_averaged_tokens_as_they_are() -> None:
    plain_method, method = METHODS["mixed_1.5bit"], KVCacheConfig("mixed_1.5bit", group=32).cache_method()
    assert method.formats[Tier.EXACT] == plain_method.formats[Tier.EXACT]
    assert method.formats[Tier.HIGH][1] == plain_method.formats[Tier.HIGH][1]
    assert method.formats[Tier.HIGH][0].storage.keys.group == 32


def test_a_reuse_threshold_replaces_the_studys() -> None:
    assert METHODS["flowcache_native"].step_reuse.threshold == 1.5
    assert KVCacheConfig("flowcache_native", reuse_threshold=0.1).cache_method().step_reuse.threshold == 0.1


@pytest.mark.parametrize(
    "config",
    [
        KVCacheConfig(),
        KVCacheConfig("flowcache_prune_int4", window_frames=12, sink_frames=1, layer_budgets=(0.5, 1.5), recent=0.3),
    ],
    ids=str,
)
def test_a_config_survives_json(config: KVCacheConfig) -> None:
    assert from_plain(KVCacheConfig, plain(config), "The recipe's kv_cache") == config


def test_an_unknown_method_is_answered_with_the_nearest() -> None:
    with pytest.raises(AccelerationError, match=r"is not a KV cache method .* did you mean 'quarot_kv_int4'\?"):
        KVCacheConfig.preset("quarot_int4")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": 4}, "method=4; give the name of one"),
        ({"window_frames": 0}, "window_frames=0; give an integer of at least 1, or None"),
        ({"sink_frames": -1}, "sink_frames=-1; give an integer of at least 0, or None"),
        ({"group": 0}, "group=0"),
        ({"retained": 1.5}, "retained=1.5; give a number in"),
        ({"layer_budgets": (1, "a")}, "layer_budgets="),
        ({"layer_budgets": (1.0, 0.0)}, "give positive numbers"),
        ({"retained": 0.4}, "retained=0.4 was given for the cache method 'rtn_int4', which has no use for it"),
        ({"method": "age_tier_int4", "important": 0.1}, "important=0.1 was given"),
        ({"method": "tptq_int2", "layer_budgets": (1.0,)}, r"layer_budgets=\(1.0,\) was given"),
        ({"method": "bf16", "group": 16}, "group=16 was given for the cache method 'bf16'"),
        ({"reuse_threshold": 0.5}, "reuse_threshold=0.5 .* choose one of the flowcache_native methods"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(AccelerationError, match=message):
        KVCacheConfig(**arguments)

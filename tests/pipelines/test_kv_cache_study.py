"""The study's methods: all of them, its byte counts from its definitions, and what differs by construction."""

import pytest

from hasten.assets import kv_study
from hasten.pipelines.kv_cache import (
    METHODS,
    OURS,
    STUDY,
    UNDETERMINED,
    CacheMethod,
    compression_ratio,
    study_bytes,
    study_ratio,
)

PUBLISHED = {name: row["ratio"] for name, row in kv_study()["moviegen"].items()}


def test_all_methods_of_the_study_are_there_and_no_name_twice() -> None:
    assert {method.name for method in STUDY} == set(PUBLISHED)
    assert len(STUDY) == 33
    assert len(METHODS) == len(STUDY) + len(OURS)
    assert all(method.description for method in METHODS.values())


@pytest.mark.parametrize("method", [one for one in STUDY if PUBLISHED[one.name]], ids=lambda method: method.name)
def test_published_ratios_follow_from_the_definitions(method: CacheMethod) -> None:
    tolerance = 0.02 if method.name in UNDETERMINED else 1e-6
    assert study_ratio(method) == pytest.approx(PUBLISHED[method.name], rel=tolerance)


def test_methods_without_a_published_ratio_are_few() -> None:
    assert {name for name, ratio in PUBLISHED.items() if ratio is None} == {
        "kivi_k2_v4",
        "rtn_k2_v4",
        "quarot_kv_int4_refresh",
    }
    assert study_ratio(METHODS["rtn_k2_v4"]) == pytest.approx(4.0)
    assert study_ratio(METHODS["kivi_k2_v4"]) == pytest.approx(3.99, abs=0.005)


@pytest.mark.parametrize(
    ("name", "logged"),
    [
        ("flowcache_soft_prune_int4", 2_199_792_800),
        ("flowcache_prune_int4", 2_196_528_000),
        ("flowcache_prune_int2", 1_552_792_320),
    ],
)
def test_bytes_are_those_in_the_studys_logs(name: str, logged: int) -> None:
    assert study_bytes(METHODS[name]) == logged


@pytest.mark.parametrize("name", ["rtn_int4", "kivi_int4", "quarot_kv_int4"])
def test_a_refresh_row_is_its_base_row(name: str) -> None:
    base, row = METHODS[name], METHODS[f"{name}_refresh"]
    assert (row.policy, row.formats, row.step_reuse) == (base.policy, base.formats, base.step_reuse)
    assert name in row.description


def test_only_the_native_methods_reuse_steps() -> None:
    assert {method.name for method in METHODS.values() if method.step_reuse} == {
        "flowcache_native",
        "flowcache_native_soft_prune_int4",
    }


def test_ratios_against_the_attended_window_are_finite_and_real() -> None:
    assert compression_ratio(METHODS["bf16"]) == compression_ratio(METHODS["flowcache_native"]) == 1
    assert all(compression_ratio(method) > 1.5 for method in METHODS.values() if method.is_quantized)

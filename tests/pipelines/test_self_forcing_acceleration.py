"""`enable_acceleration(kv_cache=...)` on a pipeline that rolls out: chosen, reported, refused where it does not fit."""

import contextlib
from pathlib import Path

import pytest
import tiny_rollouts as tiny
import torch

import hasten
from hasten.app.loading import load_model
from hasten.kernels import PagePool
from hasten.pipelines.kv_cache import METHODS
from hasten.pipelines.self_forcing import CacheMemoryError, CacheSetting, SelfForcingWanPipeline


@pytest.fixture
def pipe() -> SelfForcingWanPipeline:
    return tiny.make_pipeline(window_frames=6)


def test_a_cache_method_is_used_until_acceleration_is_disabled(pipe: SelfForcingWanPipeline) -> None:
    plain = tiny.generate(pipe)
    by_hand = tiny.make_pipeline(window_frames=6)
    by_hand.kv_cache = CacheSetting(METHODS["rtn_int4"])
    expected = tiny.generate(by_hand)
    assert not torch.equal(expected, plain)
    pipe.enable_acceleration(kv_cache=hasten.KVCacheConfig.preset("rtn_int4"))
    for _ in range(2):
        assert torch.equal(tiny.generate(pipe), expected)
    pipe.disable_acceleration()
    assert pipe.kv_cache is None
    assert torch.equal(tiny.generate(pipe), plain)


def test_the_report_holds_the_method_and_the_bytes_of_its_tensors(pipe: SelfForcingWanPipeline) -> None:
    pipe.enable_acceleration(kv_cache=hasten.KVCacheConfig("rtn_int4", window_frames=9))
    tiny.generate(pipe)
    cache = CacheSetting(METHODS["rtn_int4"], 9).make_cache(pipe.config, tiny.LAYERS, ("cond",))
    cache.begin(1, 2, 16, tiny.ROWS * tiny.COLUMNS, torch.float32, torch.device("cpu"))
    report = pipe.acceleration_report()
    assert (report.kv_cache, report.kv_bytes) == ("rtn_int4", cache.nbytes)
    assert report.to_dict()["kv_bytes"] == cache.nbytes > 0
    assert f"KV cache: rtn_int4, {cache.nbytes:,} bytes" in str(report)


def test_the_report_counts_the_pages_that_hold_a_frame_when_a_chunk_is_done(pipe: SelfForcingWanPipeline) -> None:
    pipe.enable_acceleration(kv_cache=hasten.KVCacheConfig("bf16", window_frames=12))
    tiny.generate(pipe, chunks=6)
    report = pipe.acceleration_report()
    page = 2 * 4 * (2 * tiny.ROWS * tiny.COLUMNS * 16)  # keys and values, float32, two heads of 16 channels
    table = 4
    frames = [tiny.LAYERS * 3 * chunks * (page + table) for chunks in (1, 2, 3)]
    assert report.kv_used_bytes == (*frames, frames[-1], frames[-1], frames[-1])
    assert report.kv_bytes == frames[-1]
    assert report.density == 1


def test_a_group_that_does_not_divide_is_told_before_and_after_a_call(pipe: SelfForcingWanPipeline) -> None:
    config = hasten.KVCacheConfig("rtn_int4", group=4)
    sentence = "a group of 4 does not divide the 6 tokens that are stored alike; 3 share a scale"
    explained = hasten.explain(pipe, kv_cache=config)
    assert explained.kv_cache.notices == (sentence,)
    assert f"note: {sentence}" in str(explained)
    pipe.enable_acceleration(kv_cache=config)
    with pytest.warns(hasten.AccelerationWarning, match=sentence):
        tiny.generate(pipe, chunks=1)
    assert [fallback.reason for fallback in pipe.acceleration_report().fallbacks] == [sentence]
    assert not hasten.explain(pipe, kv_cache=hasten.KVCacheConfig("kivi_int4", group=2)).kv_cache.notices


@pytest.mark.parametrize(
    ("method", "kernels", "is_told"),
    [
        ("rtn_int4", ("triton",), False),
        ("rtn_int4_recent2", ("portable", "triton"), False),
        ("qaq_int4", ("portable",), True),
        ("tptq_int2", ("triton", "portable"), True),
    ],
)
def test_the_report_says_what_reads_the_pages(
    pipe: SelfForcingWanPipeline, monkeypatch: pytest.MonkeyPatch, method: str, kernels: tuple[str, ...], is_told: bool
) -> None:
    """On a GPU, which is pretended here until attention would begin."""
    pipe.enable_acceleration(kv_cache=hasten.KVCacheConfig(method, window_frames=21))
    cache = pipe.make_cache()
    cache.begin(1, 2, 16, tiny.ROWS * tiny.COLUMNS, torch.float32, "cpu")
    for module in ("hasten.kernels.paged.api", "hasten.methods.kv_cache"):
        monkeypatch.setattr(f"{module}.implementation", lambda *_: "triton")
    with pytest.warns(hasten.AccelerationWarning, match="outliers") if is_told else contextlib.nullcontext():
        pipe.kv_cache.on_begin(cache)
    report = pipe.acceleration_report()
    assert report.kernels == kernels
    assert len(report.fallbacks) == is_told


def test_a_cache_for_which_there_is_no_memory_is_refused_with_its_bytes_and_a_smaller_method(
    pipe: SelfForcingWanPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained = hasten.explain(pipe, kv_cache=hasten.KVCacheConfig("rtn_int4")).kv_cache
    assert explained is not None
    pipe.enable_acceleration(kv_cache=hasten.KVCacheConfig("rtn_int4"))
    before = tiny.fingerprint(pipe.transformer)

    def no_memory(*_: object, **__: object) -> None:
        torch.empty(2**60, dtype=torch.uint8)

    monkeypatch.setattr(PagePool, "allocate", no_memory)
    with pytest.raises(CacheMemoryError) as refusal:
        tiny.generate(pipe)
    sentence = str(refusal.value)
    assert f"'rtn_int4' takes {explained.nbytes:,} bytes" in sentence
    name, takes = explained.smaller or ("", 0)
    assert f"'{name}', takes {takes:,}." in sentence
    assert takes < explained.nbytes
    assert tiny.fingerprint(pipe.transformer) == before


def test_a_setting_of_the_user_comes_back(pipe: SelfForcingWanPipeline) -> None:
    own = pipe.kv_cache = CacheSetting(window_frames=9)
    with hasten.accelerate(pipe, kv_cache=hasten.KVCacheConfig("bf16")):
        assert pipe.kv_cache is not own
    assert pipe.kv_cache is own


def test_a_recipe_file_carries_the_cache(pipe: SelfForcingWanPipeline, tmp_path: Path) -> None:
    config = hasten.KVCacheConfig("flowcache_soft_prune_int4", sink_frames=1, layer_budgets=(0.8, 1.2))
    hasten.Recipe(kv_cache=config).save(tmp_path / "recipe.json")
    assert hasten.Recipe.load(tmp_path / "recipe.json").kv_cache == config
    pipe.enable_acceleration(tmp_path / "recipe.json")
    tiny.generate(pipe)
    assert pipe.acceleration_report().kv_cache == "flowcache_soft_prune_int4"


@pytest.mark.parametrize("name", [None, *hasten.presets()])
def test_a_preset_gives_its_cache(name: str | None, pipe: SelfForcingWanPipeline) -> None:
    cache = hasten.presets()[name or "balanced"].kv_cache
    assert hasten.explain(pipe, name).recipe == hasten.Recipe(kv_cache=cache)
    pipe.enable_acceleration(name)
    tiny.generate(pipe)
    assert pipe.acceleration_report().kv_cache == cache.method
    with hasten.accelerate(pipe, name, kv_cache=hasten.KVCacheConfig("kivi_int4")):
        tiny.generate(pipe)
        assert pipe.acceleration_report().kv_cache == "kivi_int4"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"preset_or_recipe": "balanced", "sampling": hasten.BottleneckConfig(speed="x2")}, "generates chunk by chunk"),
        ({"attention": hasten.RettentionConfig()}, "give a preset, or kv_cache="),
        ({"kv_cache": hasten.KVCacheConfig(window_frames=2)}, "chunk"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    request_: dict, message: str, pipe: SelfForcingWanPipeline
) -> None:
    before = tiny.fingerprint(pipe.transformer)
    with pytest.raises(hasten.AccelerationError, match=message):
        pipe.enable_acceleration(**request_)
    assert pipe.kv_cache is None
    assert tiny.fingerprint(pipe.transformer) == before


def test_a_folder_of_it_loads_by_its_own_class(tmp_path: Path) -> None:
    tiny.make_pipeline_with_text(window_frames=9).save_pretrained(tmp_path / "rollout")
    loaded = load_model(str(tmp_path / "rollout"), device="cpu", videos=True)
    assert type(loaded.pipe) is SelfForcingWanPipeline
    assert loaded.pipe.config.window_frames == 9

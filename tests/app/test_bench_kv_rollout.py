"""Whole rollouts beside the study's layout, on a tiny random model."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from hasten.app import bench_kv_rollout
from hasten.app.bench_kv_rollout import RING, STUDY, RolloutCase, run
from hasten.app.bench_kv_study import StudyCache, StudySetting
from hasten.app.published_models import PUBLISHED_MODELS
from hasten.kernels import PagePool, paged_attention
from hasten.pipelines.kv_cache import Window

LAYERS, HEADS, HEAD_DIM, TOKENS, FRAMES = 2, 2, 16, 4, 12
WAN = PUBLISHED_MODELS["wan-1.3b-480p"]
TINY = {"attention_head_dim": HEAD_DIM, "in_channels": 4, "out_channels": 4, "text_dim": 8, "freq_dim": 16}
CASE = RolloutCase(
    model=replace(
        WAN,
        config={**TINY, "num_layers": LAYERS, "num_attention_heads": HEADS, "ffn_dim": 16},
        call={"height": 32, "width": 32, "num_frames": 0, "guidance_scale": 1.0},
        embeddings={"prompt_embeds": (1, 8, 8)},
    ),
    autoencoder={
        "base_dim": 4,
        "z_dim": 4,
        "dim_mult": [1, 1, 1, 1],
        "num_res_blocks": 1,
        "latents_mean": [0.0] * 4,
        "latents_std": [1.0] * 4,
    },
    latent_frames=FRAMES,
    window_frames=9,
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return run(CASE, device=CPU, dtype=torch.float32, repeats=1, only=["rtn_int4"])


def test_rows_are_ratios_to_the_ring_and_to_the_study(result: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == [STUDY, RING, "rtn_int4"]
    assert {"model", "latent_frames", "window_frames", "repeats", "device", "versions", "command"} <= set(result)
    values = LAYERS * 2 * HEADS * TOKENS * HEAD_DIM  # keys and values of a frame
    assert rows[RING]["kv_bytes"] == 4 * 6 * values
    assert rows[STUDY]["kv_bytes"] == FRAMES * values * (2 + 2 / 16)
    assert rows["rtn_int4"]["kv_bytes"] == 6 * (values // 2 + 2 * values // TOKENS + 4 * LAYERS)
    for row in rows.values():
        assert row["kv_ratio"] == row["kv_bytes"] / rows[RING]["kv_bytes"]
        assert row["seconds_ratio"] == row["seconds"] / rows[RING]["seconds"] > 0
        assert row["peak_ratio"] == row["peak_bytes"] / rows[STUDY]["peak_bytes"] > 0


def test_the_studys_layer_gives_the_window_of_what_it_coded() -> None:
    generator = torch.Generator().manual_seed(0)
    keys, values, query = torch.randn(3, 1, HEADS, 4 * 16, HEAD_DIM, generator=generator)
    cache = StudyCache(1, Window(frames=3, chunk_frames=1), ("cond",), frames=5)
    cache.begin(1, HEADS, HEAD_DIM, 16, torch.float32, "cpu")
    for key, value in zip(keys.split(16, 2), values.split(16, 2), strict=True):
        cache.layer(0).update(key, value)
    [seen] = cache.layer(0).get()
    for got, given in ((seen.key, keys), (seen.value, values)):
        step = given.abs().unflatten(2, (-1, 16)).amax(3, keepdim=True) / 7
        error = (got - given[:, :, 32:]).unflatten(2, (-1, 16)).abs()
        assert (error <= 0.6 * step[:, :, 2:]).all()
        assert error.max() > 0.3 * step.min()
    assert paged_attention(query, [seen]).output.isfinite().all()
    cache.reset()
    assert cache.nbytes > 0  # the study keeps it while frames are decoded


def test_it_is_the_published_model_at_the_studys_size() -> None:
    case = RolloutCase()
    pipe = case.build(torch.device("meta"), torch.bfloat16)
    assert sum(parameter.numel() for parameter in pipe.transformer.parameters()) == 1_418_996_800
    assert sum(parameter.numel() for parameter in pipe.vae.parameters()) / 1e6 == pytest.approx(126.9, abs=0.1)
    assert pipe.config.window_frames == 21
    cache = StudySetting().make_cache(pipe.config, 30, ("cond",))
    cache.begin(1, 12, 128, 1560, torch.bfloat16, "meta")
    assert cache.nbytes == 12_076_646_400 * (1 + 1 / 16)  # int16 takes what 16 bits do
    arguments = case.arguments(torch.device("cpu"), torch.bfloat16)
    assert arguments["num_frames"] == 165
    assert (arguments["height"], arguments["width"]) == (480, 832)


def test_a_cache_without_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    stock = PagePool.allocate

    def no_memory(slots: int, shape: Any, keys: Any, *rest: Any, **options: Any) -> PagePool:
        if keys is not None:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return stock(slots, shape, keys, *rest, **options)

    monkeypatch.setattr(PagePool, "allocate", no_memory)
    rows = run(CASE, device=CPU, dtype=torch.float32, repeats=1, only=["rtn_int4"])["rows"]
    assert rows[2] == {"name": "rtn_int4", "why": "there is too little memory"}
    assert rows[1]["seconds_ratio"] == 1


def test_latent_frames_are_whole_chunks(refused: Callable[..., str]) -> None:
    assert "40 latent frames are no whole chunks; give a multiple of 3" in refused(
        "bench", "rollout", "--latent-frames", 40
    )
    assert "did you mean 'rtn_int4'" in refused("bench", "rollout", "--only", "rtn_int44")


def test_what_is_compared_are_methods_that_exist() -> None:
    assert set(CASE.settings()) == {STUDY, RING, *bench_kv_rollout.COMPARED}

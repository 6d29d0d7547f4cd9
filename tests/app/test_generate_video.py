"""`hasten generate` of videos that are made chunk by chunk, from a tiny random pipeline in a folder."""

import inspect
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_rollout import CHUNK, save_tiny_rollout
from typer.testing import Result

import hasten
from hasten.app.video import decode_video
from hasten.kernels import PagePool
from hasten.pipelines.self_forcing import SelfForcingWanPipeline

Run = Callable[..., Result]
Refused = Callable[..., str]
TRAINED_FRAMES = 9
FOUR_TIMES = TRAINED_FRAMES + 3 * CHUNK
"""Frames of four times as many chunks."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_rollout(tmp_path_factory.mktemp("model") / "tiny-rollout")


@pytest.fixture
def generate(model: Path, tmp_path: Path) -> tuple[object, ...]:
    return ("generate", "--model", model, "--prompt", "a red circle", "--device", "cpu", "--out", tmp_path / "out")


def test_a_video_of_four_times_the_length_has_its_frames_and_the_bytes_of_its_cache(
    run_hasten: Run, generate: tuple[object, ...], tmp_path: Path
) -> None:
    cache = ("--kv-cache", "flowcache_soft_prune_int4", "--window", 9, "--sink-frames", 1)
    result = run_hasten(*generate, *cache, "--frames", FOUR_TIMES, "--fps", 12, "--json")
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    (made,) = shown["pictures"]
    assert made["file"] == "01.mp4"
    assert len(decode_video((tmp_path / "out" / "01.mp4").read_bytes())) == FOUR_TIMES == made["frames"]
    assert (made["kv_cache"], made["fps"], made["density"]) == ("flowcache_soft_prune_int4", 12, 1.0)
    assert len(made["kv_used_bytes"]) == 4
    assert 0 < made["kv_used_bytes"][0] <= max(made["kv_used_bytes"]) <= made["kv_bytes"]
    assert made["seconds"] > 0
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == shown


def test_a_cache_is_used_unless_told_otherwise(run_hasten: Run, generate: tuple[object, ...], tmp_path: Path) -> None:
    assert json.loads(run_hasten(*generate, "--frames", 9, "--json").stdout)["method"] == "balanced"
    made = json.loads((tmp_path / "out" / "result.json").read_text())["pictures"]
    assert made[0]["kv_cache"] == hasten.presets()["balanced"].kv_cache.method
    plain = json.loads(run_hasten(*generate, "--frames", 9, "--plain", "--force", "--json").stdout)
    assert plain["pictures"][0]["kv_cache"] is None
    windowed = json.loads(run_hasten(*generate, "--frames", 9, "--window", 6, "--force", "--json").stdout)
    assert windowed["method"] == "bf16"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--frames", 20), "no whole number of chunks of 3 latent frames; the nearest that are, are 9 and 21"),
        (("--frames", 20, "--plain"), "the nearest that are, are 9 and 21"),
        (("--window", 2), "no room for a chunk of 3"),
        (("--kv-cache", "flowcache_softprune_int4"), "did you mean 'flowcache_soft_prune_int4'"),
        (("--kv-cache", "rtn_int4", "--plain"), "--plain runs the pipeline as it is"),
        (("--kv-cache", "rtn_int4", "--preset", "fast"), "or one of --preset, --recipe and --sampling"),
        (("--sampling", "wan-x2"), "generates chunk by chunk"),
        (("--window", 0), "'--window'"),
        (("--sink-frames", -1), "'--sink-frames'"),
        (("--height", 40), "give a multiple of 16"),
    ],
    ids=str,
)
def test_what_cannot_be_made_is_refused_in_a_sentence(
    refused: Refused, generate: tuple[object, ...], tmp_path: Path, arguments: tuple[object, ...], sentence: str
) -> None:
    assert sentence in refused(*generate, *arguments)
    assert not (tmp_path / "out").exists()


def test_a_cache_for_a_model_of_pictures_is_refused(refused: Refused, tmp_path: Path) -> None:
    assert "does not generate chunk by chunk" in refused("generate", "--kv-cache", "rtn_int4", "--out", tmp_path / "o")
    assert "takes no --frames" in refused("generate", "--frames", 9, "--out", tmp_path / "o")
    assert "--fps is for videos" in refused("generate", "--fps", 9, "--out", tmp_path / "o")


@pytest.mark.parametrize("arguments", [("--kv-cache", "kivi_int4"), ("--plain",)], ids=str)
def test_too_little_memory_for_the_cache_is_answered_with_bytes_and_a_smaller_method(
    refused: Refused, generate: tuple[object, ...], monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...]
) -> None:
    stock = PagePool.allocate

    def no_memory(slots: int, shape: Any, keys: Any, values: Any, dtype: Any, device: Any, **rest: Any) -> PagePool:
        if torch.device(device).type != "meta":
            torch.empty(2**60, dtype=torch.uint8)
        return stock(slots, shape, keys, values, dtype, device, **rest)

    monkeypatch.setattr(PagePool, "allocate", no_memory)
    sentence = refused(*generate, "--frames", 9, *arguments)
    assert sentence.startswith("Out of memory: the KV cache '")
    assert "the next smaller method, '" in sentence


def test_too_little_memory_elsewhere_is_answered_alike(
    refused: Refused, generate: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr("hasten.pipelines.self_forcing.pipeline.decode", no_memory)
    assert "the KV cache 'rtn_int4' takes" in refused(*generate, "--frames", 9, "--kv-cache", "rtn_int4")


def test_interrupted_it_keeps_the_chunks_that_are_done(
    run_hasten: Run, generate: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, steps = signal.getsignal(signal.SIGINT), 0
    stock = SelfForcingWanPipeline.__call__

    def interrupted(pipe: Any, *args: Any, **options: Any) -> Any:
        def press(_pipe: Any, step: int, *_: Any) -> dict[str, Any]:
            nonlocal steps
            steps += 1
            if step == 5:  # in the second chunk of three
                os.kill(os.getpid(), signal.SIGINT)
            return {}

        return stock(pipe, *args, **options, callback_on_step_end=press)

    interrupted.__signature__ = inspect.signature(stock)  # type: ignore[attr-defined]
    monkeypatch.setattr(SelfForcingWanPipeline, "__call__", interrupted)
    result = run_hasten(*generate, "--frames", 9 + 2 * CHUNK)
    assert result.exit_code == 0, result.output
    assert "cancelled" in result.stderr
    assert steps == 6
    assert len(decode_video((tmp_path / "out" / "01.mp4").read_bytes())) == 9
    assert signal.getsignal(signal.SIGINT) is before

"""`hasten bench kv` on a tiny random pipeline: what its rows say, against counts and videos made here."""

import csv
import json
import math
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_rollout import CHUNK, save_tiny_rollout
from typer.testing import Result

import hasten
from hasten.app.loading import load_model
from hasten.app.video import decode_video
from hasten.kernels import PagePool

Run = Callable[..., Result]
METHODS = ("bf16", "rtn_int4", "rtn_int2", "flowcache_soft_prune_int4")
FRAMES = 9 + 2 * CHUNK
PAGES, LAYERS, HEADS, TOKENS, HEAD_DIM = 6, 2, 2, 16, 16


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_rollout(tmp_path_factory.mktemp("model") / "tiny-rollout")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench") / "out"


@pytest.fixture(scope="module")
def measured(model: Path, out: Path) -> dict[str, Any]:
    from typer.testing import CliRunner

    from hasten.app.cli import app

    only = [word for name in METHODS for word in ("--only", name)]
    arguments = ["--prompt", "a red circle", "--num-seeds", 2, "--frames", FRAMES, "--max-bytes", 20_000, *only]
    command = ["bench", "kv", "--model", model, "--device", "cpu", "--out", out, "--json", *arguments]
    result = CliRunner().invoke(app, [str(word) for word in command])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def rows(measured: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["method"]: row for row in measured["rows"]}


@cache
def video(model: Path, seed: int, method: str | None) -> np.ndarray:
    """8-bit frames of a call by hand."""
    pipe = load_model(str(model), device="cpu", videos=True).pipe
    pipe.set_progress_bar_config(disable=True)
    if method:
        pipe.enable_acceleration(kv_cache=hasten.KVCacheConfig(method))
    generator = torch.Generator().manual_seed(seed)
    frames = pipe("a red circle", num_frames=FRAMES, generator=generator, output_type="pil").frames[0]
    return np.stack([np.asarray(frame, np.float64) for frame in frames])


def test_every_method_has_a_row_behind_the_plain_window(rows: dict[str, dict[str, Any]]) -> None:
    assert list(rows) == ["plain window", *METHODS]
    needed = "family kv_bytes ratio published_ratio peak_bytes seconds seconds_ratio psnr ssim drift caption_accuracy"
    for row in rows.values():
        assert set(needed.split()) <= set(row)
        assert row["seconds"] > 0
        assert row["caption_accuracy"] is None  # no prompt of a bundled model
    assert rows["plain window"]["seconds_ratio"] == 1
    assert rows["plain window"]["psnr"] is None  # infinite
    assert rows["rtn_int4"]["published_ratio"] == 3.2
    assert rows["flowcache_soft_prune_int4"]["published_ratio"] == pytest.approx(5.489902)


def test_bytes_are_those_of_the_tensors(rows: dict[str, dict[str, Any]]) -> None:
    values = LAYERS * PAGES * 2 * HEADS * TOKENS * HEAD_DIM
    assert rows["plain window"]["kv_bytes"] == 4 * values
    assert rows["plain window"]["ratio"] == pytest.approx(0.5, rel=0.01)
    scales = values // 16
    assert rows["rtn_int4"]["kv_bytes"] == values // 2 + 2 * scales + 4 * LAYERS * PAGES
    assert rows["rtn_int4"]["ratio"] == pytest.approx(16 / 5, rel=0.02)
    chunk = rows["plain window"]["kv_used_bytes"][0]
    assert rows["plain window"]["kv_used_bytes"] == [chunk, 2 * chunk, 2 * chunk]


def test_likeness_is_that_of_videos_made_by_hand(model: Path, rows: dict[str, dict[str, Any]]) -> None:
    errors = np.stack(
        [((video(model, seed, "rtn_int2") - video(model, seed, None)) / 255) ** 2 for seed in (0, 1)]
    ).mean((2, 3, 4))
    assert rows["rtn_int2"]["psnr"] == pytest.approx(-10 * math.log10(errors.mean()), abs=1e-3)
    bounds = [0, 8, 16, 24, 33]
    drift = [errors[:, bounds[i] : bounds[i + 1]].mean() for i in range(4)]
    assert rows["rtn_int2"]["drift"][0] is None  # infinite: the first chunk has no cache to lose by
    assert drift[0] == 0
    assert rows["rtn_int2"]["drift"][1:] == pytest.approx([-10 * math.log10(error) for error in drift[1:]], abs=1e-3)


def test_constraints_come_before_the_frontier(measured: dict[str, Any], rows: dict[str, dict[str, Any]]) -> None:
    for row in rows.values():
        assert row["breaks"] == (["max_bytes"] if row["kv_bytes"] > 20_000 else [])
    assert rows["plain window"]["breaks"]
    assert measured["frontier"] == [name for name, row in rows.items() if row["on_frontier"]]
    assert set(measured["frontier"]) <= {name for name, row in rows.items() if not row["breaks"]}
    assert min(rows.values(), key=lambda row: row["kv_bytes"])["on_frontier"]


VIDEOS = ["plain-window-01.mp4", *(f"{name.replace('_', '-')}-01.mp4" for name in METHODS)]


def test_a_table_two_figures_and_a_video_of_each_method_are_written(
    measured: dict[str, Any], rows: dict[str, dict[str, Any]], out: Path
) -> None:
    assert measured["files"] == ["methods.csv", "pareto.png", "memory.png", *VIDEOS]
    assert {path.name for path in out.iterdir()} == {*measured["files"], "result.json"}
    with (out / "methods.csv").open() as text:
        lines = {line["method"]: line for line in csv.DictReader(text)}
    assert list(lines) == list(rows)
    assert float(lines["rtn_int2"]["psnr"]) == pytest.approx(rows["rtn_int2"]["psnr"])
    assert float(lines["rtn_int2"]["drift_4"]) == pytest.approx(rows["rtn_int2"]["drift"][3])
    assert lines["plain window"]["psnr"] == lines["plain window"]["published_ratio"] == ""
    assert lines["bf16"]["breaks"] == "max_bytes"


def test_the_videos_are_those_of_the_first_request(measured: dict[str, Any], model: Path, out: Path) -> None:
    assert measured["requests"][0]["seed"] == 0
    kept = np.stack([np.asarray(frame, np.float64) for frame in decode_video((out / VIDEOS[3]).read_bytes())])
    expected, other = video(model, 0, "rtn_int2"), video(model, 1, "rtn_int2")
    assert kept.shape == expected.shape
    assert np.abs(kept - expected).mean() < 0.7 * np.abs(kept - other).mean()  # but for what H.264 costs


def test_without_ffmpeg_all_else_is_written(
    run_hasten: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    call = ("bench", "kv", "--model", model, "--prompt", "a cat", "--only", "bf16", "--frames", 9, "--steps", 1)
    result = run_hasten(*call, "--out", tmp_path / "o", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["files"] == ["methods.csv", "pareto.png", "memory.png"]


def test_nothing_is_written_over(refused: Callable[..., str], measured: dict[str, Any], model: Path, out: Path) -> None:
    assert measured["rows"]
    sentence = refused("bench", "kv", "--model", model, "--prompt", "a cat", "--only", "bf16", "--out", out)
    assert "is not empty" in sentence


def test_a_method_without_memory_is_told_in_its_row(
    run_hasten: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = PagePool.allocate

    def no_memory(slots: int, shape: Any, keys: Any, values: Any, dtype: Any, device: Any, **rest: Any) -> PagePool:
        if keys is not None and keys.bits == 4 and torch.device(device).type != "meta":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return stock(slots, shape, keys, values, dtype, device, **rest)

    monkeypatch.setattr(PagePool, "allocate", no_memory)
    only = ("--only", "rtn_int4", "--only", "rtn_int2", "--frames", 9)
    result = run_hasten("bench", "kv", "--model", model, "--prompt", "a cat", *only, "--out", tmp_path / "o", "--json")
    assert result.exit_code == 0, result.output
    rows = {row["method"]: row for row in json.loads(result.stdout)["rows"]}
    assert "'rtn_int4' takes" in rows["rtn_int4"]["why"]
    assert rows["rtn_int4"]["kv_bytes"] is None
    assert not rows["rtn_int4"]["on_frontier"]
    assert rows["rtn_int2"]["on_frontier"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--only", "rtn_int44"), "did you mean 'rtn_int4'"),
        (("--frames", 10), "no whole number of chunks"),
        (("--window", 2), "no room for a chunk of 3"),
        (("--model", "emoji-image"), "does not generate chunk by chunk"),
    ],
    ids=str,
)
def test_what_cannot_be_measured_is_refused(
    refused: Callable[..., str], model: Path, tmp_path: Path, arguments: tuple[object, ...], sentence: str
) -> None:
    out = tmp_path / "out"
    assert sentence in refused("bench", "kv", "--model", model, "--prompt", "a cat", "--out", out, *arguments)
    assert not out.exists()

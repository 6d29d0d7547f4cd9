"""`hasten compare` of videos, from a tiny random pipeline that generates chunk by chunk."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_rollout import CHUNK, save_tiny_rollout
from typer.testing import Result

from hasten.app.video import decode_video

FRAMES = 9 + CHUNK


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_rollout(tmp_path_factory.mktemp("model") / "tiny-rollout")


@pytest.fixture
def compare(run_hasten: Callable[..., Result], model: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(*arguments: object) -> dict[str, Any]:
        call = ("compare", "--model", model, "--prompt", "a red circle", "--device", "cpu", "--out", tmp_path / "out")
        result = run_hasten(*call, "--frames", FRAMES, *arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


def test_all_three_videos_and_one_of_them_side_by_side_are_written(
    compare: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    told = compare("--kv-cache", "rtn_int4", "--fps", 12)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {*told["files"], "result.json"}
    assert {"side-by-side.mp4", "baseline-01.mp4", "accelerated-01.mp4", "fewer-steps-01.mp4"} <= written
    together = decode_video((tmp_path / "out" / "side-by-side.mp4").read_bytes())
    assert len(together) == FRAMES == told["frames"]
    assert not np.array_equal(np.asarray(together[0]), np.asarray(together[-1]))
    single = decode_video((tmp_path / "out" / "accelerated-01.mp4").read_bytes())
    assert together[0].width > 3 * single[0].width
    assert told["fps"] == 12


def test_the_result_tells_what_the_cache_held(compare: Callable[..., dict[str, Any]]) -> None:
    told = compare("--kv-cache", "rtn_int4")
    cache = told["kv_cache"]
    assert cache["method"] == "rtn_int4"
    assert len(cache["used_bytes"]) == 2
    assert cache["used_bytes"][-1] <= cache["bytes"]
    assert cache["ratio"] == pytest.approx(cache["exact_bytes"] / cache["bytes"])
    assert told["baseline"]["psnr"] is None
    assert told["accelerated"]["psnr"] < 100


def test_what_cannot_be_made_is_refused_in_a_sentence(refused: Callable[..., str], model: Path, tmp_path: Path) -> None:
    call = ("compare", "--model", model, "--prompt", "a red circle", "--out", tmp_path / "out")
    assert "no whole number of chunks" in refused(*call, "--frames", 20)
    assert "one of --preset, --recipe and --sampling" in refused(*call, "--kv-cache", "rtn_int4", "--preset", "fast")
    assert "does not generate chunk by chunk" in refused("compare", "--kv-cache", "rtn_int4", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_explain_tells_the_bytes_of_a_cache(run_hasten: Callable[..., Result], model: Path) -> None:
    result = run_hasten("explain", "--model", model, "--kv-cache", "rtn_int4", "--frames", FRAMES, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)["kv_cache"]
    assert told["method"] == "rtn_int4"
    assert 0 < told["nbytes"] < told["exact_bytes"]
    assert told["chunks"] == 2

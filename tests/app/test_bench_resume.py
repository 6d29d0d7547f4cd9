"""Benchmarks that are interrupted: nothing measured is lost, and the table is that of an uninterrupted run."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from invented_benchmark import CALLS, METHODS, NAMES, STEPS, WORKLOAD, counting, measure
from PIL import Image

from hasten.app.benchmark.folder import BenchFolder
from hasten.app.benchmark.kept_calls import KeptCalls
from hasten.app.errors import UserError
from hasten.app.loading import LoadedModel
from hasten.app.methods import PLAIN
from hasten.app.series import Call

Use = Callable[..., list[str]]


@pytest.fixture
def warmed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the methods that were warmed up."""
    names: list[str] = []
    monkeypatch.setattr(
        "hasten.app.bench_pipeline.warm_up", lambda _model, methods, _workload: names.extend(m.name for m in methods)
    )
    return names


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, warmed: list[str]) -> Use:
    """Measure invented calls, up to an interruption; gives the list of those that are measured from now on."""

    def begin(stop_at: int | None = None) -> list[str]:
        calls: list[str] = []
        monkeypatch.setattr("hasten.app.benchmark.kept_calls.run", counting(calls, stop_at))
        return calls

    return begin


def results(folder: Path) -> dict[str, Any]:
    """All files of a finished run, without the line that says where it lies."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    result = json.loads(files["result.json"])
    assert set(files) == {*result["files"], "result.json"}
    return {**files, "result.json": {**result, "out": None}}


@pytest.fixture
def uninterrupted(emoji_image: LoadedModel, use: Use, tmp_path: Path) -> dict[str, Any]:
    calls = use()
    measure(tmp_path / "uninterrupted", emoji_image)
    assert len(calls) == CALLS
    return results(tmp_path / "uninterrupted")


@pytest.mark.parametrize("stop_at", [1, 2, 6, 10, 11, CALLS], ids="call {}".format)
def test_an_interrupted_run_loses_the_call_in_progress_alone(
    stop_at: int, emoji_image: LoadedModel, use: Use, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    before = use(stop_at)
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path / "out", emoji_image)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".hasten"]
    after = use()
    measure(tmp_path / "out", emoji_image)
    assert len(before) == stop_at - 1
    assert len({*before, *after}) == len(before) + len(after) == CALLS
    assert results(tmp_path / "out") == uninterrupted


def test_only_what_is_left_is_warmed_up(emoji_image: LoadedModel, use: Use, warmed: list[str], tmp_path: Path) -> None:
    use(stop_at=9)  # the last method of the last request
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path / "out", emoji_image)
    warmed.clear()
    use()
    measure(tmp_path / "out", emoji_image)
    assert warmed == ["plain", METHODS[1].name]


def test_a_finished_run_is_told_again_without_measuring(
    emoji_image: LoadedModel, use: Use, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    calls = use()
    assert [row["name"] for row in measure(tmp_path / "uninterrupted", emoji_image)["rows"]] == NAMES
    assert calls == []
    assert results(tmp_path / "uninterrupted") == uninterrupted


def test_a_torn_line_and_a_lost_picture_are_measured_again(
    emoji_image: LoadedModel, use: Use, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    folder = BenchFolder(tmp_path / "uninterrupted")
    whole = folder.calls.read_bytes()
    folder.calls.write_bytes(whole[:-30])
    (folder.state / "00002.npz").write_bytes(b"half a file")
    (folder.state / "00003.npz").unlink()
    calls = use()
    measure(folder.root, emoji_image)
    assert len(calls) == 3
    assert results(folder.root) == uninterrupted
    assert len(KeptCalls(folder)) == CALLS


def test_a_video_is_kept_frame_by_frame(
    emoji_image: LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    frames = tuple(Image.new("RGB", (16, 16), (value, 0, 0)) for value in (1, 1, 250))  # two of them are the same

    def run(*_: object) -> Call:
        return Call(frames[0], 1.0, 0.5, None, 1.0, 1.0, video=frames, kv_used_bytes=(3, 4))

    monkeypatch.setattr("hasten.app.benchmark.kept_calls.run", run)
    folder = BenchFolder(tmp_path / "out")
    with folder.opened({}, force=False):
        made = KeptCalls(folder).measure(emoji_image, PLAIN, WORKLOAD.requests[0], WORKLOAD)
        kept = KeptCalls(folder).measure(emoji_image, PLAIN, WORKLOAD.requests[0], WORKLOAD)
    assert kept is not made
    assert [frame.tobytes() for frame in kept.video] == [frame.tobytes() for frame in frames]
    assert kept.image.tobytes() == frames[0].tobytes()
    assert (kept.kv_used_bytes, kept.seconds, kept.peak_bytes) == ((3, 4), 1.0, None)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"workload": WORKLOAD.with_steps(STEPS + 2)}, "num inference steps was 10, now it is 12"),
        ({"workload": replace(WORKLOAD, requests=WORKLOAD.requests[:2])}, "with other requests"),
        ({"methods": METHODS[:1]}, "with other methods"),
        ({"schedule": {"name": "fast"}}, "name was None, now it is fast"),
    ],
    ids=["steps", "prompts", "methods", "recipe"],
)
def test_other_settings_cannot_be_gone_on_with(
    emoji_image: LoadedModel, use: Use, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    use(stop_at=3)
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path / "out", emoji_image)
    calls = use()
    with pytest.raises(UserError, match=sentence):
        measure(tmp_path / "out", emoji_image, **changes)
    assert calls == []


def test_other_versions_cannot_be_gone_on_with(
    emoji_image: LoadedModel, use: Use, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use(stop_at=3)
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path / "out", emoji_image)
    monkeypatch.setattr("hasten.app.machine.versions", lambda: {"torch": "99"})
    with pytest.raises(UserError, match="holds another benchmark"):
        measure(tmp_path / "out", emoji_image)


def test_two_processes_do_not_measure_into_one_folder(emoji_image: LoadedModel, use: Use, tmp_path: Path) -> None:
    calls = use(stop_at=3)
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path / "out", emoji_image)
    with (
        FileLock(BenchFolder(tmp_path / "out").state / "lock"),
        pytest.raises(UserError, match="Another process measures"),
    ):
        measure(tmp_path / "out", emoji_image, force=True)
    assert len(calls) == 2


def test_force_begins_anew_and_keeps_the_results_until_new_ones_are_there(
    emoji_image: LoadedModel, use: Use, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    use(stop_at=CALLS)
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path / "uninterrupted", emoji_image, force=True)
    assert results(tmp_path / "uninterrupted") == uninterrupted
    calls = use()
    fewer = replace(WORKLOAD, requests=WORKLOAD.requests[:1])
    measure(tmp_path / "uninterrupted", emoji_image, force=True, workload=fewer)
    assert len(calls) == len(NAMES)
    assert "half-02.png" not in results(tmp_path / "uninterrupted")

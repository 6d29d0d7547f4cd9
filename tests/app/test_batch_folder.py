"""What lies in the folder of a batch, and whom an item belongs to."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from batch_processes import (
    check_manifest,
    identities,
    invented_item,
    invented_plan,
    invented_render,
    rows_of,
    work,
)

from hasten.app.batch.board import Board
from hasten.app.batch.claims import BEAT_SECONDS, LOST_SECONDS, Claims, Watch, registered
from hasten.app.batch.folder import BatchFolder, OutputError
from hasten.app.batch.items import Item
from hasten.app.batch.media import Rendering
from hasten.app.batch.opening import check_batch_folder, open_batch, read_plan
from hasten.app.batch.plan import Plan
from hasten.app.batch.worker import Worker
from hasten.app.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> BatchFolder:
    folder = BatchFolder(tmp_path / "out")
    folder.create()
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., list[str]]:
    """Runs a plan to its end with a renderer that notes what it renders."""

    def run(plan: Plan, broken: tuple[str, ...] = ()) -> list[str]:
        folder = BatchFolder(tmp_path / "out")
        rendered: list[str] = []

        def render(item: Item, recipe: dict[str, Any] | None) -> Rendering:
            rendered.append(item.key if recipe else f"{item.key} plain")
            if item.key in broken:
                raise MemoryError("out of\nmemory")
            return invented_render()(item, recipe)

        open_batch(folder, plan, force=False)
        with registered(folder) as name:
            Worker(folder, plan, name, render, {"hasten": "0"}).run(lambda _item: None)
        return rendered

    return run


Run = Callable[..., list[str]]


def test_the_manifest_has_a_row_an_item_from_the_beginning(folder: BatchFolder) -> None:
    plan = invented_plan(3)
    open_batch(folder, plan, force=False)
    Board(folder, plan).write_manifest()
    assert [row["status"] for row in rows_of(folder.root)] == ["waiting"] * 3
    work(folder.root, plan)
    rows = rows_of(folder.root)
    assert [row["item"] for row in rows] == ["0001", "0002", "0003"]
    assert check_manifest(folder.root, 3) == {"0001", "0002", "0003"}
    keys = {"id", "source", "prompt", "seed", "steps", "method", "file", "bytes", "seconds", "density", "worker"}
    assert all(keys <= set(row) for row in rows)


def test_a_failing_item_is_recorded_and_the_rest_goes_on(run: Run, tmp_path: Path) -> None:
    assert run(invented_plan(3), broken=("0002",)) == ["0001", "0002", "0003"]
    rows = rows_of(tmp_path / "out")
    assert [row["status"] for row in rows] == ["done", "failed", "done"]
    assert rows[1]["error"] == "MemoryError: out of memory"
    assert rows[1]["file"] is None
    record = json.loads((tmp_path / "out" / ".hasten" / "records" / "0002.json").read_text())
    assert "Traceback" in record["traceback"]


def test_resume_tries_again_what_failed_and_nothing_else(run: Run, tmp_path: Path) -> None:
    run(invented_plan(3), broken=("0002",))
    assert run(invented_plan(3)) == ["0002"]
    assert len(check_manifest(tmp_path / "out", 3)) == 3


def test_a_broken_row_is_in_the_manifest_and_never_rendered(run: Run, tmp_path: Path) -> None:
    good, bad = invented_plan(2).items
    assert run(replace(invented_plan(2), items=(good, replace(bad, error="this line is not JSON.")))) == ["0001"]
    row = rows_of(tmp_path / "out")[1]
    assert (row["status"], row["error"], row["source"]) == ("refused", "this line is not JSON.", "prompts.txt line 2")


def test_more_rows_and_mended_rows_go_on_in_the_same_folder(run: Run, tmp_path: Path) -> None:
    plan = invented_plan(3)
    broken = replace(plan.items[1], error="broken")
    run(replace(plan, items=(plan.items[0], broken)))
    before = identities(tmp_path / "out")
    moved = replace(plan.items[0], source="prompts.txt line 9")
    assert run(replace(plan, items=(moved, *plan.items[1:]))) == ["0002", "0003"]
    assert identities(tmp_path / "out").items() >= before.items()


def test_a_result_that_was_deleted_or_cut_is_made_again(run: Run, tmp_path: Path) -> None:
    run(invented_plan(3))
    first, second, third = sorted((tmp_path / "out").glob("*.png"))
    before = third.stat().st_ino
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    (tmp_path / "out" / ".hasten" / "records" / "0002.json").write_text("")
    assert run(invented_plan(3)) == ["0001", "0002"]
    assert len(check_manifest(tmp_path / "out", 3)) == 3
    assert third.stat().st_ino == before


def test_a_plain_rendering_that_is_there_is_not_made_again(run: Run, tmp_path: Path) -> None:
    run(invented_plan(1, compare=True), broken=("0001",))
    plan = invented_plan(1, compare=True)
    plain = tmp_path / "out" / ".hasten" / "records" / "0001.plain.json"
    assert not plain.exists()  # here the plain one failed
    assert run(plan) == ["0001 plain", "0001"]
    (tmp_path / "out" / "0001-picture-1.png").unlink()
    assert run(plan) == ["0001"]
    (tmp_path / "out" / "0001-picture-1.plain.png").unlink()
    assert "0001 plain" in run(plan)
    (row,) = rows_of(tmp_path / "out")
    assert row["plain"]["file"] == "0001-picture-1.plain.png"
    assert 0 < row["psnr"] < 20  # two noises
    assert row["speedup"] == pytest.approx(row["plain"]["seconds"] / row["seconds"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": "another"}, "model was invented, now it is another"),
        ({"compare": True}, "compare was False, now it is True"),
        ({"picture_format": "webp"}, "picture format was png"),
    ],
    ids=str,
)
def test_another_run_is_refused(run: Run, tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    run(invented_plan(2))
    before = identities(tmp_path / "out")
    with pytest.raises(UserError, match=f"holds a different run .*{sentence}"):
        run(invented_plan(2, **change))
    assert identities(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("items", "sentence"),
    [
        ([invented_item(1, prompt="other"), invented_item(2)], "line 1 was another item: its prompt changed"),
        ([invented_item(1), invented_item(2, seed=9, method="fast")], "line 2 .*its seed and method changed"),
        ([invented_item(1)], "line 2 .*gone or broken"),
        ([invented_item(1), invented_item(2, error="oh")], "line 2 .*gone or broken"),
        ([invented_item(1), invented_item(2, recipe=None)], "its recipe changed"),
    ],
)
def test_other_items_are_refused(run: Run, items: list[Item], sentence: str) -> None:
    run(invented_plan(2))
    with pytest.raises(UserError, match=sentence):
        run(replace(invented_plan(2), items=tuple(items)))


def test_a_plan_from_a_newer_hasten_is_refused(folder: BatchFolder) -> None:
    open_batch(folder, invented_plan(1), force=False)
    values = json.loads(folder.plan.read_text())
    folder.plan.write_text(json.dumps({**values, "version": 99, "settings": {"new": 1}}))
    with pytest.raises(UserError, match=r"version 99.*upgrade"):
        read_plan(folder)
    folder.plan.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        read_plan(folder)


def test_force_removes_the_earlier_batch_and_nothing_else(run: Run, tmp_path: Path) -> None:
    run(invented_plan(3))
    root = tmp_path / "out"
    (root / "notes.txt").write_text("mine")
    outside = tmp_path / "outside.png"
    outside.touch()
    record = root / ".hasten" / "records" / "0003.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "file": "../outside.png"}))
    with pytest.raises(UserError, match="--resume"):
        check_batch_folder(BatchFolder(root), resume=False, force=False)
    check_batch_folder(BatchFolder(root), resume=False, force=True)
    open_batch(BatchFolder(root), invented_plan(1), force=True)
    assert {path.name for path in root.iterdir()} == {".hasten", "0003-picture-3.png", "notes.txt"}
    assert outside.exists()


def test_force_leaves_a_running_batch_alone(folder: BatchFolder) -> None:
    with registered(folder), pytest.raises(UserError, match="A batch is running"):
        check_batch_folder(folder, resume=False, force=True)
    check_batch_folder(folder, resume=False, force=True)


def test_what_cannot_be_written_is_refused_in_one_sentence(tmp_path: Path, folder: BatchFolder) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"cannot be written .*choose another --out"):
            check_batch_folder(BatchFolder(root), resume=False, force=False)
    check_batch_folder(BatchFolder(tmp_path / "new" / "deep"), resume=False, force=False)
    assert not (tmp_path / "new").exists()
    (folder.root / "taken.png").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        folder.write(folder.root / "taken.png", b"")
    assert not list(folder.parts.iterdir())


def test_only_one_of_two_wins_an_attempt(folder: BatchFolder) -> None:
    mine, yours = Claims(folder, "me"), Claims(folder, "you")
    assert mine.attempts() == {}
    assert mine.take("0001", 0)
    assert not yours.take("0001", 0)
    assert yours.take("0001", 1)
    assert mine.attempts() == yours.attempts() == {"0001": 1}


def test_a_living_neighbour_holds_its_claim_and_a_gone_one_does_not(folder: BatchFolder) -> None:
    with registered(folder) as neighbour:
        assert Claims(folder, neighbour).take("0001", 0)
        assert Claims(folder, "me").is_held("0001", 0)
        assert not Claims(folder, neighbour).is_held("0001", 0)
    assert not Claims(folder, "me").is_held("0001", 0)


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


@pytest.fixture
def watch(folder: BatchFolder, clock: list[float]) -> Callable[[Path], bool]:
    return Watch(folder, "me", now=lambda: clock[0]).is_held


def test_a_worker_of_another_machine_is_believed_to_live_while_its_file_is_touched(
    folder: BatchFolder, clock: list[float], watch: Callable[[Path], bool]
) -> None:
    far = folder.workers / "elsewhere-1.77.abc"
    far.touch()
    os.utime(far, ns=(5, 5))  # whatever its clock says
    Claims(folder, far.name).take("0001", 0)
    claim = folder.claims / "0001.0"
    for beat in range(20):
        assert watch(claim)
        clock[0] += BEAT_SECONDS
        os.utime(far, ns=(beat, beat))
    assert watch(claim)
    clock[0] += LOST_SECONDS - 1
    assert watch(claim)
    clock[0] += 1
    assert not watch(claim)


def test_a_claim_whose_owner_was_killed_before_signing_it_falls_free(
    folder: BatchFolder, clock: list[float], watch: Callable[[Path], bool]
) -> None:
    claim = folder.claims / "0001.0"
    claim.touch()
    assert watch(claim)
    clock[0] += LOST_SECONDS
    assert not watch(claim)


def test_a_worker_that_was_taken_for_gone_does_not_publish_again(folder: BatchFolder) -> None:
    plan = invented_plan(1)
    open_batch(folder, plan, force=False)

    def render(item: Item, recipe: dict[str, Any] | None) -> Rendering:
        work_of_the_other = invented_render()(item, recipe)
        Worker(folder, plan, "other", invented_render(), {}).board.record(
            item,
            {"status": "done", "file": "0001-picture-1.png", "bytes": 5, "overhead_seconds": 0.0, "seconds": 1.0},
            b"other",
        )
        return work_of_the_other

    worker = Worker(folder, plan, "me", render, {})
    worker.run(lambda _item: None)
    assert (folder.root / "0001-picture-1.png").read_bytes() == b"other"
    assert worker.board.rows["0001"]["status"] == "done"

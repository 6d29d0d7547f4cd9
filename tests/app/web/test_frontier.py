import itertools
import json
import os
import random
import re
from pathlib import Path

import pytest

from hasten.app.web.benchmarks import Benchmarks
from hasten.app.web.frontier import COSTS, QUALITIES, pareto, within


def dominated(row: dict[str, float], rows: list[dict[str, float]]) -> bool:
    return any(other["speedup"] >= row["speedup"] and other["psnr"] >= row["psnr"] and other != row for other in rows)


def test_the_frontier_is_what_no_other_row_beats() -> None:
    generator = random.Random(0)
    rows = [{"name": str(i), "speedup": generator.random(), "psnr": generator.random()} for i in range(60)]
    best = pareto(rows, "speedup", "psnr")
    assert {row["name"] for row in best} == {row["name"] for row in rows if not dominated(row, rows)}
    assert all(a["speedup"] <= b["speedup"] for a, b in itertools.pairwise(best))


def test_the_studys_figures_of_its_33_methods_are_there(tmp_path: Path) -> None:
    published = [one for one in Benchmarks(tmp_path).look().values() if one.title.endswith("(published)")]
    assert [one.title for one in published] == [
        "kv-quant study, MovieGen (published)",
        "kv-quant study, StoryEval (published)",
    ]
    for table in published:
        assert len({row["method"] for row in table.rows}) >= 30
        assert {"ratio", "psnr", "ssim"} <= {*table.columns(COSTS), *table.columns(QUALITIES)}
    best = pareto(within(published[0].rows, "ratio", "ssim", {}), "ratio", "ssim")
    assert best[-1]["ratio"] == max(row["ratio"] for row in within(published[0].rows, "ratio", "ssim", {}))


def test_fewer_seconds_are_better_than_more() -> None:
    rows = [{"name": "slow", "seconds": 2.0, "psnr": 30.0}, {"name": "fast", "seconds": 1.0, "psnr": 30.0}]
    assert [row["name"] for row in pareto(rows, "seconds", "psnr")] == ["fast"]


def test_constraints_leave_what_meets_all_of_them() -> None:
    rows = [
        {"name": "plain", "speedup": 1.0, "psnr": None},
        {"name": "both", "speedup": 2.0, "psnr": 30.0},
        {"name": "fast", "speedup": 3.0, "psnr": 10.0},
    ]
    assert [row["name"] for row in within(rows, "speedup", "psnr", {"psnr": 20.0})] == ["both"]
    assert [row["name"] for row in within(rows, "speedup", "psnr", {})] == ["both", "fast"]


def test_identical_to_plain_is_as_close_as_can_be() -> None:
    rows = [
        {"name": "plain", "speedup": 1.0, "psnr": None, "ssim": 1.0},
        {"name": "far", "speedup": 2.0, "psnr": 10.0, "ssim": 0.5},
    ]
    assert [row["name"] for row in within(rows, "speedup", "ssim", {"psnr": 20.0})] == ["plain"]


def test_a_bound_on_a_column_that_the_table_lacks_leaves_everything() -> None:
    rows = [{"method": "a", "ratio": 4.0, "psnr": 20.0}, {"method": "b", "ratio": 5.0, "psnr": 10.0}]
    assert within(rows, "ratio", "psnr", {"speedup": 1.5}) == rows
    rows[0]["speedup"] = 2.0
    assert within(rows, "ratio", "psnr", {"speedup": 1.5}) == rows[:1]


def test_the_studys_memory_is_an_axis(tmp_path: Path) -> None:
    study = Benchmarks(tmp_path).look()["kv-quant study, MovieGen (published)"]
    assert "peak_vram_gib" in study.columns(COSTS)


def test_shipped_tables_have_titles_in_words(tmp_path: Path) -> None:
    titles = [title for title in Benchmarks(tmp_path).look() if not title.endswith("(published)")]
    assert "emoji-image: methods side by side" in titles
    assert all(": " in title and not re.search("pipeline|sampling|json", title) for title in titles)


def test_a_file_is_read_again_only_after_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "kv" / "result.json"
    file.parent.mkdir()
    rows = [{"name": "a", "speedup": 1.0, "psnr": 30.0}, {"name": "b", "speedup": 2.0, "psnr": 20.0}]
    file.write_text(json.dumps({"rows": rows}))
    tables = Benchmarks(tmp_path)
    tables.look()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", lambda *_, **__: pytest.fail("a file was read that had not changed"))
        assert len(tables.look()["outputs: kv"].rows) == 2
    file.write_text(json.dumps({"rows": [*rows, {"name": "c", "speedup": 3.0, "psnr": 10.0}]}))
    os.utime(file, (1, 1))
    assert len(tables.look()["outputs: kv"].rows) == 3
    file.unlink()
    assert "outputs: kv" not in tables.look()


def test_results_are_found_with_their_pictures_and_damaged_ones_are_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "pipeline"
    folder.mkdir()
    rows = [{"name": name, "speedup": 1.5, "psnr": 30.0} for name in ("plain, 9 steps", "fast")]
    (folder / "result.json").write_text(json.dumps({"rows": rows}))
    for name in ("fast-01.png", "fast-02.png", "faster-01.png"):
        (folder / name).touch()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "result.json").write_text('{"rows": 3')
    found = {one.title: one for one in Benchmarks(tmp_path).look().values()}
    assert "outputs: pipeline" in found
    assert not [title for title in found if "damaged" in title]
    assert [file.name for file in found["outputs: pipeline"].pictures("fast")] == ["fast-01.png", "fast-02.png"]

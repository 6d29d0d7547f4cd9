import itertools
import json
import random
from pathlib import Path

from hasten.app.web.frontier import COSTS, QUALITIES, benchmarks, pareto, within


def dominated(row: dict[str, float], rows: list[dict[str, float]]) -> bool:
    return any(other["speedup"] >= row["speedup"] and other["psnr"] >= row["psnr"] and other != row for other in rows)


def test_the_frontier_is_what_no_other_row_beats() -> None:
    generator = random.Random(0)
    rows = [{"name": str(i), "speedup": generator.random(), "psnr": generator.random()} for i in range(60)]
    best = pareto(rows, "speedup", "psnr")
    assert {row["name"] for row in best} == {row["name"] for row in rows if not dominated(row, rows)}
    assert all(a["speedup"] <= b["speedup"] for a, b in itertools.pairwise(best))


def test_the_studys_figures_of_its_33_methods_are_there(tmp_path: Path) -> None:
    published = [one for one in benchmarks(tmp_path) if one.title.endswith("(published)")]
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


def test_results_are_found_with_their_pictures_and_damaged_ones_are_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "pipeline"
    folder.mkdir()
    rows = [{"name": name, "speedup": 1.5, "psnr": 30.0} for name in ("plain, 9 steps", "fast")]
    (folder / "result.json").write_text(json.dumps({"rows": rows}))
    for name in ("fast-01.png", "fast-02.png", "faster-01.png"):
        (folder / name).touch()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "result.json").write_text('{"rows": 3')
    found = {one.title: one for one in benchmarks(tmp_path)}
    assert "outputs: pipeline" in found
    assert not [title for title in found if "damaged" in title]
    assert [file.name for file in found["outputs: pipeline"].pictures("fast")] == ["fast-01.png", "fast-02.png"]

"""Which runs stay on disk."""

import json
import os
from pathlib import Path

from hasten.app.web.runs import RunStore


def a_run(folder: Path, age: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "baseline-01.png").touch()
    (folder / "result.json").write_text(json.dumps({}))
    os.utime(folder / "result.json", (1_000_000 - age, 1_000_000 - age))
    return folder


def test_the_oldest_of_the_pages_own_runs_go_and_nothing_else(tmp_path: Path) -> None:
    oldest, older, newest = (a_run(tmp_path / "app" / name, age) for name, age in (("b", 3), ("c", 2), ("a", 1)))
    by_hand = a_run(tmp_path / "compare", 9)
    votes = tmp_path / "app" / "votes.jsonl"
    votes.touch()
    RunStore(tmp_path).forget_the_oldest()
    assert oldest.exists()
    RunStore(tmp_path, most=2).forget_the_oldest()
    assert not oldest.exists()
    assert all(path.exists() for path in (older, newest, by_hand, votes))

import json
import resource
import shutil
import tempfile
from pathlib import Path

import pytest

from hasten.app.errors import UserError
from hasten.app.output import output_folder, write_result


def write_run(target: Path, files: list[str], *, force: bool = False, content: str = "new") -> None:
    with output_folder(target, force=force) as folder:
        for name in files:
            (folder / name).write_text(content)
        write_result(folder, {"files": files})


def test_a_new_folder_appears_with_everything_in_it(tmp_path: Path) -> None:
    target = tmp_path / "some" / "where"
    write_run(target, ["a.png"])
    assert {path.name for path in target.iterdir()} == {"a.png", "result.json"}
    assert [path.name for path in target.parent.iterdir()] == ["where"]


def test_an_empty_folder_is_filled_without_force(tmp_path: Path) -> None:
    write_run(tmp_path, ["a.png"])
    assert (tmp_path / "a.png").read_text() == "new"


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with output_folder(tmp_path / "out", force=False) as folder:
            (folder / "half.png").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_keeps_the_earlier_results(tmp_path: Path) -> None:
    write_run(tmp_path / "out", ["a.png"], content="old")

    def interrupted() -> None:
        with output_folder(tmp_path / "out", force=True) as folder:
            (folder / "a.png").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "out" / "a.png").read_text() == "old"


def test_existing_results_are_refused_without_force(tmp_path: Path) -> None:
    write_run(tmp_path / "out", ["a.png"], content="old")
    with pytest.raises(UserError, match=r"not empty.*--force"):
        write_run(tmp_path / "out", ["a.png"])
    assert (tmp_path / "out" / "a.png").read_text() == "old"


def test_force_replaces_the_earlier_run_and_nothing_else(tmp_path: Path) -> None:
    write_run(tmp_path / "out", ["a.png", "b.png"], content="old")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    write_run(tmp_path / "out", ["a.png"], force=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "notes.txt", "result.json"}
    assert (tmp_path / "out" / "a.png").read_text() == "new"
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_a_result_that_names_files_elsewhere_cannot_make_force_delete_them(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").write_text(json.dumps({"files": ["../outside.txt", str(outside)]}))
    write_run(tmp_path / "out", ["a.png"], force=True)
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("force", [False, True])
def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, force: bool) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for target in (file, file / "below"):
        with pytest.raises(UserError, match=r"cannot be written"):
            write_run(target, ["a.png"], force=force)
    assert file.read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    """A folder that the kernel keeps stands for one of somebody else, which root could write."""
    (tmp_path / "out").symlink_to("/proc/self/task")
    with pytest.raises(UserError, match=r"cannot be written"), output_folder(tmp_path / "out", force=True):
        pytest.fail("it ran")


def test_what_cannot_be_moved_in_the_end_is_told_in_one_sentence(tmp_path: Path) -> None:
    def interfere() -> None:
        with output_folder(tmp_path / "out", force=True) as folder:
            (folder / "a.png").write_text("new")
            (tmp_path / "out").write_text("a file, meanwhile")

    with pytest.raises(UserError, match=r"'.*out' cannot be written"):
        interfere()


def test_a_full_disk_is_told_in_one_sentence(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(UserError, match=r"cannot be written \(File too large\); make room"):
            write_run(tmp_path / "out", ["a.png"], content="x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_a_file_system_of_its_own_gets_its_files(tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    target = Path(tempfile.mkdtemp(dir=memory))
    try:
        (tmp_path / "out").symlink_to(target)
        write_run(tmp_path / "out", ["a.png"])
        assert {path.name for path in target.iterdir()} == {"a.png", "result.json"}
    finally:
        shutil.rmtree(target)


def test_what_a_killed_run_left_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "out" / ".unfinished-abc").mkdir(parents=True)
    write_run(tmp_path / "out", ["a.png"])
    assert (tmp_path / "out" / "a.png").exists()

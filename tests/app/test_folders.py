"""The one check of output folders that all commands share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hasten.app.errors import UserError
from hasten.app.folders import Resumable, check_folder

SEARCH = Resumable("search", Path("state", "begun.json"))
HERE = {"resumable": SEARCH, "traces": ("state",)}


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A folder with a run in it."""
    (tmp_path / "state").mkdir()
    (tmp_path / SEARCH.marker).touch()
    return tmp_path


def test_a_new_or_empty_folder_will_do_and_stays_as_it_is(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "new" / "deep"):
        check_folder(folder, force=False)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_written_over_only_by_force(begun: Path) -> None:
    with pytest.raises(UserError, match="not empty; pass --resume to go on with the search there, choose another"):
        check_folder(begun, force=False, **HERE)
    check_folder(begun, force=True, **HERE)
    (begun / SEARCH.marker).unlink()
    check_folder(begun, force=False, **HERE)
    (begun / "mine.txt").touch()
    with pytest.raises(UserError, match="not empty; choose another --out, or pass --force"):
        check_folder(begun, force=False, **HERE)


def test_only_what_was_begun_is_gone_on_with(begun: Path) -> None:
    check_folder(begun, force=False, resume=True, **HERE)
    with pytest.raises(UserError, match="holds no search to go on with; leave --resume out, or correct --out"):
        check_folder(begun / "mistyped", force=False, resume=True, **HERE)
    (begun / SEARCH.marker).unlink()
    check_folder(begun, force=False, resume=True, **HERE)  # killed before it had begun
    (begun / "mine.txt").touch()
    with pytest.raises(UserError, match="holds no search to go on with"):
        check_folder(begun, force=False, resume=True, **HERE)


@pytest.mark.parametrize("command", ["batch", "bench pipeline", "tune"])
def test_a_mistyped_folder_is_not_begun_anew(refused: Callable[..., str], tmp_path: Path, command: str) -> None:
    (tmp_path / "p.txt").write_text("a cat")
    given = (tmp_path / "p.txt",) if command == "batch" else ()
    sentence = refused(*command.split(), *given, "--out", tmp_path / "mistyped", "--resume")
    assert "to go on with; leave --resume out, or correct --out." in sentence
    assert not (tmp_path / "mistyped").exists()

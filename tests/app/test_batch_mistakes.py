"""What a user may get wrong about a batch: one sentence and exit code 2, or a row that is named while others run."""

import json
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from batch_processes import check_manifest, rows_of
from typer.testing import Result

Refused = Callable[..., str]
Run = Callable[..., Result]

SMALL = ("--height", 64, "--width", 64, "--steps", 2, "--plain")
RECIPE = {"format": "hasten-recipe", "version": 1, "attention": {"density": 0.25, "dense_steps": 1}}


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text("a cat\na dog\n")
    return file


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--preset", "fast"), "either --plain, or --preset"),
        (("--resume", "--force"), "either --resume"),
        (("--variants", 0), "'--variants'"),
        (("--format", "gif"), "'--format'"),
        (("--frames", 8), "takes no --frames; leave that out"),
        (("--fps", 8), "--fps is for videos, and 'emoji-image' makes pictures"),
        (("--height", 100), "height of 100 pixels"),
        (("--model", "emoji-imag"), "did you mean 'emoji-image'"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_wrong_option_is_refused(
    refused: Refused, prompts: Path, out: Path, arguments: tuple[object, ...], sentence: str
) -> None:
    assert sentence in refused("batch", prompts, *SMALL, "--out", out, *arguments)
    assert not out.exists()


def test_a_preset_that_fits_no_row_is_refused(refused: Refused, prompts: Path, out: Path) -> None:
    small = ("--height", 64, "--width", 64, "--steps", 2)
    assert "prompts.txt line 1: " in refused("batch", prompts, *small, "--preset", "quality", "--out", out)
    assert "did you mean 'balanced'" in refused("batch", prompts, *small, "--preset", "balancd", "--out", out)
    assert not out.exists()


def test_files_that_cannot_be_read_are_refused(refused: Refused, prompts: Path, out: Path, tmp_path: Path) -> None:
    assert "'nowhere.txt' cannot be read" in refused("batch", prompts, "nowhere.txt", *SMALL, "--out", out)
    assert "No file fits" in refused("batch", tmp_path / "*.csv", *SMALL, "--out", out)
    assert not out.exists()


def test_broken_rows_are_named_while_the_others_run(run_hasten: Run, out: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer.json"
    newer.write_text(json.dumps({**RECIPE, "version": 99}))
    (tmp_path / "chunks.json").write_text(json.dumps({**RECIPE, "attention": None, "kv_cache": {}}))
    rows = [
        {"prompt": "../../a cat", "id": "one"},
        {"prompt": "b", "id": "one"},
        {"prompt": "c", "height": 100},
        {"prompt": "d", "preset": "fats"},
        {"prompt": "e", "recipe": "newer.json"},
        {"prompt": "f", "recipe": "nowhere.json"},
        {"prompt": "g", "sampling": "flux-x9"},
        {"prompt": "h", "preset": "quality"},
        {"prompt": "i", "preset": "fast", "recipe": "newer.json"},
        {"prompt": "j", "steps": "many"},
        {"prompt": "k", "frames": 5},
        {"prompt": "[/b]", "height": "[/i]"},
        {"prompt": "of another family", "recipe": "chunks.json"},
        {"prompt": "plain and more", "preset": "plain", "sampling": "pixart-x2"},
        {"prompt": "l"},
    ]
    file = tmp_path / "p.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    result = run_hasten("batch", file, *SMALL, "--out", out)
    assert result.exit_code == 1, result.output
    assert check_manifest(out, len(rows)) == {"0001", "0015"}
    assert {path.name for path in out.glob("*.png")} == {"0001-one.png", "0015-l.png"}
    words = {
        2: "line 1",
        3: "height of 100",
        4: "did you mean 'fast'",
        5: "version 99",
        6: "nowhere.json cannot be read",
        7: "'flux-x9' is not a sampling preset",
        8: "2 steps",
        9: "a preset and a recipe",
        10: "steps is 'many'",
        11: "takes no --frames",
        12: "[/i]",
        13: "kv_cache",
        14: "this row is plain and has a recipe or a sampling preset",
    }
    for number, row in enumerate(rows_of(out), start=1):
        assert row["status"] == ("refused" if number in words else "done")
        assert words.get(number, "") in (row["error"] or "")
        assert row["source"] == f"{file} line {number}"
        if number in words:
            assert f"line {number}: " in result.stdout


def test_a_folder_with_something_in_it_is_refused_and_kept(refused: Refused, prompts: Path, out: Path) -> None:
    out.mkdir()
    (out / "result.json").write_text("mine")
    assert "not empty; choose another --out, or pass --force" in refused("batch", prompts, *SMALL, "--out", out)
    assert "holds no batch to go on with; leave --resume out" in refused(
        "batch", prompts, *SMALL, "--out", out, "--resume"
    )
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [("result.json", "mine")]


def test_a_folder_of_a_different_run_is_refused(run_hasten: Run, refused: Refused, prompts: Path, out: Path) -> None:
    assert run_hasten("batch", prompts, *SMALL, "--out", out).exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != "lock"}
    assert "its seed changed" in refused("batch", prompts, *SMALL, "--out", out, "--resume", "--seed", 5)
    prompts.write_text("another\na dog\n")
    assert "its prompt changed" in refused("batch", prompts, *SMALL, "--out", out, "--resume")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_folder_that_cannot_be_written_is_refused(refused: Refused, prompts: Path, tmp_path: Path) -> None:
    for below in ("", "out"):
        assert "cannot be written" in refused("batch", prompts, *SMALL, "--out", prompts / below)


def test_a_full_disk_ends_the_batch_with_one_sentence_and_resume_goes_on(
    run_hasten: Run, refused: Refused, prompts: Path, out: Path
) -> None:
    """A limit on the size of files stands for the disk: the system refuses to write on, in the middle of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        sentence = refused("batch", prompts, *SMALL, "--out", out, "--json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be written (File too large)" in sentence
    assert check_manifest(out, 2) == set()
    assert not list(out.glob("*.png"))
    assert not list((out / ".hasten" / "parts").iterdir())
    result = run_hasten("batch", prompts, *SMALL, "--out", out, "--resume")
    assert result.exit_code == 0, result.output
    assert len(check_manifest(out, 2)) == 2

"""What is made of past runs: settings, commands, archives and pairs for the blind test."""

import dataclasses
import json
import shlex
import zipfile
from collections.abc import Callable
from pathlib import Path

from past_runs import run_of, write_run
from typer.testing import Result

from hasten.app.web.archive import pack
from hasten.app.web.ballots import differs, draw_ballot
from hasten.app.web.keeping import command_line
from hasten.app.web.runs import RunStore
from hasten.app.web.settings import Settings


def test_a_run_of_the_command_line_gives_its_settings_back(tmp_path: Path) -> None:
    arguments = {"height": 64, "num_frames": 9, "num_inference_steps": 7, "negative_prompt": "rain"}
    settings = run_of(tmp_path, "compare", arguments=arguments).settings()
    assert (settings.num_frames, settings.height, settings.steps) == (9, 64, 7)
    assert (settings.negative_prompt, settings.prompt, settings.seed) == ("rain", "a cat", 3)


def test_the_command_of_a_run_asks_for_all_that_the_run_was_asked_for(
    run_hasten: Callable[..., Result], tmp_path: Path
) -> None:
    settings = Settings("emoji-image", "a cat", negative_prompt="rain", height=64, width=64, steps=5, seed=5)
    program, *words = shlex.split(command_line(settings))
    assert program == "hasten"
    result = run_hasten(*words, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "out" / "result.json").read_text())
    assert told["arguments"]["negative_prompt"] == "rain"
    again = RunStore(tmp_path).get("out").settings()
    assert again == dataclasses.replace(settings, guidance=again.guidance, recipe=again.recipe)


def test_an_archive_holds_every_file_wherever_the_run_lies(tmp_path: Path) -> None:
    for name in (".", "compare", "app/a"):
        write_run(tmp_path, name)
    runs = RunStore(tmp_path).newest()
    with zipfile.ZipFile(pack(runs, tmp_path / "app" / "downloads")) as archive:
        packed = archive.namelist()
    expected = {str(Path(run.name, name)) for run in runs for name in ("result.json", *run.result["files"])}
    assert len(packed) == len(expected) == 12
    assert set(packed) == expected


def test_packing_again_and_again_fills_no_disk(tmp_path: Path) -> None:
    folder = tmp_path / "app" / "downloads"
    write_run(tmp_path, "first")
    first = pack(RunStore(tmp_path).newest(), folder)
    assert pack(RunStore(tmp_path).newest(), folder) == first
    for number in range(4):
        write_run(tmp_path, f"run-{number}")
        latest = pack(RunStore(tmp_path).newest(), folder)
    assert latest.exists()
    assert len(list(folder.iterdir())) == 2


def test_drawing_again_and_again_fills_no_disk(tmp_path: Path) -> None:
    run = run_of(tmp_path, "app/a")
    for _ in range(50):
        ballot = draw_ballot(run, tmp_path / "blind")
    assert all(path.exists() for path in ballot.shown)
    assert len(list((tmp_path / "blind").iterdir())) <= 60


def test_the_files_of_a_pair_are_those_of_the_run_and_do_not_tell_which(tmp_path: Path) -> None:
    run = run_of(tmp_path, "app/a")
    ballot = draw_ballot(run, tmp_path / "blind")
    lanes = ("accelerated", "baseline") if ballot.accelerated == "a" else ("baseline", "accelerated")
    assert [path.read_bytes() for path in ballot.shown] == [run.media(lane).read_bytes() for lane in lanes]
    assert not [path for path in ballot.shown if "accelerated" in path.name or "baseline" in path.name]


def test_identical_results_are_no_pair_to_vote_on(tmp_path: Path) -> None:
    assert differs(run_of(tmp_path, "one"))
    assert not differs(run_of(tmp_path, "other", psnr=None))

"""What the page and the command line load before anybody has asked for anything: seconds that people wait."""

import subprocess
import sys
from pathlib import Path

HEAVY = {"torch", "diffusers", "transformers"}


def loaded_by(program: str, *arguments: object) -> set[str]:
    """Which heavy libraries a fresh interpreter has loaded after `program`."""
    words = [sys.executable, "-P", "-c", f"{program}\nprint(*sys.modules)", *map(str, arguments)]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "hasten" in told.split()
    return HEAVY & set(told.split())


def test_the_page_is_built_without_torch(tmp_path: Path) -> None:
    program = """
import pathlib, sys
from hasten.app.web.application import build_app, serving_options
outputs = pathlib.Path(sys.argv[1])
page = build_app(outputs)
serving_options(outputs)
page.get_config_file()
assert [fn.targets for fn in page.fns.values() if fn.fn == page.services.prepare] == [[(page._id, "load")]]
page.close()
"""
    assert loaded_by(program, tmp_path) == set()


def test_the_command_line_answers_without_torch_what_needs_none() -> None:
    program = """
import sys
from typer.testing import CliRunner
from hasten.app.cli import app
for words in (["--help"], ["compare", "--help"], ["--version"]):
    assert CliRunner().invoke(app, words).exit_code == 0
"""
    assert loaded_by(program) == set()


def test_what_comparisons_need_is_loaded_ahead_of_the_first_one(tmp_path: Path) -> None:
    program = """
import pathlib, sys
from hasten.app.web.application import build_app
page = build_app(pathlib.Path(sys.argv[1]))
page.services.prepare()
page.close()
"""
    assert loaded_by(program, tmp_path) == HEAVY

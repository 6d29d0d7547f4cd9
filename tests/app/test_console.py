import json
import subprocess
import sys
from pathlib import Path

import pytest

import hasten
import hasten.app
from hasten.app.console import screen, to_json


def test_figures_without_a_finite_value_become_null() -> None:
    figures = {"psnr": float("inf"), "rows": [{"psnr": float("nan")}, (1.5, "text", None)]}
    assert json.loads(to_json(figures)) == {"psnr": None, "rows": [{"psnr": None}, [1.5, "text", None]]}


def test_a_machine_gets_the_result_alone_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with screen(for_machines=True) as shown:
        print("a library talks")
        shown.say("a step is done")
        shown.table("title", ("name", "figure"), [("row", "1")])
        shown.result = {"figure": 1}
    output, errors = capsys.readouterr()
    assert json.loads(output) == {"figure": 1}
    assert "a library talks" in errors
    assert "row" in errors
    assert "a step is done" not in errors


def test_a_person_gets_tables_on_standard_output_and_news_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    with screen(for_machines=False) as shown:
        shown.say("a step is done")
        shown.table("title", ("name", "figure"), [("row", "1")])
    output, errors = capsys.readouterr()
    assert "row" in output
    assert "a step is done" in errors


def test_words_are_shown_as_they_were_given(capsys: pytest.CaptureFixture[str]) -> None:
    words = r"a sign that says [/exit] or [red] :rocket: \\[b]"
    with screen(for_machines=False) as shown:
        shown.say(words)
        shown.text(words)
        shown.table(words, (words, "figure"), [(words, "1")])
    output, errors = capsys.readouterr()
    assert errors.splitlines() == [words]
    assert output.count(words) == 4


def test_after_an_error_a_machine_gets_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), screen(for_machines=True):
        raise RuntimeError
    assert capsys.readouterr().out == ""


def test_the_command_line_itself_loads_nothing_heavy() -> None:
    """Everything below `hasten.app.cli` waits for a command; a stand-in takes the place of the `hasten` package."""
    folder = Path(hasten.app.__file__).parent
    program = f"""
import sys, types
for name, path in (("hasten", []), ("hasten.app", [{str(folder)!r}])):
    package = types.ModuleType(name)
    package.__path__ = path
    sys.modules[name] = package
import hasten.app.cli
print([name for name in ("torch", "diffusers", "transformers", "numpy", "PIL") if name in sys.modules])
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"

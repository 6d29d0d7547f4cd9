"""What the README, the Makefile and CI promise each other."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hasten.app.cli import app
from hasten.assets.recipes import readme

ROOT = Path(__file__).parents[2]
TEXT = {".py", ".md", ".toml", ".txt", ".json", ".jsonl", ".yaml", ".yml", ".cfg", ".sh", ""}
SKIPPED = {"outputs", "build", "dist", "hasten.egg-info", "__pycache__"}


def text_files() -> list[Path]:
    files: list[Path] = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name == ".ci" or not (name in SKIPPED or name.startswith("."))]
        files += [Path(folder) / name for name in names if Path(name).suffix in TEXT]
    return files


def shell_blocks(document: str) -> str:
    return "\n".join(re.findall(r"```bash\n(.*?)```", (ROOT / document).read_text(), flags=re.DOTALL))


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_every_make_target_that_a_document_names_exists(document: str) -> None:
    targets = set(re.findall(r"^make (\w+)", shell_blocks(document), flags=re.MULTILINE))
    assert targets
    defined = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert targets <= defined


def test_every_command_line_in_the_readme_parses() -> None:
    lines = re.findall(r"^hasten ([^#\n]+)", shell_blocks("README.md"), flags=re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        command = [word for word in line.split() if word.isalpha()][: 2 if line.startswith("bench") else 1]
        shown = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
        assert shown.exit_code == 0, line
        for option in re.findall(r"--[\w-]+", line):
            assert option in shown.stdout, line


def test_demo_and_test_set_up_first() -> None:
    plan = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "hasten compare" in plan
    for target in ("lint", "typecheck", "pytest", "demo", "bench", "format"):
        assert re.search(rf"^{target}: setup$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE), target


def test_ci_runs_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.search(r"^exec make .*\btest$", script.read_text(), flags=re.MULTILINE)
    assert re.search(r"^test: lint typecheck pytest$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


def test_constraints_pin_what_is_installed_for_development() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["dev"], *extras["bench"], *extras["recipes"]]
    names = {re.split(r"[\[<>=]", requirement)[0] for requirement in wanted} - {"hasten"}
    assert names <= set(pins)
    assert all(re.fullmatch(r"[\d.]+", version) for version in pins.values())


# spelled in two parts, so that this file is clean itself
FORBIDDEN = [
    "".join(parts)
    for parts in (
        ("pyp", "i.org"),
        ("pythonhosted", ".org"),
        ("npmj", "s."),
        ("download.pytorch", ".org"),
        ("/work", "/main"),
        ("/work", "/shared"),
        ("/tmp", "/boot"),
        ("/opt", "/wheels"),
    )
]


def test_no_registry_host_and_no_path_of_a_machine_is_written_anywhere() -> None:
    for file in text_files():
        text = file.read_text(encoding="utf-8", errors="ignore")
        assert not [part for part in FORBIDDEN if part in text], file


def test_the_readmes_tables_are_those_of_the_benchmarks() -> None:
    text = (ROOT / "README.md").read_text()
    assert set(re.findall(r"<!-- table:([\w-]+) -->", text)) == set(readme.TABLES)
    assert all((readme.BENCHMARKS / file).exists() for file, _ in readme.TABLES.values())
    assert readme.fill(text) == text

"""The folders, their mapping onto one package, and the one way that imports point."""

import ast
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = {"hasten": "plugin", "hasten.kernels": "kernels", "hasten.pipelines": "pipelines", "hasten.app": "app"}
LAYERS = ("kernels", "pipelines", "plugin", "app")


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def test_every_package_folder_is_in_the_wheel() -> None:
    mapping = PROJECT["tool"]["setuptools"]["package-dir"]
    assert FOLDERS.items() <= mapping.items()
    found = {
        ".".join([package, *init.parent.relative_to(ROOT / folder).parts])
        for package, folder in mapping.items()
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert found == set(PROJECT["tool"]["setuptools"]["packages"])


def test_every_stub_that_a_package_loads_its_names_by_is_in_the_wheel() -> None:
    tool = PROJECT["tool"]["setuptools"]
    shipped = {
        file
        for package, patterns in tool["package-data"].items()
        for pattern in patterns
        for file in (ROOT / tool["package-dir"].get(package, package.split(".", 1)[-1].replace(".", "/"))).glob(pattern)
    }
    stubs = {stub for folder in FOLDERS.values() for stub in (ROOT / folder).rglob("*.pyi")}
    assert stubs
    assert stubs <= shipped


def test_no_folder_name_reaches_site_packages() -> None:
    assert (distribution("hasten").read_text("top_level.txt") or "").split() == ["hasten"]
    program = f"""
from importlib.util import find_spec
specs = [find_spec(name) for name in {[*LAYERS, "assets"]!r}]
print([spec.name for spec in specs if spec and spec.origin and spec.origin.startswith({str(ROOT)!r})])
"""
    finished = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True, cwd="/"
    )
    assert finished.stdout.strip() == "[]"


def layers_imported(module: Path) -> set[str]:
    """The folders, among `LAYERS`, that a module imports by absolute name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    inside = [name.split(".")[1:] for name in names if name.split(".")[0] == "hasten"]
    return {parts[0] if parts and parts[0] in (*LAYERS, "assets") else "plugin" for parts in inside}


@pytest.mark.parametrize("folder", LAYERS)
def test_imports_point_one_way(folder: str) -> None:
    allowed = {*LAYERS[: LAYERS.index(folder) + 1], "assets"}
    assert modules(folder)
    for module in modules(folder):
        assert layers_imported(module) <= allowed, module


@pytest.mark.parametrize("folder", LAYERS)
def test_relative_imports_stay_inside_their_folder(folder: str) -> None:
    for module in modules(folder):
        depth = len(module.relative_to(ROOT / folder).parts)
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level <= depth, f"{module}:{node.lineno}"


def test_the_command_line_is_installed() -> None:
    assert PROJECT["project"]["scripts"] == {"hasten": "hasten.app.cli:main"}
    assert {"app", "gpu", "bench", "dev"} <= set(PROJECT["project"]["optional-dependencies"])

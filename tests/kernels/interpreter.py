"""Calls of the Triton kernels, run by Triton's interpreter in a process of its own."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packaging.version import Version


def run_interpreted(
    calls: dict[str, tuple[str, dict[str, Any]]], request: pytest.FixtureRequest, folder: Path
) -> dict[str, Any]:
    """What the operations return for those calls, by name, whose tests are run; a traceback where they fail."""
    if Version(version("triton")) < Version("3.7") and Version(np.__version__) >= Version("2.4"):
        pytest.skip("the interpreter of triton before 3.7 needs numpy before 2.4")
    chosen = {item.callspec.params["name"] for item in request.session.items if item.path == request.path}
    torch.save({name: call for name, call in calls.items() if name in chosen}, folder / "calls.pt")
    subprocess.run(
        [sys.executable, "-P", Path(__file__).with_name("interpreted_calls.py"), "calls.pt", "results.pt"],
        cwd=folder,
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        check=True,
    )
    return torch.load(folder / "results.pt", weights_only=False)

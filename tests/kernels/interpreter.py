"""Calls of the Triton kernels, run by Triton's interpreter in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch


def run_interpreted(
    calls: dict[str, tuple[str, dict[str, Any]]], request: pytest.FixtureRequest, folder: Path
) -> dict[str, Any]:
    """What the operations return for those calls, by name, whose tests are run; a traceback where they fail."""
    chosen = {item.callspec.params["name"] for item in request.session.items if item.path == request.path}
    torch.save({name: call for name, call in calls.items() if name in chosen}, folder / "calls.pt")
    subprocess.run(
        [sys.executable, "-P", Path(__file__).with_name("interpreted_calls.py"), "calls.pt", "results.pt"],
        cwd=folder,
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        check=True,
    )
    return torch.load(folder / "results.pt", weights_only=False)

"""Where and with what a measurement was made."""

import platform
import shlex
import sys
from importlib.metadata import version
from typing import Any

import torch

PACKAGES = ("hasten", "torch", "diffusers", "transformers")


def provenance(device: torch.device) -> dict[str, Any]:
    """What belongs to every published figure: device, versions and the command that made it."""
    command = shlex.join(["hasten", *sys.argv[1:]])
    return {"device": describe_device(device), "versions": versions(), "command": command}


def describe_device(device: torch.device) -> str:
    """Name of the device as a reader knows it, with the thread count of a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"
    return str(device)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide speed and pictures."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}

"""Where and with what a measurement was made."""

import platform
import shlex
import sys
from importlib.metadata import version
from typing import Any

import torch

from hasten.app.errors import UserError

PACKAGES = ("hasten", "torch", "diffusers", "transformers")


def provenance(device: torch.device) -> dict[str, Any]:
    """What belongs to every published figure: device, versions and the command that made it."""
    command = shlex.join(["hasten", *sys.argv[1:]])
    return {"device": describe_device(device), "versions": versions(), "command": command}


def describe_device(device: torch.device) -> str:
    """Name of the device as a reader knows it; of a CPU with its vector instructions, as torch names them, and threads.

    The instructions decide how fast bfloat16 is there.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        instructions = torch.backends.cpu.get_cpu_capability()
        return f"cpu ({platform.machine()}, {instructions}, {torch.get_num_threads()} threads)"
    return str(device)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide speed and pictures."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def choose_device(name: str) -> torch.device:
    """The device of that name, which for "auto" is the accelerator if there is one.

    Raises:
        UserError: there is no such device, or it computes nothing.
    """
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"Device '{name}' is not available here; use auto or cpu.") from error
    if device.type == "meta":
        raise UserError("Device 'meta' computes nothing; use auto or cpu.")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The torch dtype of that name, which for "auto" is float32 on a CPU and bfloat16 elsewhere."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    return getattr(torch, name)

"""The device that trains, and the precision that it computes fast."""

import torch


def training_device() -> torch.device:
    """The GPU if there is one, else the CPU; printed with its working dtype."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"training on {device.type} in {str(working_dtype(device)).removeprefix('torch.')}", flush=True)
    return device


def working_dtype(device: torch.device) -> torch.dtype:
    """`torch.bfloat16`, or `torch.float32` on a CPU without AVX-512.

    Such a CPU emulates bfloat16, which makes it far slower than float32, above all in 3-D convolutions.
    """
    emulated = device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "NO AVX", "AVX2")
    return torch.float32 if emulated else torch.bfloat16


def mixed_precision(device: torch.device) -> torch.autocast:
    """Autocast to the working dtype of `device`; none where that is float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=working_dtype(device) is torch.bfloat16)

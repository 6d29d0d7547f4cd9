"""Runs attention calls through Triton's interpreter, in a process of its own: `TRITON_INTERPRET` counts at import."""

import sys
import traceback

import torch

from hasten.kernels.paged import triton as paged
from hasten.kernels.refresh import triton as refresh
from hasten.kernels.window import triton as window

OPERATIONS = {
    "window": window.window_attention,
    "reshaped": window.reshaped_attention,
    "refresh": refresh.refresh_attention,
    "paged": paged.attend_pages,
}


def main(calls_file: str, results_file: str) -> None:
    torch.use_deterministic_algorithms(True)  # fills uninitialised memory with NaN
    results = {}
    for name, (operation, arguments) in torch.load(calls_file, weights_only=False).items():
        try:
            results[name] = OPERATIONS[operation](**arguments)
        except Exception:
            results[name] = traceback.format_exc()
    torch.save(results, results_file)


if __name__ == "__main__":
    main(*sys.argv[1:])

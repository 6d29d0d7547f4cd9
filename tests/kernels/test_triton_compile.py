"""The Triton kernels, compiled for GPUs that are not there, in a process where none of them is interpreted."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="needs triton, which the extra `gpu` installs")


def compiled(*options: str) -> list[dict]:
    """The rows of a compile report."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    finished = subprocess.run(
        [sys.executable, "-P", "-m", "hasten.kernels.compile_report", "--json", *options],
        capture_output=True,
        text=True,
        env={**environment, "OMP_NUM_THREADS": "1"},
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)["rows"]


def test_kernels_for_hopper_use_its_matrix_instructions_and_spill_nothing() -> None:
    rows = compiled("--targets", "sm_90", "--head-dims", "64", "128")
    sixteen_bits = [row for row in rows if row["dtype"] == "bfloat16"]
    kernels = ("window", "window of tiles", "reshape", "refresh", "paged, 4 bits", "paged, 2 bits", "paged, 4 + 4 bits")
    assert {(row["kernel"], row["head_dim"]) for row in sixteen_bits} == {
        (kernel, head_dim) for kernel in kernels for head_dim in (64, 128)
    }
    assert {row["matrix_instruction"] for row in sixteen_bits} == {"wgmma.mma_async"}
    assert {row["spilled_bytes"] for row in rows} == {0}
    assert max(row["shared_bytes"] for row in rows) <= 227 * 1024


def test_kernels_compile_for_other_generations_and_makers() -> None:
    kernels = ("reshape", "paged, 4 bits")
    rows = compiled("--targets", "sm_80", "sm_100", "gfx942", "--kernels", *kernels, "--head-dims", "64")
    assert {(row["target"], row["kernel"]): row["matrix_instruction"] for row in rows} == {
        (target, kernel): instruction
        for target, instruction in (("sm_80", "mma.sync"), ("sm_100", "tcgen05.mma"), ("gfx942", "v_mfma"))
        for kernel in kernels
    }
    limits = {"sm_80": 99, "sm_100": 227, "gfx942": 64}
    assert all(row["shared_bytes"] <= limits[row["target"]] * 1024 for row in rows)


def test_a_kernel_that_does_not_fit_is_reported() -> None:
    program = """
from hasten.kernels import compile_report, tuning
tuning._BLOCKS["sm_90"][64] = tuning.Blocks(128, 128, 4, 2)
rows = compile_report.report(["sm_90"], [compile_report.Variant("window", 64)])["rows"]
print([sentence.split(" bytes")[0] for sentence in compile_report.faults(rows)])
"""
    finished = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert "window, 64 channels, bfloat16, sm_90 spills" in finished.stdout

"""Compiles the Triton kernels for GPUs that need not be there, and reports what each takes of a multiprocessor.

    python -P -m hasten.kernels.compile_report --json

The exit status is 1 if a kernel does not compile, or spills registers on sm_90. All of it takes some four minutes of
one core; Triton caches what it has compiled. The report says what fits a GPU, not what is fast on it.
"""

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.metadata import version
from typing import Any, NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

from hasten.kernels.launch import Launch, empty_output
from hasten.kernels.layout import BandLayout
from hasten.kernels.outputs import AttentionOutput
from hasten.kernels.paged.formats import PageFormat
from hasten.kernels.paged.pages import PagePool
from hasten.kernels.paged.segments import Segment
from hasten.kernels.paged.triton import paged_launch
from hasten.kernels.refresh.triton import empty_result, refresh_launches
from hasten.kernels.tiling import TileLayout
from hasten.kernels.window.triton import window_launch

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
UNSPILLED = "sm_90"
MATRIX_INSTRUCTIONS = ("wgmma.mma_async", "tcgen05.mma", "mma.sync", "v_mfma")

# CogVideoX-2b at 480 x 720, two prompts
BATCH, HEADS = 2, 30
BAND = BandLayout.from_density(0.03125, frame_tokens=1350, frames=13, text_tokens=226)
TILES = TileLayout.from_density(0.03125, frames=13, height=30, width=45, text_tokens=226)

# Wan-1.3B at 480 x 832: a window of 21 latent frames, queries of a chunk of three
PAGES, PAGE_TOKENS, CHUNK = 18, 1560, 3
_PAGES = PageFormat(4, grouping="channel", group=15, symmetric=True)
PAGE_FORMATS = {
    "paged, 4 bits": _PAGES,
    "paged, 2 bits": replace(_PAGES, bits=2),
    "paged, 4 + 4 bits": replace(_PAGES, residual_bits=4),
}


class Variant(NamedTuple):
    """A kernel, and what it is compiled for besides the GPU."""

    kernel: str
    head_dim: int
    dtype: torch.dtype = torch.bfloat16

    def launch(self, architecture: str) -> Launch:
        """Returns the launch on tensors that have no memory."""
        if self.kernel in PAGE_FORMATS:
            return self._paged_launch(architecture)
        layout = TILES if self.kernel == "window of tiles" else BAND
        rows = torch.empty(BATCH, HEADS, layout.tokens, dtype=torch.float32, device="meta")
        query = empty_output(rows[..., None].expand(*rows.shape, self.head_dim).to(self.dtype))
        mask = torch.empty(BATCH, layout.text_tokens, dtype=torch.bool, device="meta")
        inputs = query, query, query, layout, mask if self.kernel == "window" else None, self.head_dim**-0.5
        if self.kernel == "refresh":
            return refresh_launches(*inputs, empty_result(query), architecture)[1]
        if self.kernel == "reshape":
            return window_launch(*inputs, query, None, rows, query, query, 0.5, architecture=architecture)
        return window_launch(*inputs, query, rows, architecture=architecture)

    def _paged_launch(self, architecture: str) -> Launch:
        page_format, page = PAGE_FORMATS[self.kernel], (1, HEADS, PAGE_TOKENS, self.head_dim)
        pool = PagePool.allocate(PAGES, page, page_format, page_format, self.dtype, "meta")
        query = empty_output(torch.empty(1, HEADS, CHUNK * PAGE_TOKENS, self.head_dim, dtype=self.dtype, device="meta"))
        target = AttentionOutput(query, query.new_empty(query.shape[:3], dtype=torch.float32))
        return paged_launch(query, Segment(pool, range(PAGES)), self.head_dim**-0.5, target, architecture)


KERNELS = ("window", "window of tiles", "reshape", "refresh", *PAGE_FORMATS)
VARIANTS = (
    *(Variant(name, size) for size in (64, 128) for name in KERNELS),
    *(Variant(name, 256) for name in ("window", "window of tiles", "refresh")),
    Variant("window", 64, torch.float32),
    Variant("refresh", 64, torch.float16),
)


def report(targets: Iterable[str] = TARGETS, variants: Iterable[Variant] = VARIANTS) -> dict[str, Any]:
    """Compiles kernels and measures them.

    Args:
        targets (`Iterable[str]`): of "sm_80", "sm_90", "sm_100" and "gfx942".
        variants (`Iterable[Variant]`): what to compile for each.

    Returns:
        `dict`: `rows`, `versions` and `command`. A row has `kernel`, `head_dim`, `dtype`, `target`, the blocks
        (`queries`, `keys`, `warps`, `stages`), and either `error` or `registers` of a thread, `shared_bytes` of a
        program, `spilled_bytes` of a thread and the kind of `matrix_instruction`.
    """
    rows = [_row(variant, target) for target in targets for variant in variants]
    versions = {"python": platform.python_version(), **{name: version(name) for name in ("hasten", "torch", "triton")}}
    command = " ".join(["python -P -m hasten.kernels.compile_report", *sys.argv[1:]])
    return {"rows": rows, "versions": versions, "command": command}


def _row(variant: Variant, target: str) -> dict[str, Any]:
    launch = variant.launch(target)
    cut, options = launch.arguments["cut"], launch.options
    row = {
        "kernel": variant.kernel,
        "head_dim": variant.head_dim,
        "dtype": str(variant.dtype).removeprefix("torch."),
        "target": target,
        "queries": cut.queries.value,
        "keys": cut.keys.value,
        "warps": options["num_warps"],
        "stages": options["num_stages"],
    }
    try:
        compiled = compile_launch(launch, TARGETS[target])
    except triton.TritonError as error:
        return row | {"error": f"{type(error).__name__}: {error}"[:300]}
    usage = _nvidia_usage if TARGETS[target].backend == "cuda" else _amd_usage
    code = compiled.asm["ptx" if TARGETS[target].backend == "cuda" else "amdgcn"]
    matrix = next((name for name in MATRIX_INSTRUCTIONS if name in code), "none")
    return row | usage(compiled) | {"matrix_instruction": matrix}


def compile_launch(launch: Launch, target: GPUTarget) -> Any:
    """Returns the kernel of a launch as Triton compiles it at its first run on a GPU like the target."""
    kernel, backend = launch.kernel, make_backend(target)
    arguments = {**launch.arguments, **launch.options}
    bound, specialization, _ = create_function_from_signature(kernel.signature, kernel.params, backend)(**arguments)
    options, signature, constants, attributes = kernel._pack_args(backend, arguments, bound, specialization, None)
    source = ASTSource(kernel, signature, constants, attributes)
    return triton.compile(source, target=target, options=options.__dict__)


def _nvidia_usage(compiled: Any) -> dict[str, int]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        tool = triton.knobs.nvidia.cuobjdump.path
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    usage = {name: int(number) for name, number in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", text)}
    return {
        "registers": usage["REG"],
        "shared_bytes": compiled.metadata.shared,
        "spilled_bytes": usage["STACK"] + usage["LOCAL"],
    }


def _amd_usage(compiled: Any) -> dict[str, int]:
    fields = dict(re.findall(r"^\s+\.(\w+):\s+(\d+)$", compiled.asm["amdgcn"], flags=re.MULTILINE))
    return {
        "registers": int(fields["vgpr_count"]),
        "shared_bytes": compiled.metadata.shared,
        "spilled_bytes": int(fields["private_segment_fixed_size"]),
    }


def faults(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yields a sentence for each row that does not compile, or spills where none may."""
    for row in rows:
        name = "{kernel}, {head_dim} channels, {dtype}, {target}".format(**row)
        if "error" in row:
            yield f"{name} does not compile: {row['error']}"
        elif row["target"] == UNSPILLED and row["spilled_bytes"]:
            yield f"{name} spills {row['spilled_bytes']} bytes of registers; take smaller blocks in kernels/tuning.py."


def main() -> int:
    """Prints the report and returns the exit status."""
    parser = argparse.ArgumentParser(description="Compile the Triton kernels without a GPU.")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--kernels", nargs="+", choices=sorted({variant.kernel for variant in VARIANTS}))
    parser.add_argument("--head-dims", nargs="+", type=int, choices=sorted({variant.head_dim for variant in VARIANTS}))
    chosen = parser.parse_args()
    variants = [
        variant
        for variant in VARIANTS
        if (not chosen.kernels or variant.kernel in chosen.kernels)
        and (not chosen.head_dims or variant.head_dim in chosen.head_dims)
    ]
    result = report(chosen.targets, variants)
    if chosen.json:
        print(json.dumps(result, indent=2))
    else:
        columns = ["target", "kernel", "head_dim", "dtype", "registers", "shared_bytes", "spilled_bytes"]
        print(*(f"{column:>16}" for column in columns))
        for row in result["rows"]:
            print(*(f"{row.get(column, 'error'):>16}" for column in columns))
    found = list(faults(result["rows"]))
    for sentence in found:
        print(sentence, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

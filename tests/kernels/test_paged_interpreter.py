"""The Triton kernel of paged attention, run by Triton's interpreter on the CPU, against the definition.

bfloat16 is left out, as in `test_triton_interpreter`.
"""

from dataclasses import dataclass
from typing import Any

import attention_oracle as oracle
import pytest
import torch
from interpreter import run_interpreted
from torch import Tensor

from hasten.kernels import PageFormat, PagePool, Segment
from hasten.kernels.paged import reference

pytest.importorskip("triton", reason="needs triton, which the extra `gpu` installs")

FLOAT16, FLOAT32 = torch.float16, torch.float32
SYMMETRIC_4 = PageFormat(4, "channel", 9, symmetric=True)


@dataclass(frozen=True)
class Call:
    keys: PageFormat = SYMMETRIC_4
    values: PageFormat = SYMMETRIC_4
    slots: tuple[int, ...] = (2, 0)
    tokens: int = 36
    head_dim: int = 32
    dtype: torch.dtype = FLOAT32
    batch: int = 1
    heads: int = 2
    queries: int = 20
    scale: float = 0.2
    memory: tuple[int, ...] = (0, 2, 1, 3)  # [B, N, H, D], as in diffusers

    def arguments(self) -> dict[str, Any]:
        page = (self.batch, self.heads, self.tokens, self.head_dim)
        pool = PagePool.allocate(3, page, self.keys, self.values, self.dtype)
        for slot in range(3):
            generator = torch.Generator().manual_seed(slot)
            pool.write(slot, *(torch.randn(page, generator=generator) + 0.5 for _ in range(2)))
        query = oracle.random_inputs(self.batch, self.heads, self.queries, self.head_dim, self.dtype, self.memory)[0]
        return {"query": query, "segment": Segment(pool, self.slots), "scale": self.scale}

    def expected(self) -> tuple[Tensor, Tensor]:
        """Attention to the pages, from the definitions, in float64."""
        query, (pool, slots, _), scale = self.arguments().values()
        key, value = (torch.cat([reference.read(x, slot) for slot in slots], 2) for x in (pool.keys, pool.values))
        return oracle.attention_over(query, key, value, lambda _: list(range(key.shape[2])), scale)


CALLS = {
    "4 bits": Call(),
    "4 bits, float16, blocks of keys that end within a page": Call(tokens=90, dtype=FLOAT16, slots=(1,)),
    "more queries than a program holds": Call(queries=150, heads=1, slots=(0,), dtype=FLOAT16),
    "batch, heads first in memory": Call(batch=2, memory=(1, 0, 2, 3)),
    "2 bits, padded channels": Call(
        PageFormat(2, "channel", 4, symmetric=True), PageFormat(2, "token", 8, symmetric=False), heads=1, head_dim=40
    ),
    "8 bits of keys, 2 of values": Call(
        PageFormat(8, "token", 16, symmetric=False), PageFormat(2, "channel", 36, symmetric=True), heads=1
    ),
    "residuals": Call(
        PageFormat(2, "channel", 6, symmetric=True, residual_bits=4),
        PageFormat(4, "channel", 12, symmetric=False, residual_bits=2),
        heads=1,
    ),
    "gaussian": Call(
        PageFormat(4, "token", 32, symmetric=True, codebook="gaussian"),
        PageFormat(2, "token", 32, symmetric=True, codebook="gaussian", residual_bits=2),
        heads=1,
    ),
    "negative scale": Call(heads=1, slots=(1,), scale=-0.4),
    "scale of zero": Call(heads=1, slots=(1,), scale=0.0),
}


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the kernel returns for those calls whose tests are run."""
    calls = {name: ("paged", call.arguments()) for name, call in CALLS.items()}
    return run_interpreted(calls, request, tmp_path_factory.mktemp("interpreter"))


@pytest.mark.parametrize("name", CALLS)
def test_the_kernel_follows_the_definition(name: str, results: dict[str, Any]) -> None:
    call, result = CALLS[name], results[name]
    assert not isinstance(result, str), result
    for got, truth in zip(result, call.expected(), strict=True):
        oracle.assert_close(got, truth, call.dtype)
    assert result.output.dtype == call.dtype
    assert result.lse.dtype == FLOAT32
    assert result.output.transpose(1, 2).is_contiguous()

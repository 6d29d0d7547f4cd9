"""The recipes compute in bfloat16 where that is fast, and nowhere else."""

import pytest
import torch

from hasten.assets.recipes.common.precision import mixed_precision, working_dtype

CPU = torch.device("cpu")


def _capable(monkeypatch: pytest.MonkeyPatch, of: str) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: of)


@pytest.mark.parametrize(
    ("capability", "dtype"), [("AVX2", torch.float32), ("DEFAULT", torch.float32), ("AVX512", torch.bfloat16)]
)
def test_a_cpu_that_would_emulate_bfloat16_works_in_float32(
    monkeypatch: pytest.MonkeyPatch, capability: str, dtype: torch.dtype
) -> None:
    _capable(monkeypatch, capability)
    assert working_dtype(CPU) == dtype
    layer, x = torch.nn.Linear(4, 4), torch.randn(2, 4)
    with mixed_precision(CPU):
        assert layer(x).dtype == dtype


def test_a_gpu_works_in_bfloat16_beside_any_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    _capable(monkeypatch, "AVX2")
    assert working_dtype(torch.device("cuda")) == torch.bfloat16

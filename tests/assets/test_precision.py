"""The recipes compute in bfloat16 where that is fast, and nowhere else."""

import pytest
import torch

from hasten.assets.recipes.common.precision import mixed_precision, training_device, working_dtype

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


def test_a_recipe_tells_the_precision_that_it_works_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _capable(monkeypatch, "AVX2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training_device() == CPU
    assert capsys.readouterr().out == "training on cpu in float32\n"

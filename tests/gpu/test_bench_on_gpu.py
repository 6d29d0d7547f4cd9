import pytest
import torch

from hasten.app.attention_cases import Case
from hasten.app.bench_attention import run
from hasten.kernels import BandLayout, TileLayout

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use"),
]


@pytest.mark.parametrize("operation", ["window", "reshape", "refresh"])
def test_rows_hold_what_was_measured_on_the_gpu(operation: str) -> None:
    layouts = BandLayout(300, 9, 3, text_tokens=40), TileLayout(3, 16, 16, (3, 4, 4), (3, 8, 8), text_tokens=40)
    cases = [Case(type(layout).__name__, layout, operation=operation) for layout in layouts]
    result = run(cases=cases, device="cuda")
    assert result["device"] == torch.cuda.get_device_name()
    for row in result["rows"]:
        assert row["dtype"] == "bfloat16"
        assert row["implementation"] == "triton"
        assert 0 < row["seconds"] < 1
        assert row["speedup"] == pytest.approx(row["dense_seconds"] / row["seconds"])
        assert 0 < row["max_error"] <= 2e-2
        assert row["extra_bytes"] > 0

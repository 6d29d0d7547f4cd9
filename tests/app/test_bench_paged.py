import pytest
import torch

from hasten.app import bench_paged
from hasten.app.bench_paged import CASES, PagedCase, run
from hasten.kernels import AttentionOutput, PageFormat

FORMAT = PageFormat(4, "channel", 8, symmetric=True)
SMALL = PagedCase("small", FORMAT, FORMAT, pages=3, page_tokens=16, queries=20, heads=2, head_dim=16)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_row_holds_what_was_measured(dtype: str) -> None:
    result = run([SMALL], dtype, repeats=1)
    assert set(result) == {"rows", "device", "versions", "command"}
    (row,) = result["rows"]
    assert (row["name"], row["dtype"], row["tokens"], row["queries"]) == ("small", dtype, 48, 20)
    assert row["bytes_ratio"] == pytest.approx(getattr(torch, dtype).itemsize * 8 / 6)
    assert 0 < row["max_error"] <= {"float32": 1e-5, "bfloat16": 2e-2}[dtype]
    assert row["extra_bytes"] >= 20 * 2 * 16 * getattr(torch, dtype).itemsize  # the output at least
    assert row["seconds_ratio"] > 0
    assert row["implementation"] == "cpu"


def test_wrong_attention_is_never_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(query: torch.Tensor, _: object) -> AttentionOutput:
        return AttentionOutput(torch.zeros_like(query), query.new_zeros(query.shape[:3]))

    monkeypatch.setattr(bench_paged, "paged_attention", wrong)
    with pytest.raises(RuntimeError, match="small in float32 is off by"):
        run([SMALL], "float32", repeats=1)


def test_cases_have_16k_keys_and_a_chunk_of_queries() -> None:
    sizes = {(case.pages * case.page_tokens, case.queries, case.heads, case.head_dim) for case in CASES}
    assert sizes == {(16384, 1536, 12, 128)}

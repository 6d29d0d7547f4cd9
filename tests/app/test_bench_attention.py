import pytest
import torch

from hasten.app import bench_attention
from hasten.app.bench_attention import Case, peak_allocated_bytes, run
from hasten.kernels import AttentionOutput, BandLayout

LAYOUT = BandLayout(60, 4, frames=2, text_tokens=6)
CASES = (Case("band", LAYOUT, heads=2, head_dim=16), Case("refresh", LAYOUT, heads=2, head_dim=16, operation="refresh"))


def test_rows_hold_what_was_measured_for_each_case_and_dtype() -> None:
    result = run(cases=CASES, repeats=1)
    assert set(result) == {"rows", "device", "versions", "command"}
    assert [(row["name"], row["dtype"]) for row in result["rows"]] == [
        ("band", "float32"),
        ("band", "bfloat16"),
        ("refresh", "float32"),
        ("refresh", "bfloat16"),
    ]
    for row in result["rows"]:
        assert row["tokens"] == LAYOUT.tokens
        assert row["density"] == (LAYOUT.density if row["name"] == "band" else 1.0)
        assert row["efficiency"] == pytest.approx(row["speedup"] * row["density"])
        assert 0 < row["max_error"] <= {"float32": 1e-5, "bfloat16": 2e-2}[row["dtype"]]
        assert row["extra_bytes"] >= 2 * LAYOUT.tokens * 16 * 2  # the output at least


def test_wrong_attention_is_never_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(query: torch.Tensor, *_: object) -> AttentionOutput:
        return AttentionOutput(torch.zeros_like(query), query.new_zeros(query.shape[:3]))

    monkeypatch.setattr(bench_attention, "window_attention", wrong)
    with pytest.raises(RuntimeError, match="band in float32 is off by"):
        run(cases=CASES[:1], dtypes=("float32",), repeats=1)


def test_peak_counts_memory_that_is_freed_within_the_call() -> None:
    def call() -> torch.Tensor:
        large = torch.ones(1 << 20, dtype=torch.uint8)
        return large[:1024].clone()

    assert 1 << 20 <= peak_allocated_bytes(call) < (1 << 20) + 4096


@pytest.mark.parametrize(
    ("arguments", "message"), [({"dtypes": ("int8",)}, "choose from float32"), ({"repeats": 0}, "at least 1")]
)
def test_settings_that_cannot_be_measured_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(cases=CASES, **arguments)

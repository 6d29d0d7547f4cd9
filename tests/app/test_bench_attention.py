import pytest
import torch

from hasten.app import bench_attention
from hasten.app.attention_cases import CPU_CASES, GPU_CASES, Case
from hasten.app.attention_timing import peak_allocated_bytes
from hasten.app.bench_attention import run
from hasten.kernels import AttentionOutput, BandLayout, TileLayout

CPU = torch.device("cpu")
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

    assert 1 << 20 <= peak_allocated_bytes(call, CPU) < (1 << 20) + 4096


@pytest.mark.parametrize("text_first", [True, False])
@pytest.mark.parametrize("operation", ["window", "reshape", "refresh"])
def test_tiles_and_sparse_steps_are_measured_like_bands(operation: str, text_first: bool) -> None:
    layout = TileLayout(3, 7, 9, tile=(2, 3, 4), window=(3, 4, 7), text_tokens=5, text_first=text_first)
    (row,) = run(("float32",), [Case("tiles", layout, heads=2, head_dim=16, operation=operation)], repeats=1)["rows"]
    assert 0 < row["max_error"] <= 1e-5
    assert row["density"] == (1.0 if operation == "refresh" else layout.density)


def test_cases_have_the_token_counts_of_their_models() -> None:
    assert [case.layout.tokens for case in CPU_CASES] == [17776, 4096, 2304] * 2
    tokens = {case.name.split(",")[0]: {case.layout.tokens} for case in GPU_CASES}
    for case in GPU_CASES:
        tokens[case.name.split(",")[0]].add(case.layout.tokens)
        assert 0.02 < case.layout.visual_pairs / case.layout.visual_tokens**2 < 0.07
    assert tokens == {
        "CogVideoX-2b 480p": {17776},
        "Wan-1.3B 480p": {32760},
        "HunyuanVideo 720p": {119056},
        "PixArt 1024": {4096},
        "FLUX 1024": {4608},
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtypes": ("int8",)}, "choose from float32"),
        ({"repeats": 0}, "at least 1"),
        ({"device": "meta"}, "choose cpu or cuda"),
    ],
)
def test_settings_that_cannot_be_measured_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(cases=CASES, **arguments)

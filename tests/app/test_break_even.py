import json

import pytest
import torch
from typer.testing import CliRunner

import hasten
from hasten.app import break_even
from hasten.app.break_even import least_tokens, measure_break_even
from hasten.app.cli import app


def rows(*speedups: float) -> list[dict]:
    return [{"tokens": 100 * (place + 1), "speedup": speedup} for place, speedup in enumerate(speedups)]


def test_break_even_is_where_all_larger_pictures_gain() -> None:
    assert least_tokens(rows(0.5, 1.2, 0.9, 1.1, 2.0)) == 400
    assert least_tokens(rows(1.5, 2.0)) == 100
    assert least_tokens(rows(2.0, 1.0)) is None
    assert least_tokens([]) is None


def test_pictures_are_measured_with_the_window_of_the_config() -> None:
    config = hasten.RettentionConfig(density=0.25, window="tiles")
    result = measure_break_even(
        config, batch=1, heads=2, head_dim=16, dtype="float32", device=torch.device("cpu"), sides=(8, 4), repeats=1
    )
    assert [row["tokens"] for row in result["rows"]] == [16, 64]
    assert all(row["dtype"] == "float32" and row["density"] < 1 for row in result["rows"])
    assert result["min_tokens"] == least_tokens(result["rows"])


def test_the_command_prints_the_setting_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(break_even, "SIDES", (8, 4))
    result = CliRunner().invoke(
        app,
        ["bench", "min-tokens", "--density", "0.25", "--heads", "1", "--head-dim", "16", "--device", "cpu", "--json"],
    )
    values = json.loads(result.stdout)
    assert [row["tokens"] for row in values["rows"]] == [16, 64]
    assert values["min_tokens"] == least_tokens(values["rows"])

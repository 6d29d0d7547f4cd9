"""Options that commands share."""

import dataclasses
from collections.abc import Callable

import pytest
from typer.testing import Result

from hasten.app.options import CallOptions


@pytest.mark.parametrize("command", ["generate", "compare", "calibrate", "bench pipeline", "bench sampling"])
def test_what_is_asked_of_a_model_is_spread_out_into_options(
    run_hasten: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = run_hasten(*command.split(), "--help")
    assert shown.exit_code == 0, shown.output
    for field in dataclasses.fields(CallOptions):
        assert f"--{field.name.replace('_', '-')} " in shown.stdout
    assert "--asked" not in shown.stdout

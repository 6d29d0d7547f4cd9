"""Bottleneck Sampling on the command line: its benchmark, pictures of its stages, measured predictions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image
from typer.testing import Result

from hasten.app.bench_sampling import margin, sampling_methods
from hasten.app.commands.bench_sampling import NoiseTransition, Resize
from hasten.app.errors import UserError
from hasten.pipelines.bottleneck import Interpolation, Transition
from hasten.presets import resolve_recipe

Run = Callable[..., Result]
SMALL = ("--prompt", "a rocket on a blue background", "--height", 64, "--width", 64)


def finished(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """One run of the benchmark: its result, and the folder."""
    from typer.testing import CliRunner

    from hasten.app.cli import app

    out = tmp_path_factory.mktemp("bench") / "out"
    chosen = ("--sampling", "pixart-x2", "--transition", "snr_matched", "--preset", "fast")
    command = ("bench", "sampling", *SMALL, "--steps", 8, *chosen, "--out", out, "--json")
    return finished(CliRunner().invoke(app, [str(part) for part in command])), out


def test_the_benchmark_has_every_column_and_every_method(bench: tuple[dict[str, Any], Path]) -> None:
    measured, out = bench
    keys = {"name", "seconds", "speedup", "psnr", "ssim", "caption_accuracy", "peak_bytes", "density", "flops"}
    rows = {row["name"]: row for row in measured["rows"]}
    assert all(keys <= set(row) for row in rows.values())
    assert {"plain", "pixart-x2", "pixart-x2, snr_matched", "fast + pixart-x2"} <= set(rows)
    assert rows["pixart-x2"]["flops"] < 0.6 * rows["plain"]["flops"]
    assert rows["pixart-x2"]["density"] == 1
    assert rows["fast + pixart-x2"]["density"] < 1
    assert rows["pixart-x2"]["psnr"] != rows["pixart-x2, snr_matched"]["psnr"]
    assert {"device", "versions", "command", "attention"} <= set(measured)
    assert json.loads((out / "result.json").read_text()) == measured
    assert {path.name for path in out.iterdir()} == {*measured["files"], "result.json"}
    assert {"frontier.png", "pixart-x2-snr-matched-01.png"} <= set(measured["files"])


def test_steps_are_those_that_are_run(bench: tuple[dict[str, Any], Path]) -> None:
    rows = {row["name"]: row for row in bench[0]["rows"]}
    assert (rows["plain"]["steps"], rows["plain"]["num_inference_steps"]) == (8, 8)
    assert (rows["pixart-x2"]["steps"], rows["pixart-x2"]["num_inference_steps"]) == (1 + 3 + 2, 8)


def test_every_method_is_held_to_the_steps_that_fit_into_its_seconds(bench: tuple[dict[str, Any], Path]) -> None:
    rows = {row["name"]: row for row in bench[0]["rows"]}
    for name, row in rows.items():
        if name.startswith("plain"):
            assert row["over_fewer_steps"] is None
            continue
        steps = row["equal_seconds_steps"]
        plain = rows["plain"] if steps == 8 else rows[f"plain, {steps} steps"]
        assert row["over_fewer_steps"]["ssim"] == pytest.approx(row["ssim"] - plain["ssim"])


def test_a_margin_is_a_difference_of_quality() -> None:
    plain = {"name": "plain, 9 steps", "steps": 9, "psnr": 20.0, "ssim": 0.8, "caption_accuracy": 0.5}
    other = {"name": "plain", "steps": 20, "psnr": 99.0, "ssim": 1.0, "caption_accuracy": 1.0}
    row = {**plain, "name": "x", "steps": 16, "psnr": 22.5, "ssim": 0.7, "equal_seconds_steps": 9}
    assert margin(row, [other, plain, row]) == {"psnr": 2.5, "ssim": pytest.approx(-0.1), "caption_accuracy": 0}
    unjudged = {**plain, "caption_accuracy": None}
    assert margin(row, [unjudged])["caption_accuracy"] is None
    assert margin({"name": "y", "why": "no"}, [plain]) is None


def test_methods_are_the_presets_of_the_family_unless_named() -> None:
    attention = ("fast", resolve_recipe("fast"))
    named = [method.name for method in sampling_methods("pixart", attention)]
    assert named == [f"{with_}pixart-x{speed}" for speed in (1.5, 2, 3) for with_ in ("", "fast + ")]
    assert "flux-published" in [method.name for method in sampling_methods("flux", attention)]
    variants = sampling_methods(
        "pixart", attention, only=["wan-x2"], transitions=["correlated"], interpolations=["area"], pixels=True
    )
    assert [method.name for method in variants] == [
        *("wan-x2", "wan-x2, correlated", "wan-x2, area", "wan-x2, pixels", "fast + wan-x2")
    ]
    with pytest.raises(UserError, match="no sampling presets for unet; name some with --sampling"):
        sampling_methods("unet", attention)


def test_the_options_offer_what_the_library_has() -> None:
    assert {one.value for one in NoiseTransition} == set(get_args(Transition))
    assert {one.value for one in Resize} == set(get_args(Interpolation))


def test_stages_are_shown_beside_the_comparison(run_hasten: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    compared = finished(
        run_hasten(
            *("compare", *SMALL, "--steps", 6, "--sampling", "pixart-x1.5", "--stages", "--out", out, "--json"),
        )
    )
    shown = [name for name in compared["files"] if name.startswith("stage")]
    expected = [f"stage-01-{boundary}-{moment}.png" for boundary in (1, 2) for moment in ("before", "after")]
    assert shown == ["stages.png", *expected]
    sizes = [Image.open(out / name).width for name in expected]
    assert sizes == [64, 32, 32, 64]
    assert compared["accelerated"]["steps"] == 1 + 2 + 2
    assert compared["baseline"]["steps"] == compared["accelerated"]["num_inference_steps"] == 6


def test_stages_are_shown_of_every_prompt(run_hasten: Run, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat on a red background\na rocket on a blue background\n")
    where = ("--out", tmp_path / "out", "--json", "--stages")
    made = finished(
        run_hasten("generate", "--prompts", prompts, *SMALL[2:], "--steps", 6, "--sampling", "pixart-x2", *where)
    )
    assert [picture["steps"] for picture in made["pictures"]] == [1 + 2 + 2] * 2
    first, second = (Image.open(tmp_path / "out" / f"stage-0{number}-1-before.png") for number in (1, 2))
    assert first.tobytes() != second.tobytes()
    overview = Image.open(tmp_path / "out" / "stages.png")
    assert overview.width > 5 * 320
    assert overview.height > 2 * 320


@pytest.mark.parametrize("arguments", [(), ("--plain",), ("--preset", "balanced")], ids=str)
def test_stages_without_stages_are_refused(
    arguments: tuple[str, ...], refused: Callable[..., str], tmp_path: Path
) -> None:
    sentence = refused("generate", *SMALL, *arguments, "--stages", "--out", tmp_path / "out")
    assert sentence == "--stages shows changes of resolution, and this call has none; give --sampling as well."


def test_an_unknown_sampling_preset_is_answered_with_those_of_its_family(refused: Callable[..., str]) -> None:
    sentence = refused("explain", "--sampling", "pixart-x4")
    assert "(those of pixart: pixart-x1.5, pixart-x2, pixart-x3); did you mean 'pixart-x" in sentence
    assert "flux" not in sentence
    assert "or a family (pixart, " in refused("explain", "--sampling", "x9")


def test_seconds_are_predicted_on_request(run_hasten: Run) -> None:
    asked = ("explain", *SMALL[2:], "--steps", 12, "--sampling", "pixart-x2", "--json")
    assert finished(run_hasten(*asked))["predicted_seconds"] is None
    told = finished(run_hasten(*asked, "--measure"))
    full, low, last = (stage["seconds"] for stage in told["stages"])
    assert full == last > 0
    assert told["plain_seconds"] == pytest.approx(12 * full)
    assert told["predicted_seconds"] == pytest.approx(full + 5 * low + 3 * last)


def test_explaining_prints_the_prediction(run_hasten: Run) -> None:
    shown = run_hasten("explain", *SMALL[2:], "--steps", 6, "--preset", "fast", "--measure").stdout
    assert "predicted: " in shown
    assert "(dense steps measured)" in shown

"""The commands besides `compare`."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import Result

import hasten
from hasten.assets import bundled_models
from hasten.families import FAMILIES

Run = Callable[..., Result]

SMALL = ("--prompt", "a rocket on a blue background", "--height", 64, "--width", 64)


def test_models_lists_what_there_is_and_why_the_rest_does_not_work(run_hasten: Run) -> None:
    listed = json.loads(run_hasten("models", "--json").stdout)
    assert set(listed) == {"models", "families", "methods"}
    assert [entry["name"] for entry in listed["models"]] == list(bundled_models())
    assert [entry["name"] for entry in listed["families"]] == list(FAMILIES)
    for entry in (*listed["models"], *listed["families"], *listed["methods"]):
        assert {"name", "works", "why"} <= set(entry)
        assert entry["works"] or entry["why"]
    assert {entry["name"]: entry["works"] for entry in listed["methods"]}["rettention"]


def test_models_shows_tables_to_people(run_hasten: Run) -> None:
    shown = run_hasten("models").stdout
    for name in (*bundled_models(), *FAMILIES, "rettention"):
        assert name in shown


def test_models_lists_cache_methods_with_published_compression_beside_ours(run_hasten: Run) -> None:
    listed = json.loads(run_hasten("models", "--methods", "--json").stdout)
    assert set(listed) == {"models", "families", "methods"}
    rows = {row["name"]: row for row in listed["methods"]}
    assert sum(row["published_ratio"] is not None for row in rows.values()) == 30  # of 33; three had none
    for row in rows.values():
        assert row["works"]
        assert row["why"]
        assert row["family"]
        assert row["ratio"] >= 1
    assert (rows["rtn_int4"]["published_ratio"], rows["rtn_int4"]["ratio"]) == (3.2, 3.158)
    assert rows["turboquant_int4"]["published_ratio"] is None
    shown = run_hasten("models", "--methods").stdout
    assert all(name in shown for name in rows)
    assert "5.49×" in shown


def test_explain_tells_the_density_that_a_run_then_has(run_hasten: Run, tmp_path: Path) -> None:
    explained = json.loads(run_hasten("explain", *SMALL[2:], "--steps", 6, "--preset", "fast", "--json").stdout)
    generated = json.loads(
        run_hasten("generate", *SMALL, "--steps", 6, "--preset", "fast", "--out", tmp_path / "out", "--json").stdout
    )
    assert explained["density"] == pytest.approx(generated["pictures"][0]["density"])
    assert explained["density"] < 1


@pytest.mark.parametrize("both", [False, True], ids=["sampling", "both methods"])
def test_compare_runs_bottleneck_sampling(both: bool, run_hasten: Run, tmp_path: Path) -> None:
    preset = ("--preset", "balanced") if both else ()
    arguments = (*SMALL, "--steps", 12, "--sampling", "pixart-x2", *preset, "--out", tmp_path / "out", "--json")
    result = run_hasten("compare", *arguments)
    assert result.exit_code == 0, result.output
    compared = json.loads(result.stdout)
    explained = json.loads(
        run_hasten("explain", *SMALL[2:], "--steps", 12, "--sampling", "pixart-x2", *preset, "--json").stdout
    )
    assert compared["accelerated"]["density"] == pytest.approx(explained["density"])
    assert (compared["accelerated"]["density"] < 1) == both
    assert 10 < compared["accelerated"]["psnr"] < 100


def test_explain_measures_from_how_many_tokens_on_it_pays(run_hasten: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hasten.app.break_even.SIDES", (8, 32))
    arguments = ("explain", *SMALL[2:], "--steps", 6, "--preset", "quality", "--measure")
    assert json.loads(run_hasten(*arguments, "--json").stdout)["break_even_tokens"] in (64, 1024, None)
    assert "break-even: sparse attention is faster" in run_hasten(*arguments).stdout
    without_attention = ("explain", *SMALL[2:], "--steps", 12, "--sampling", "pixart-x2", "--measure", "--json")
    assert "break_even_tokens" not in json.loads(run_hasten(*without_attention).stdout)


def test_explain_prints_what_the_library_says(run_hasten: Run) -> None:
    shown = run_hasten("explain", *SMALL[2:], "--steps", 6)
    assert shown.exit_code == 0, shown.output
    assert "density" in shown.stdout


def test_generate_plain_is_the_stock_pipeline_bit_for_bit(run_hasten: Run, tmp_path: Path) -> None:
    import torch
    from diffusers import DiffusionPipeline

    from hasten.assets import model_card, model_path

    result = run_hasten("generate", *SMALL, "--steps", 3, "--seed", 7, "--plain", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    pipe = DiffusionPipeline.from_pretrained(model_path("emoji-image"))
    pipe.set_progress_bar_config(disable=True)
    call = {**model_card("emoji-image")["call"], "height": 64, "width": 64, "num_inference_steps": 3}
    stock = pipe(SMALL[1], generator=torch.Generator().manual_seed(7), **call).images[0]
    assert Image.open(tmp_path / "out" / "01.png").tobytes() == stock.tobytes()


def test_generate_names_its_files(run_hasten: Run, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat on a red background\na rocket on a blue background\n")
    result = run_hasten("generate", "--prompts", prompts, *SMALL[2:], "--steps", 6, "--out", tmp_path / "out", "--json")
    generated = json.loads(result.stdout)
    assert generated["files"] == ["01.png", "02.png"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"01.png", "02.png", "result.json"}
    assert [picture["seed"] for picture in generated["pictures"]] == [0, 1]


def test_bench_pipeline_measures_the_baselines_beside_the_method(run_hasten: Run, tmp_path: Path) -> None:
    only = ("--only", "output reuse", "--only", "FirstBlockCache 0.1", "--only", "quality")
    result = run_hasten("bench", "pipeline", *SMALL, "--steps", 4, *only, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    measured = json.loads(result.stdout)
    assert {"rows", "device", "versions", "command"} <= set(measured)
    rows = {row["name"]: row for row in measured["rows"]}
    keys = {"name", "seconds", "speedup", "psnr", "ssim", "caption_accuracy", "peak_bytes", "density", "flops"}
    assert all(keys <= set(row) for row in rows.values())
    assert rows["plain"]["speedup"] == 1
    assert rows["FirstBlockCache 0.1"]["flops"] <= rows["plain"]["flops"]
    assert rows["FirstBlockCache 0.1"]["ssim"] > 0.5
    assert rows["FirstBlockCache 0.1"]["density"] <= rows["plain"]["density"] == 1
    # the default preset keeps 4 steps dense, so its reuse changes nothing here; quality wants 5 and cannot run
    assert rows["output reuse"]["psnr"] is None
    assert "dense_steps" in rows["quality"]["why"]
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == measured


def test_bench_attention_shows_every_row_of_the_benchmark(run_hasten: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {
        "name": "image 64",
        "dtype": "bfloat16",
        "tokens": 64,
        "density": 0.25,
        "speedup": 2.0,
        "efficiency": 0.5,
        "max_error": 1e-3,
        "extra_bytes": 3_000_000,
    }
    asked: list[tuple[list[str] | None, int, str]] = []

    def run(dtypes: list[str] | None, *, repeats: int, device: torch.device) -> dict[str, Any]:
        asked.append((dtypes, repeats, device.type))
        return {"rows": [row] * 2, "device": "cpu", "versions": {}, "command": "hasten bench attention"}

    monkeypatch.setattr("hasten.app.bench_attention.run", run)
    assert json.loads(run_hasten("bench", "attention", "--json").stdout)["rows"] == [row] * 2
    shown = run_hasten("bench", "attention", "--dtype", "bfloat16", "--repeats", 2).stdout
    assert asked == [(None, 5, "cpu"), (["bfloat16"], 2, "cpu")]
    assert shown.count("image 64") == 2
    assert "2.00×" in shown


def test_bench_transformer_shows_what_ran_where_plain_had_no_memory(
    run_hasten: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {f"{kind}_step": 0.5 for kind in ("dense", "refresh", "sparse")}
    measured = {"name": "fitted", "seconds": 2.0, "speedup": None, "density": 0.1, **kinds}
    rows = [
        {"name": "plain", "why": "out of memory", "speedup": None},
        {**measured, "peak_bytes": 10**9, "state_bytes": 10**9},
    ]
    monkeypatch.setattr("hasten.app.bench_transformer.run", lambda *_, **__: {"rows": rows})
    shown = run_hasten("bench", "transformer", "--model", "flux-1024", "--device", "cpu")
    assert shown.exit_code == 0, shown.output
    assert "out of memory" in shown.stdout
    assert "fitted" in shown.stdout


def test_without_a_command_the_help_is_shown(run_hasten: Run) -> None:
    shown = run_hasten()
    assert shown.exit_code == 0
    for command in ("models", "explain", "generate", "compare", "bench"):
        assert command in shown.stdout


def test_version_is_the_installed_one(run_hasten: Run) -> None:
    assert run_hasten("--version").stdout.strip() == hasten.__version__


def test_a_real_process_prints_json_and_nothing_else_on_standard_output(tmp_path: Path) -> None:
    options = ("--steps", "4", "--out", str(tmp_path / "out"), "--json")
    command = [sys.executable, "-m", "hasten.app", "generate", *map(str, SMALL), *options]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(finished.stdout)["files"] == ["01.png"]
    assert finished.stdout.startswith("{")
    assert "Traceback" not in finished.stderr

"""Stock video pipelines whose steps are shared by two denoisers, as Wan 2.2 has them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_rollout import CHANNELS, save_tiny_experts, save_tiny_rollout
from typer.testing import Result

from hasten.app.loading import LoadedModel, load_model
from hasten.app.measure import run
from hasten.app.methods import PLAIN, diffusers_caches
from hasten.app.workload import Request, Workload

Run = Callable[..., Result]
STEPS, LAYERS, TOKENS = 8, 2, 3 * 4 * 4
SMALL = ("--height", 64, "--width", 64, "--frames", 9, "--steps", STEPS, "--prompt", "a red circle")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_experts(tmp_path_factory.mktemp("model") / "tiny-experts")


@pytest.fixture
def model(folder: Path) -> LoadedModel:
    model = load_model(str(folder), device="cpu", videos=True)
    model.pipe.set_progress_bar_config(disable=True)
    return model


@pytest.fixture
def calls(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the denoisers in the order of their calls, each of which takes a second of a clock that stands else."""
    calls: list[str] = []
    monkeypatch.setattr("time.perf_counter", lambda: 1.0 + len(calls))

    def note(name: str) -> Callable[..., None]:
        return lambda *_: calls.append(name)

    parts = {name: getattr(model.pipe, name) for name in ("transformer", "transformer_2")}
    hooks = [part.register_forward_hook(note(name)) for name, part in parts.items()]
    yield calls
    for hook in hooks:
        hook.remove()


def test_seconds_and_operations_are_those_of_both(model: LoadedModel, calls: list[str]) -> None:
    arguments = model.arguments(height=64, width=64, num_frames=9, num_inference_steps=STEPS)
    request = Request("a red circle", 0)
    call = run(model, PLAIN, request, Workload((request,), arguments))
    assert set(calls) == {"transformer", "transformer_2"}
    assert call.denoiser_seconds == len(calls)
    assert call.self_attention_flops == len(calls) * LAYERS * 4 * TOKENS**2 * CHANNELS


def test_diffusers_caches_are_switched_on_for_both(model: LoadedModel) -> None:
    first_block_cache = diffusers_caches()[0]
    with first_block_cache.active(model):
        assert all(hasattr(denoiser.blocks[0], "_diffusers_hook") for denoiser in model.denoisers)
    assert not any(hasattr(module, "_diffusers_hook") for part in model.denoisers for module in part.modules())


def test_only_one_denoiser_of_a_family_that_is_not_known() -> None:
    class Unknown:
        unet = torch.nn.Linear(1, 1)

    pipe = Unknown()
    assert LoadedModel("unknown", pipe, bundled=False).denoisers == [pipe.unet]  # type: ignore[arg-type]


@pytest.mark.parametrize("command", ["generate", "compare"])
def test_stages_of_videos_are_shown_by_a_frame(run_hasten: Run, folder: Path, tmp_path: Path, command: str) -> None:
    out = tmp_path / "out"
    stages = ("--sampling", "wan-x2", "--stages", "--device", "cpu", "--out", out)
    result = run_hasten(command, "--model", folder, *SMALL, *stages, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    shown = [name for name in told["files"] if name.startswith("stage")]
    assert shown[0] == "stages.png"
    assert {path.name for path in out.iterdir()} == {*told["files"], "result.json"}
    sizes = [Image.open(out / name).size for name in shown[1:]]
    assert set(sizes) == {(48, 48), (64, 64)}  # the low stage has 3 of 4 tokens a side


def test_stock_videos_are_benchmarked_with_stages(run_hasten: Run, folder: Path, tmp_path: Path) -> None:
    given = ("--sampling", "wan-x2", "--preset", "extreme", "--device", "cpu", "--out", tmp_path / "out", "--json")
    result = run_hasten("bench", "sampling", "--model", folder, *SMALL, *given)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    rows = {row["name"]: row for row in told["rows"]}
    assert rows["wan-x2"]["flops"] < rows["plain"]["flops"]
    assert rows["extreme + wan-x2"]["density"] < 1
    assert {"plain-01.mp4", "wan-x2-01.mp4"} <= set(told["files"])


def test_windows_are_fitted_to_stock_videos(run_hasten: Run, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    result = run_hasten("calibrate", "--model", folder, *SMALL, "--device", "cpu", "--out", file, "--json")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["block_densities"]) == LAYERS


@pytest.mark.parametrize("command", ["tune", "bench sampling", "calibrate"])
def test_a_model_that_rolls_out_is_refused_before_anything_is_measured(
    refused: Callable[..., str], tmp_path: Path, command: str
) -> None:
    model = save_tiny_rollout(tmp_path / "rollout")
    prompts = tmp_path / "p.txt"
    prompts.write_text("".join(f"a red circle {number}\n" for number in range(20)))
    given = ("--model", model, "--prompts", prompts, "--device", "cpu", "--out", tmp_path / "out")
    assert f"generates chunk by chunk, which `hasten {command}` is not for" in refused(*command.split(), *given)
    assert not (tmp_path / "out").exists()

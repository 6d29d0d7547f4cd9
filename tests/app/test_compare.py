"""`hasten compare` from end to end on the bundled model at its smaller size."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from hasten.app.cli import app
from hasten.app.pictures import SMALLEST_SIDE

PROMPTS = ("a rocket on a blue background", "a cat on a red background")
STEPS = 6


def compare(out: Path, *arguments: object) -> Result:
    size = ("--height", 192, "--width", 192, "--steps", STEPS, "--preset", "balanced")
    return CliRunner().invoke(app, [str(part) for part in ("compare", *size, "--out", out, *arguments)])


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compare") / "out"


@pytest.fixture(scope="module")
def printed(out: Path) -> Iterator[str]:
    """Standard output of one run over two prompts."""
    prompts = out.parent / "prompts.txt"
    prompts.write_text("\n\n".join(PROMPTS) + "\n")
    result = compare(out, "--prompts", prompts, "--json")
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def result(printed: str) -> dict[str, Any]:
    return json.loads(printed)


def test_json_is_the_only_output_and_the_same_as_the_file(printed: str, result: dict[str, Any], out: Path) -> None:
    assert printed.startswith("{")
    assert printed.endswith("}\n")
    assert json.loads((out / "result.json").read_text()) == result


def test_every_key_that_others_rely_on_is_there(result: dict[str, Any]) -> None:
    assert {"speedup", "baseline", "accelerated", "fewer_steps", "files", "device", "versions"} <= set(result)
    assert {"seconds", "steps"} <= set(result["baseline"])
    assert {"seconds", "psnr", "ssim", "density", "peak_bytes"} <= set(result["accelerated"])
    assert {"seconds", "steps", "psnr", "ssim"} <= set(result["fewer_steps"])


def test_figures_belong_together(result: dict[str, Any]) -> None:
    baseline, accelerated = result["baseline"], result["accelerated"]
    assert result["speedup"] == pytest.approx(baseline["seconds"] / accelerated["seconds"])
    assert baseline["steps"] == accelerated["steps"] == STEPS
    assert 1 <= result["fewer_steps"]["steps"] <= STEPS
    assert baseline["psnr"] is None  # the plain picture against itself: no finite PSNR
    assert baseline["density"] == 1
    assert 0 < accelerated["density"] < 1
    assert accelerated["flops"] < baseline["flops"]
    assert 5 < accelerated["psnr"] < 60
    assert result["versions"]["hasten"]


def test_every_file_is_there_and_nothing_else(result: dict[str, Any], out: Path) -> None:
    assert {path.name for path in out.iterdir()} == {*result["files"], "result.json"}
    for name in result["files"]:
        with Image.open(out / name) as picture:
            picture.load()
            assert picture.size == (192, 192) or name == "side-by-side.png"


def test_methods_share_seed_and_prompt_but_not_the_picture(out: Path) -> None:
    plain, other_prompt, accelerated = (
        Image.open(out / name).tobytes() for name in ("baseline-01.png", "baseline-02.png", "accelerated-01.png")
    )
    assert plain != other_prompt
    assert plain != accelerated


def test_side_by_side_has_three_columns_and_a_row_a_prompt(result: dict[str, Any], out: Path) -> None:
    side = 192 * -(-SMALLEST_SIDE // 192)
    width, height = Image.open(out / "side-by-side.png").size
    assert 3 * side < width < 3 * side + 100
    assert len(PROMPTS) * side < height < len(PROMPTS) * side + 250


def test_a_second_run_needs_force_and_then_replaces(result: dict[str, Any], out: Path) -> None:
    first = (out / "result.json").read_text()
    refused = compare(out, "--prompt", PROMPTS[0])
    assert refused.exit_code == 2
    assert (out / "result.json").read_text() == first

    forced = compare(out, "--prompt", PROMPTS[0], "--height", 64, "--width", 64, "--force")
    assert forced.exit_code == 0, forced.output
    assert (out / "result.json").read_text() != first
    assert not (out / "baseline-02.png").exists()
    for word in ("baseline", "accelerated", "fewer steps", "side-by-side.png"):
        assert word in forced.stdout


def test_held_out_prompts_are_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = [{"prompt": prompt, "things": [prompt]} for prompt in PROMPTS]
    judged: list[tuple[str, int]] = []

    def accuracy(model: str, records: list[dict[str, Any]], images: list[Image.Image]) -> float:
        assert records == scenes
        judged.append((model, len(images)))
        return 0.5

    monkeypatch.setattr("hasten.app.workload.held_out_scenes", lambda _name: scenes)
    monkeypatch.setattr("hasten.app.judging.caption_accuracy", accuracy)
    run: Callable[..., Result] = compare
    result = json.loads(run(tmp_path / "out", "--num-prompts", 2, "--json", "--height", 64, "--width", 64).stdout)
    assert judged == [("emoji-image", 2)] * 3
    assert [result[name]["caption_accuracy"] for name in ("baseline", "accelerated", "fewer_steps")] == [0.5] * 3
    assert [request["prompt"] for request in result["requests"]] == list(PROMPTS)
    assert [request["seed"] for request in result["requests"]] == [0, 1]

"""Every mistake of a user: exit code 2, one sentence, nothing written."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hasten.assets import model_path

Refused = Callable[..., str]

COMPARE = ("compare", "--prompt", "a rocket on a blue background", "--height", 64, "--width", 64)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A copy of the bundled model to damage."""
    return Path(shutil.copytree(model_path("emoji-image"), tmp_path / "model"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--preset", "balancd"), "did you mean 'balanced'"),
        (("--preset", "fast", "--recipe", "x.json"), "either --preset or --recipe"),
        (("--sampling", "pixart-x4"), "'pixart-x4' is not a sampling preset"),
        (("--recipe", "nowhere.json"), "nowhere.json cannot be read"),
        (("--model", "emoji-imag"), "did you mean 'emoji-image'"),
        (("--model", "./nowhere"), "There is no model './nowhere'"),
        (("--height", 100), "cannot make a height of 100 pixels; give a multiple of"),
        (("--width", 0), "'--width'"),
        (("--steps", "many"), "'--steps'"),
        (("--seed", 2**64), "'--seed'"),
        (("--dtype", "int8"), "'--dtype'"),
        (("--device", "abacus"), "Device 'abacus' is not available"),
        (("--steps", 2), "give a --recipe of fewer dense_steps or more --steps"),
        (("--fps", 8), "--fps is for videos, and 'emoji-image' makes pictures"),
        (("--num-prompts", 3), "only one of --prompt, --prompts and --num-prompts"),
        (("--prompt", " "), "The prompt is empty"),
        (("--presets", "fast"), "No such option: --presets"),
        (("a rocket",), "extra argument(s) (a rocket); see '"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_wrong_option_is_refused(refused: Refused, out: Path, arguments: tuple[object, ...], sentence: str) -> None:
    assert sentence in refused(*COMPARE, "--out", out, *arguments)
    assert not out.exists()


def test_a_device_on_which_attention_is_not_timed_is_refused(refused: Refused) -> None:
    assert "Device 'abacus' is not available" in refused("bench", "attention", "--device", "abacus")


@pytest.mark.parametrize(
    ("attention", "sentence"),
    [
        ({"density": 0}, "density=0"),
        ({"density": 1.5}, "density=1.5"),
        ({"densty": 0.5}, "did you mean 'density'"),
        ({"dense_steps": 9}, "9"),
    ],
    ids=str,
)
def test_a_wrong_recipe_is_refused(
    refused: Refused, out: Path, recipe_file: Callable[..., Path], attention: dict[str, object], sentence: str
) -> None:
    recipe = recipe_file(**attention)
    assert sentence in refused(*COMPARE, "--steps", 4, "--recipe", recipe, "--out", out)
    assert not out.exists()


def test_an_unknown_recipe_key_is_refused(refused: Refused, out: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({"format": "hasten-recipe", "version": 1, "atention": {}}))
    assert "did you mean 'attention'" in refused(*COMPARE, "--recipe", recipe, "--out", out)


@pytest.mark.parametrize("command", ["generate", "compare", "bench pipeline"])
def test_a_folder_with_something_in_it_is_refused_and_kept(refused: Refused, out: Path, command: str) -> None:
    out.mkdir()
    (out / "result.json").write_text("mine")
    assert "--force" in refused(*command.split(), *COMPARE[1:], "--out", out)
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [("result.json", "mine")]


def test_a_folder_that_cannot_be_written_is_refused(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be written" in refused(*COMPARE, "--out", tmp_path / "file" / "out", "--force")


def test_a_folder_without_an_index_is_no_pipeline(refused: Refused, out: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert "no model_index.json" in refused(*COMPARE, "--model", tmp_path / "model", "--out", out)


@pytest.mark.parametrize("index", ["{", "[]", "{}"])
def test_a_folder_with_a_damaged_index_is_no_pipeline(
    refused: Refused, out: Path, model_folder: Path, index: str
) -> None:
    (model_folder / "model_index.json").write_text(index)
    assert "model_index.json is damaged" in refused(*COMPARE, "--model", model_folder, "--out", out)


def test_a_pipeline_that_diffusers_does_not_know_is_refused(refused: Refused, out: Path, model_folder: Path) -> None:
    index = model_folder / "model_index.json"
    index.write_text(index.read_text().replace("PixArtSigmaPipeline", "PixArtOmegaPipeline"))
    assert "'PixArtOmegaPipeline'" in refused(*COMPARE, "--model", model_folder, "--out", out)


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_folder_without_one_of_its_parts_is_incomplete(
    refused: Refused, out: Path, model_folder: Path, part: str
) -> None:
    shutil.rmtree(model_folder / part)
    assert f"incomplete: {part} is missing" in refused(*COMPARE, "--model", model_folder, "--out", out)


def test_a_pipeline_that_takes_no_prompt_is_refused(refused: Refused, out: Path, tmp_path: Path) -> None:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    blocks = {"block_out_channels": (4,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    DDPMPipeline(UNet2DModel(8, norm_num_groups=2, **blocks), DDPMScheduler()).save_pretrained(tmp_path / "model")
    assert "makes no pictures from prompts" in refused(*COMPARE, "--model", tmp_path / "model", "--out", out)


def test_weights_that_end_early_are_refused(refused: Refused, out: Path, model_folder: Path) -> None:
    weights = model_folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "could not be loaded as a pipeline" in refused(*COMPARE, "--model", model_folder, "--out", out)


def test_missing_weights_are_refused(refused: Refused, out: Path, model_folder: Path) -> None:
    (model_folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    assert "could not be loaded as a pipeline" in refused(*COMPARE, "--model", model_folder, "--out", out)


def test_a_hub_id_that_the_hub_does_not_give_is_refused(
    refused: Refused, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    assert "(Name or service not known); check name and connection" in refused(
        *COMPARE, "--model", "nobody/nothing", "--out", out
    )


@pytest.mark.parametrize(
    ("content", "sentence"), [(None, "cannot be read"), (b"\n \n", "holds no"), (b"\xff", "UTF-8")]
)
def test_a_prompt_file_that_gives_no_prompt_is_refused(
    refused: Refused, out: Path, tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    file = tmp_path / "prompts.txt"
    if content is not None:
        file.write_bytes(content)
    assert sentence in refused("generate", "--prompts", file, "--out", out)


def test_a_model_without_held_out_prompts_needs_a_prompt(refused: Refused, out: Path, model_folder: Path) -> None:
    assert "give --prompt or --prompts" in refused("generate", "--model", model_folder, "--out", out)


def test_an_unknown_method_is_refused(refused: Refused, out: Path) -> None:
    assert "output reuse" in refused("bench", "pipeline", "--only", "TeaCache", "--out", out)


@pytest.mark.parametrize("arguments", [("nope",), ("bench",), ("bench", "nope")], ids=" ".join)
def test_an_unknown_command_is_refused(refused: Refused, arguments: tuple[str, ...]) -> None:
    assert "ommand" in refused(*arguments)


def test_the_process_itself_ends_with_code_two_and_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hasten.app", "compare", "--model", "nope", "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr.count("\n") == 1
    assert "There is no model 'nope'" in finished.stderr

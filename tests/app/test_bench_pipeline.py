"""`hasten bench pipeline` on the bundled model: rows, seeds, files, optional metrics and mistakes."""

import base64
import csv
import dataclasses
import io
import json
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from invented_benchmark import METHODS, invented_call, measure
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer
from typer.testing import CliRunner, Result

from hasten.app.bench_pipeline import with_seeds
from hasten.app.cli import app
from hasten.app.loading import LoadedModel
from hasten.app.metrics.clip_score import load_clip_score
from hasten.app.metrics.perceptual_distance import load_perceptual_distance
from hasten.app.series import Call, Method
from hasten.app.video import decode_video
from hasten.app.workload import Request, Workload

Run = Callable[..., Result]
Refused = Callable[..., str]

SMALL = ("bench", "pipeline", "--height", 64, "--width", 64, "--steps", 4)
ONLY = ("--only", "output reuse", "--only", "FirstBlockCache 0.1", "--only", "quality")


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP model of random weights that knows letters."""
    folder = tmp_path_factory.mktemp("clip")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    pictures = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    side = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"vocab_size": len(words), "bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 53}
    config = CLIPConfig(
        text_config={**side, **ids, "max_position_embeddings": 20},
        vision_config={**side, "image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    CLIPProcessor(image_processor=pictures, tokenizer=tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def measured(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """One run over two seeds of a held-out prompt: its result, and the folder."""
    out = tmp_path_factory.mktemp("bench") / "out"
    options = (*ONLY, "--num-prompts", 1, "--num-seeds", 2, "--seed", 7, "--clip", clip_folder, "--out", out, "--json")
    result = CliRunner().invoke(app, [str(part) for part in (*SMALL, *options)])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads((out / "result.json").read_text())
    return json.loads(result.stdout), out


def test_each_prompt_is_drawn_with_each_of_its_seeds(measured: tuple[dict[str, Any], Path]) -> None:
    requests = measured[0]["requests"]
    assert [request["seed"] for request in requests] == [7, 8]
    assert len({request["prompt"] for request in requests}) == 1
    pictures = [Image.open(measured[1] / f"plain-{number:02}.png").tobytes() for number in (1, 2)]
    assert pictures[0] != pictures[1]


def test_seeds_count_on_through_prompts() -> None:
    workload = Workload((Request("one", 5, {"things": []}), Request("two", 6)), {})
    requests = with_seeds(workload, 3).requests
    assert [(request.prompt, request.seed) for request in requests] == [
        *(("one", seed) for seed in (5, 6, 7)),
        *(("two", seed) for seed in (8, 9, 10)),
    ]
    assert requests[2].scene == {"things": []}
    assert with_seeds(workload, 1) == workload


def test_figures_are_those_of_the_single_requests(measured: tuple[dict[str, Any], Path]) -> None:
    rows = {row["name"]: row for row in measured[0]["rows"] if "why" not in row}
    assert {"plain", "output reuse", "FirstBlockCache 0.1"} <= set(rows)
    for row in rows.values():
        calls = row["per_request"]
        assert len(calls) == 2
        for call in calls:
            assert 0 < call["denoise_seconds"] < call["seconds"]
            assert 0 < call["decode_seconds"] < call["seconds"] - call["denoise_seconds"]
        for name in ("seconds", "denoise_seconds", "decode_seconds"):
            assert row[name] == pytest.approx(statistics.median(call[name] for call in calls))
        for name in ("ssim", "density", "flops", "clip", "caption_accuracy"):
            assert row[name] == pytest.approx(statistics.fmean(call[name] for call in calls))
        assert 0 <= row["clip"] <= 100
        assert "lpips" not in row
    assert rows["plain"]["psnr"] is None
    assert math.isclose(rows["output reuse"]["speedup"], rows["plain"]["seconds"] / rows["output reuse"]["seconds"])


def test_every_file_is_there_and_nothing_else(measured: tuple[dict[str, Any], Path]) -> None:
    result, out = measured
    assert {path.name for path in out.iterdir()} == {*result["files"], "result.json", ".hasten"}
    assert {"table.csv", "report.html", "frontier.png"} <= set(result["files"])
    for row in result["rows"]:
        assert len(row["pictures"]) == (0 if "why" in row else 2)
        assert set(row["pictures"]) <= set(result["files"])


def test_the_spreadsheet_has_the_figures_of_the_result(measured: tuple[dict[str, Any], Path]) -> None:
    result, out = measured
    with (out / "table.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["name"] for line in lines] == [row["name"] for row in result["rows"]]
    for line, row in zip(lines, result["rows"], strict=True):
        assert set(line) >= {"steps", "seconds", "denoise_seconds", "decode_seconds", "speedup", "clip", "why"}
        if "why" in row:
            assert line["seconds"] == ""
            assert "dense_steps" in line["why"]
            continue
        for name in ("seconds", "speedup", "ssim", "density", "flops", "peak_bytes", "clip"):
            assert float(line[name]) == row[name]
        assert float(line["psnr"]) == (math.inf if row["psnr"] is None else row["psnr"])


def test_clip_score_is_the_models_own_likeness(clip_folder: Path) -> None:
    prompts = ["a cat", "a rocket on a blue background and much more than twenty letters of it"]
    pictures = [Image.new("RGB", (40, 30), "red"), Image.linear_gradient("L").resize((16, 16))]
    model, processor = CLIPModel.from_pretrained(clip_folder).eval(), CLIPProcessor.from_pretrained(clip_folder)
    inputs = processor(
        text=prompts,
        images=[picture.convert("RGB") for picture in pictures],
        return_tensors="pt",
        padding=True,
        truncation=True,
        max_length=20,
    )
    with torch.no_grad():
        likeness = model(**inputs).logits_per_image.diagonal() / model.logit_scale.exp()
    expected = [max(100 * value, 0) for value in likeness.tolist()]
    score = load_clip_score(str(clip_folder))
    assert score(prompts, pictures, pictures) == pytest.approx(expected, abs=1e-3)
    assert max(expected) > 0


def test_lpips_gets_pictures_in_its_range(monkeypatch: pytest.MonkeyPatch) -> None:
    class Network(torch.nn.Module):
        def forward(self, picture: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
            assert picture.shape == (1, 3, 8, 16)
            assert picture.min() == -1
            assert picture.max() == 1
            return (picture - reference).abs().mean()

    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=lambda **_: Network()))
    score = load_perceptual_distance()
    picture = Image.new("RGB", (16, 8), "white")
    picture.putpixel((0, 0), (0, 0, 0))
    assert score([""] * 2, [picture] * 2, [picture, Image.new("RGB", (16, 8), "black")]) == pytest.approx(
        [0.0, 2 * 127 / 128]
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--lpips",), "pip install lpips"),
        (("--clip", "nowhere/at/all"), "could not be loaded as a CLIP model"),
        (("--resume", "--force"), "either --resume, which goes on, or --force"),
        (("--num-seeds", 0), "'--num-seeds'"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_wrong_option_is_refused(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: tuple[object, ...], sentence: str
) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    monkeypatch.setattr("hasten.app.metrics.clip_score.HfApi", lambda: None)
    assert sentence in refused(*SMALL, *options, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_benchmark_cannot_be_gone_on_with(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert "holds no benchmark to go on with" in refused(*SMALL, "--out", tmp_path, "--resume")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_second_run_without_resume_is_refused(refused: Refused, measured: tuple[dict[str, Any], Path]) -> None:
    assert "pass --resume to go on with the benchmark there" in refused(*SMALL, "--out", measured[1])
    steps = refused("bench", "pipeline", "--height", 64, "--width", 64, "--steps", 5, "--out", measured[1], "--resume")
    assert "holds another benchmark" in steps


def test_resume_of_a_finished_run_shows_its_table_again(run_hasten: Run, measured: tuple[dict[str, Any], Path]) -> None:
    result, out = measured
    same = ("--num-prompts", 1, "--num-seeds", 2, "--seed", 7, "--out", out, "--resume")
    shown = run_hasten(*SMALL, *ONLY, *same)
    assert shown.exit_code == 0, shown.output
    again = json.loads((out / "result.json").read_text())["rows"]
    assert [row["seconds"] for row in again] == [row["seconds"] for row in result["rows"]]
    assert "clip" not in again[0]
    for words in ("FirstBlockCache 0.1", "denoise", "peak MB", "report.html"):
        assert words in shown.stdout
    assert "CLIP" not in shown.stdout


def test_an_interruption_says_how_to_go_on(run_hasten: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hasten.app.bench_pipeline.warm_up", interrupted)
    stopped = run_hasten(*SMALL, *ONLY, "--out", tmp_path / "out")
    assert stopped.exit_code == 130
    assert "--resume goes on" in stopped.stderr


def test_videos_lie_beside_the_report_and_show_a_still_in_it(
    emoji_image: LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="videos are written through imageio-ffmpeg, from the extra video")

    def run(_model: LoadedModel, method: Method, request: Request, workload: Workload) -> Call:
        made = invented_call(method, request, workload)
        return dataclasses.replace(made, video=(Image.new("RGB", made.image.size), made.image, made.image))

    monkeypatch.setattr("hasten.app.bench_pipeline.warm_up", lambda *_: None)
    monkeypatch.setattr("hasten.app.benchmark.kept_calls.run", run)
    result = measure(tmp_path, emoji_image, methods=METHODS[:1])
    assert {"plain-01.mp4", "half-03.mp4"} <= set(result["files"])
    assert len(decode_video((tmp_path / "half-03.mp4").read_bytes())) == 3
    shown = (tmp_path / "report.html").read_text()
    source = shown.partition("data:image/webp;base64,")[2].partition('"')[0]
    assert np.asarray(Image.open(io.BytesIO(base64.b64decode(source)))).mean() > 20  # the first frame is black

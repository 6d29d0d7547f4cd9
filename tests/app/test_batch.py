"""`hasten batch` from end to end on the bundled model, at a size that takes a tenth of a second."""

import base64
import html
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from batch_processes import check_manifest, identities, rows_of
from diffusers import AutoencoderKL, PixArtSigmaPipeline
from PIL import Image
from typer.testing import CliRunner, Result

import hasten
from hasten.app.batch.progress import describe_duration
from hasten.app.cli import app
from hasten.app.loading import LoadedModel
from hasten.app.metrics.similarity import psnr
from hasten.assets import ASSETS

Run = Callable[..., Result]

SMALL = ("--height", 64, "--width", 64, "--steps", 2, "--plain")
ACCELERATED = ("--height", 64, "--width", 64, "--steps", 6, "--preset", "extreme")


@pytest.fixture
def prompts(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


Prompts = Callable[[str, str], Path]


def stock(model: LoadedModel, prompt: str, seed: int, **arguments: Any) -> bytes:
    call = {**model.call, "height": 64, "width": 64, "num_inference_steps": 2, **arguments}
    return model.pipe(prompt, generator=torch.Generator().manual_seed(seed), **call).images[0].tobytes()


def test_rows_decide_seed_size_steps_and_acceleration(
    run_hasten: Run, prompts: Prompts, tmp_path: Path, emoji_image: LoadedModel
) -> None:
    rows = [
        {"prompt": "a cat on a red background"},
        {"prompt": "a dog", "seed": 41, "steps": 3, "size": "64x96", "guidance": 1.5, "negative_prompt": "a cat"},
        {"prompt": "a key", "steps": 6, "preset": "extreme"},
        {"prompt": "a cup", "steps": 12, "sampling": "pixart-x2", "preset": "balanced"},
        {"prompt": "a car", "steps": 6, "recipe": "own.json"},
    ]
    (tmp_path / "own.json").write_text(
        json.dumps({"format": "hasten-recipe", "version": 1, "attention": {"density": 0.25, "dense_steps": 2}})
    )
    file = prompts("p.jsonl", "\n".join(map(json.dumps, rows)))
    result = run_hasten("batch", file, *SMALL, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    first, second, preset, both, own = rows_of(tmp_path / "out")
    assert (second["width"], second["height"], second["steps"], second["seed"]) == (64, 96, 3, 41)
    assert [row["method"] for row in (first, second, preset, both, own)] == [
        "plain",
        "plain",
        "extreme",
        "balanced + pixart-x2",
        "own",
    ]
    assert [row["seed"] for row in (first, preset, both, own)] == [0, 2, 3, 4]
    assert first["density"] is second["density"] is None
    assert all(0 < row["density"] < 1 for row in (preset, both, own))
    pictures = [Image.open(tmp_path / "out" / row["file"]) for row in (first, second)]
    assert pictures[0].tobytes() == stock(emoji_image, rows[0]["prompt"], 0)
    other = {"height": 96, "num_inference_steps": 3, "guidance_scale": 1.5, "negative_prompt": "a cat"}
    assert pictures[1].tobytes() == stock(emoji_image, "a dog", 41, **other)
    with hasten.accelerate(emoji_image.pipe, "extreme"):
        expected = stock(emoji_image, "a key", 2, num_inference_steps=6)
    assert Image.open(tmp_path / "out" / preset["file"]).tobytes() == expected


def test_every_file_tells_how_it_was_made(run_hasten: Run, prompts: Prompts, tmp_path: Path) -> None:
    prompt = 'ein "Bär" & <Äpfel>, 日本'
    file = prompts("p.txt", prompt)
    for kind in ("png", "webp"):
        out = tmp_path / kind
        result = run_hasten("batch", file, *ACCELERATED, "--seed", 7, "--format", kind, "--out", out)
        assert result.exit_code == 0, result.output
    png = Image.open(tmp_path / "png" / "0001-ein-bar-apfel.png")
    webp = Image.open(tmp_path / "webp" / "0001-ein-bar-apfel.webp")
    assert webp.convert("RGB").tobytes() == png.tobytes()
    assert png.text["prompt"] == prompt
    assert png.text["seed"] == "7"
    about = json.loads(png.text["hasten"])
    comment = webp.getexif().get_ifd(0x8769)[0x9286]
    assert comment.startswith(b"ASCII\0\0\0")
    assert json.loads(comment[8:]) == about
    assert html.escape(prompt, quote=False) in webp.info["xmp"].decode()
    assert (about["prompt"], about["seed"], about["method"]) == (prompt, 7, "extreme")
    assert about["recipe"] == {**hasten.presets()["extreme"].to_dict(), "kv_cache": None}
    assert about["arguments"]["num_inference_steps"] == 6
    assert about["versions"]["torch"] == torch.__version__


def test_variants_differ_in_their_seed(
    run_hasten: Run, prompts: Prompts, tmp_path: Path, emoji_image: LoadedModel
) -> None:
    file = prompts("p.csv", "prompt,seed\na cat,\na dog,50\n")
    result = run_hasten("batch", file, *SMALL, "--variants", 2, "--seed", 3, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    rows = rows_of(tmp_path / "out")
    assert [(row["item"], row["seed"]) for row in rows] == [
        ("0001-1", 3),
        ("0001-2", 4),
        ("0002-1", 50),
        ("0002-2", 51),
    ]
    assert rows[3]["file"] == "0002-2-a-dog.png"
    assert Image.open(tmp_path / "out" / rows[3]["file"]).tobytes() == stock(emoji_image, "a dog", 51)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder of three accelerated items beside their plain renderings, one of plain alone, one broken row."""
    folder = tmp_path_factory.mktemp("compared")
    lines = [*(ASSETS / "prompts" / "emoji-image.jsonl").read_text().splitlines()[:2]]
    lines += [json.dumps({"prompt": '<script>alert("x")</script>', "id": "wild"})]
    lines += ['{"prompt": "a cat", "preset": "plain"}', "broken"]
    (folder / "p.jsonl").write_text("\n".join(lines))
    arguments = ("batch", folder / "p.jsonl", *ACCELERATED, "--compare", "--out", folder / "out", "--json")
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 1, result.output
    return folder / "out", json.loads(result.stdout)


def test_compare_puts_the_plain_rendering_beside_each(compared: tuple[Path, dict[str, Any]]) -> None:
    out, _ = compared
    rows = rows_of(out)
    assert ["plain" in row for row in rows] == [True, True, True, False, False]
    for row in rows[:3]:
        accelerated, plain = Image.open(out / row["file"]), Image.open(out / row["plain"]["file"])
        assert row["psnr"] == pytest.approx(psnr(accelerated, plain))
        assert row["ssim"] < 1
        assert json.loads(plain.text["hasten"])["recipe"] is None
        assert plain.text["seed"] == accelerated.text["seed"]


def test_the_summary_counts_and_names_everything(compared: tuple[Path, dict[str, Any]]) -> None:
    out, result = compared
    assert (result["items"], result["done"], result["refused"], result["failed"], result["waiting"]) == (5, 4, 1, 0, 0)
    assert [(method["name"], method["items"]) for method in result["methods"]] == [("extreme", 3), ("plain", 1)]
    extreme, plain = result["methods"]
    assert extreme["speedup"] == pytest.approx(extreme["plain_seconds"] / extreme["seconds"])
    assert 0 < extreme["density"] < 1
    assert plain["density"] == 1
    assert plain["speedup"] is None
    (problem,) = result["problems"]
    assert problem["source"].endswith("p.jsonl line 5")
    assert {"device", "versions", "command", "model"} <= set(result)
    assert {path.name for path in out.iterdir()} == {*result["files"], "result.json", ".hasten"}
    assert json.loads((out / "result.json").read_text()) == result
    rendering = sum(row["seconds"] + row.get("plain", {"seconds": 0})["seconds"] for row in rows_of(out)[:4])
    assert 0 < result["overhead"] < 1
    assert result["overhead"] == pytest.approx(1 - rendering / (rendering + overhead_seconds(out)))


def overhead_seconds(out: Path) -> float:
    return sum(row["overhead_seconds"] for row in rows_of(out) if row["status"] == "done")


class Page(HTMLParser):
    """What a browser would fetch, and what it would show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.shown = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        attributes = dict(attrs)
        self.sources += [value for name in ("src", "srcset", "data") if (value := attributes.get(name))]
        self.links += [value for value in [attributes.get("href")] if value]

    def handle_data(self, data: str) -> None:
        self.shown += data


def test_the_contact_sheet_needs_nothing_but_itself(compared: tuple[Path, dict[str, Any]]) -> None:
    out, result = compared
    text = (out / "contact-sheet.html").read_text()
    page = Page(text)
    assert len(page.sources) == 7
    for source in page.sources:
        assert source.startswith("data:image/webp;base64,")
        thumbnail = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
        assert thumbnail.size == (64, 64)
    assert not page.tags & {"script", "link", "iframe", "object", "video", "form"}
    assert not re.search(r"https?:|@import|url\(", text)
    assert "default-src 'none'" in text
    assert sorted(page.links) == sorted(set(result["files"]) - {"manifest.jsonl", "contact-sheet.html"})
    assert '<script>alert("x")</script>' in page.shown  # as text
    assert "this line is not JSON" in page.shown


def test_resume_of_a_finished_batch_changes_nothing(run_hasten: Run, prompts: Prompts, tmp_path: Path) -> None:
    file, out = prompts("p.txt", "a cat\na dog\n"), tmp_path / "out"
    arguments = ("batch", file, *SMALL, "--out", out)
    assert run_hasten(*arguments).exit_code == 0
    before = identities(out)
    sheet = (out / "contact-sheet.html").stat().st_ino
    again = run_hasten(*arguments, "--resume")
    assert again.exit_code == 0, again.output
    assert identities(out) == before
    assert (out / "contact-sheet.html").stat().st_ino == sheet
    file.write_text("a cat\na dog\na key\n")
    assert run_hasten(*arguments, "--resume").exit_code == 0
    assert identities(out).items() >= before.items()
    assert len(check_manifest(out, 3)) == 3
    assert run_hasten(*arguments, "--force", "--seed", 9).exit_code == 0
    assert [row["seed"] for row in rows_of(out)] == [9, 10, 11]


def test_a_failing_item_ends_with_code_one_and_the_rest_is_there(
    run_hasten: Run, prompts: Prompts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_prompt = PixArtSigmaPipeline.encode_prompt

    def encode_all_but_one(self: Any, prompt: str, *arguments: Any, **options: Any) -> Any:
        if prompt == "bad":
            raise RuntimeError("CUDA out of memory")
        return encode_prompt(self, prompt, *arguments, **options)

    monkeypatch.setattr(PixArtSigmaPipeline, "encode_prompt", encode_all_but_one)
    result = run_hasten("batch", prompts("p.txt", "a\nbad\nb\n"), *SMALL, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "0002" in result.stdout
    assert "RuntimeError: CUDA out of memory" in result.stdout
    assert check_manifest(tmp_path / "out", 3) == {"0001", "0003"}


def test_an_interruption_keeps_what_is_finished(
    run_hasten: Run, prompts: Prompts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = prompts("p.txt", "a\nb\nc\n"), tmp_path / "out"
    decode = AutoencoderKL.decode
    calls = []

    def decode_until_interrupted(self: Any, *arguments: Any, **options: Any) -> Any:
        calls.append(self)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return decode(self, *arguments, **options)

    monkeypatch.setattr(AutoencoderKL, "decode", decode_until_interrupted)
    interrupted = run_hasten("batch", file, *SMALL, "--out", out)
    assert interrupted.exit_code == 130
    assert "--resume" in interrupted.stderr
    assert check_manifest(out, 3) == {"0001"}
    assert run_hasten("batch", file, *SMALL, "--out", out, "--resume").exit_code == 0
    assert len(check_manifest(out, 3)) == 3
    assert len(calls) == 4


def test_progress_tells_the_time_left(run_hasten: Run, prompts: Prompts, tmp_path: Path) -> None:
    result = run_hasten("batch", prompts("p.txt", "a\nb\nc\n"), *SMALL, "--out", tmp_path / "out")
    lines = [line for line in result.stderr.splitlines() if ".png" in line]
    assert [line.split()[0] for line in lines] == ["1/3", "2/3", "3/3"]
    assert all(re.search(r"about \d+ s left", line) for line in lines[:2])
    assert "left" not in lines[2]
    assert [describe_duration(seconds) for seconds in (5, 600, 40_000)] == ["5 s", "10 min", "11 h 07 min"]


def test_prompts_come_from_standard_input(tmp_path: Path) -> None:
    arguments = [str(part) for part in ("batch", "-", *SMALL, "--out", tmp_path / "out")]
    result = CliRunner().invoke(app, arguments, input='{"prompt": "a cat", "seed": 5}\n')
    assert result.exit_code == 0, result.output
    (row,) = rows_of(tmp_path / "out")
    assert (row["source"], row["seed"]) == ("standard input line 1", 5)

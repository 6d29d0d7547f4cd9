"""Video models on the page: tiny random pipelines in folders, a stock one and one that generates chunk by chunk."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from page_actions import choose, fill, open_accordion
from served_page import Served
from tiny_rollout import CHUNK, save_tiny_rollout
from transformers import AutoTokenizer, UMT5Config, UMT5EncoderModel

import hasten
from hasten.app.video import decode_video
from hasten.app.web.application import build_app, serving_options
from hasten.assets import model_path

FRAMES, STEPS, SIDE = 9, 5, 64


@pytest.fixture(scope="module")
def wan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny-wan")
    tokenizer = AutoTokenizer.from_pretrained(model_path("emoji-image") / "tokenizer")
    text = UMT5Config(vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4)
    pipe = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=UMT5EncoderModel(text),
        transformer=WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=16, num_layers=1, text_dim=32, freq_dim=16, ffn_dim=32
        ),
        vae=AutoencoderKLWan(base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rollout_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_rollout(tmp_path_factory.mktemp("model") / "tiny-rollout")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, wan_folder: Path, rollout_folder: Path) -> Iterator[Served]:
    outputs = tmp_path_factory.mktemp("videos")
    page = build_app(outputs, models=(str(wan_folder), str(rollout_folder)))
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **serving_options(outputs))
    yield Served(url, outputs)
    page.close()


def choose_model(page: Any, folder: Path) -> None:
    open_accordion(page, "Model, size and steps")
    choose(page, "Model", str(folder))


def test_two_videos_keep_step(visit: Callable[..., Any], served: Served, wan_folder: Path) -> None:
    page = visit()
    choose_model(page, wan_folder)
    fill(page, {"Width": SIDE, "Height": SIDE, "Frames": FRAMES, "Steps": STEPS})
    page.click("#compare")
    page.wait_for_selector(".figures tbody")
    page.wait_for_function(
        "[...document.querySelectorAll('#viewer video')].filter(v => v.readyState >= 2).length === 2"
    )
    page.get_by_role("button", name="One frame forward").click()
    page.get_by_role("button", name="One frame forward").click()
    page.get_by_text(f"3 / {FRAMES}", exact=True).wait_for()
    times = page.eval_on_selector_all("#viewer video", "videos => videos.map(v => v.currentTime)")
    assert times == pytest.approx([2.5 / 16] * 2, abs=1e-3)
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("document.querySelector('#viewer video').currentTime > 0.3")
    page.get_by_role("button", name="Pause").click()
    first, second = page.eval_on_selector_all("#viewer video", "videos => videos.map(v => v.currentTime)")
    assert first == pytest.approx(second, abs=1e-3)
    page.get_by_label("Frame", exact=True).focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.get_by_text(f"2 / {FRAMES}", exact=True).wait_for()
    times = page.eval_on_selector_all("#viewer video", "videos => videos.map(v => v.currentTime)")
    assert times == pytest.approx([1.5 / 16] * 2, abs=1e-3)
    page.get_by_label("Wipe between plain and accelerated").focus()
    page.keyboard.press("Home")
    clipped = page.locator("#viewer .right .media").evaluate("m => getComputedStyle(m).clipPath")
    assert clipped == "inset(0px 0px 0px 0%)"
    page.get_by_role("button", name="Difference").click()
    assert page.locator("#viewer .right").evaluate("p => getComputedStyle(p).mixBlendMode") == "difference"
    page.get_by_role("button", name="Plain, equal seconds").click()
    page.get_by_text(f"2 / {FRAMES}", exact=True).wait_for()
    source = page.locator("#viewer video").first.get_attribute("src")
    assert source.startswith("gradio_api/file=")
    result = newest_result(served)
    assert json.loads(result.read_text())["frames"] == FRAMES
    assert len(decode_video((result.parent / "accelerated-01.mp4").read_bytes())) == FRAMES


def newest_result(served: Served) -> Path:
    return max((served.outputs / "app").glob("*/result.json"), key=lambda path: path.stat().st_mtime)


def test_a_rollout_shows_what_its_cache_holds_chunk_by_chunk(
    visit: Callable[..., Any], served: Served, rollout_folder: Path
) -> None:
    page = visit()
    choose_model(page, rollout_folder)
    fill(page, {"Frames": 9 + 2 * CHUNK})
    page.click("#compare")
    page.wait_for_selector(".figures tbody")
    page.wait_for_function(
        "[...document.querySelectorAll('#viewer video')].filter(v => v.readyState >= 2).length === 2"
    )
    method = hasten.presets()["balanced"].kv_cache.method
    page.locator(".charts figure", has_text="KV cache").get_by_text(method, exact=True).wait_for()
    told = json.loads(newest_result(served).read_text())
    assert told["kv_cache"]["method"] == method
    assert len(told["kv_cache"]["used_bytes"]) == 3
    assert 0 < max(told["kv_cache"]["used_bytes"]) <= told["kv_cache"]["bytes"]
    assert {name: len(marks) for name, marks in told["step_by_step"].items()}["baseline"] == 3 * 4


def test_a_rollout_that_would_fail_is_refused_in_the_page(visit: Callable[..., Any], rollout_folder: Path) -> None:
    page = visit()
    choose_model(page, rollout_folder)
    fill(page, {"Frames": 20})
    page.click("#compare")
    page.get_by_role("alert").get_by_text("no whole number of chunks").wait_for()

"""Batches of videos, from a tiny random stock pipeline that reads text."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from batch_processes import rows_of
from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXPipeline, LTXVideoTransformer3DModel
from imageio_ffmpeg import count_frames_and_secs, get_ffmpeg_exe, read_frames
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel
from typer.testing import Result

from hasten.app.video import decode_video, encode_video

Run = Callable[..., Result]

WORDS = ("<pad>", "</s>", "<unk>", "a", "cat", "runs")
WIDTH = 32
SMALL = ("--height", 32, "--width", 64, "--frames", 9, "--steps", 2, "--dtype", "float32", "--device", "cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `from_pretrained` loads."""
    torch.manual_seed(0)
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=128
    )
    text = T5Config(vocab_size=len(WORDS), d_model=WIDTH, d_kv=8, d_ff=37, num_layers=1, num_heads=4, pad_token_id=0)
    transformer = LTXVideoTransformer3DModel(
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        cross_attention_dim=WIDTH,
        caption_channels=WIDTH,
    )
    autoencoder = AutoencoderKLLTXVideo(
        latent_channels=4,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
    )
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.1)
    folder = tmp_path_factory.mktemp("model") / "tiny-ltx"
    LTXPipeline(scheduler, autoencoder, T5EncoderModel(text), tokenizer, transformer).save_pretrained(folder)
    return folder


def test_frames_become_mp4_files_that_tell_how_they_were_made(run_hasten: Run, model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "a cat = \\"runs\\""}\n{"prompt": "a cat", "frames": 5, "seed": 8}\n')
    arguments = (*SMALL, "--plain", "--fps", 12, "--model", model, "--out", tmp_path / "out")
    result = run_hasten("batch", prompts, *arguments)
    assert result.exit_code == 0, result.output
    rows = rows_of(tmp_path / "out")
    assert [(row["file"], row["frames"]) for row in rows] == [("0001-a-cat-runs.mp4", 9), ("0002-a-cat.mp4", 5)]
    for row in rows:
        file = tmp_path / "out" / row["file"]
        assert count_frames_and_secs(file) == (row["frames"], pytest.approx(row["frames"] / 12, abs=0.01))
        about = next(read_frames(file))
        assert (about["codec"], about["size"], about["pix_fmt"].split("(")[0]) == ("h264", (64, 32), "yuv420p")
    shown = subprocess.run(
        [get_ffmpeg_exe(), "-i", tmp_path / "out" / "0001-a-cat-runs.mp4"], capture_output=True, check=False
    ).stderr.decode()
    assert 'title           : a cat = "runs"' in shown
    assert '"seed": 0' in shown
    assert '"recipe": null' in shown
    assert (tmp_path / "out" / "contact-sheet.html").read_text().count("data:image/webp") == 2


def test_videos_are_compared_frame_by_frame(run_hasten: Run, model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "p.txt"
    prompts.write_text("a cat runs\n")
    arguments = (*SMALL, "--steps", 6, "--preset", "extreme", "--compare", "--model", model, "--out", tmp_path / "out")
    result = run_hasten("batch", prompts, *arguments)
    assert result.exit_code == 0, result.output
    (row,) = rows_of(tmp_path / "out")
    assert row["plain"]["file"] == "0001-a-cat-runs.plain.mp4"
    assert row["psnr"] is None or row["psnr"] > 10
    assert 0 < row["density"] <= 1


def test_without_a_rate_a_batch_has_the_models_own(
    run_hasten: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hasten.app.media.frame_rate", lambda _model: 8)
    (tmp_path / "p.txt").write_text("a cat")
    result = run_hasten("batch", tmp_path / "p.txt", *SMALL, "--plain", "--model", model, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    (video,) = (tmp_path / "out").glob("*.mp4")
    assert next(read_frames(str(video)))["fps"] == 8


def test_a_stock_video_pipeline_is_compared_as_well(
    run_hasten: Callable[..., Result], model: Path, tmp_path: Path
) -> None:
    call = ("compare", "--prompt", "a cat", "--model", model, "--preset", "quality", "--out", tmp_path / "out")
    result = run_hasten(*call, "--height", 64, "--width", 64, "--frames", 9, "--steps", 7, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["frames"] == 9
    assert told["accelerated"]["density"] < 1
    assert told["recipe"]["kv_cache"] is None
    assert len(decode_video((tmp_path / "out" / "side-by-side.mp4").read_bytes())) == 9


def test_frames_survive_the_encoder_closely() -> None:
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    frames = [Image.fromarray(np.roll(np.tile(ramp, (32, 1)), 4 * shift, axis=1)).convert("RGB") for shift in range(6)]
    content = encode_video(frames, 8, title="t", comment="c")
    decoded = decode_video(content)
    assert [frame.size for frame in decoded] == [(64, 32)] * 6
    for frame, original in zip(decoded, frames, strict=True):
        assert np.abs(np.asarray(frame, int) - np.asarray(original, int)).mean() < 4
    assert content == encode_video(frames, 8, title="t", comment="c")


def test_what_ffmpeg_refuses_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="ffmpeg"):
        encode_video([Image.new("RGB", (33, 31))], 8, title="", comment="")
    with pytest.raises(RuntimeError, match="ffmpeg"):
        decode_video(b"no video")

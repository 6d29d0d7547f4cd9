"""The pipeline as a user meets it: streams, cancelled rollouts, memory, refusals, callbacks, folders."""

import gc
import inspect
import json
import weakref
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FirstBlockCacheConfig, WanPipeline
from tiny_rollouts import (
    CHANNELS,
    HEIGHT,
    LATENT_MEAN,
    LATENT_STD,
    WIDTH,
    generate,
    make_pipeline,
    make_pipeline_with_text,
    num_frames,
    text,
    tiny_autoencoder,
)
from torch import Tensor

from hasten.pipelines.kv_cache import METHODS
from hasten.pipelines.self_forcing import CacheSetting, SelfForcingWanPipeline, StreamingDecoder
from hasten.pipelines.self_forcing.options import RolloutOptions

Caches = list[Any]


@pytest.fixture
def caches(monkeypatch: pytest.MonkeyPatch) -> Caches:
    """Every cache that a pipeline makes."""
    made: Caches = []
    make_cache = SelfForcingWanPipeline.make_cache

    def keep(*args: Any) -> Any:
        made.append(make_cache(*args))
        return made[-1]

    monkeypatch.setattr(SelfForcingWanPipeline, "make_cache", keep)
    return made


def stock_decode(pipe: SelfForcingWanPipeline, latents: Tensor) -> Tensor:
    with torch.no_grad():
        return pipe.vae.decode(_denormalized(latents)).sample


def _denormalized(latents: Tensor) -> Tensor:
    mean, std = (torch.tensor(x).view(1, -1, 1, 1, 1) for x in (LATENT_MEAN, LATENT_STD))
    return latents * std + mean


def interrupt_at(step: int) -> Callable[..., dict[str, Any]]:
    def callback(pipe: SelfForcingWanPipeline, now: int, *_: Any) -> dict[str, Any]:
        pipe._interrupt = now == step
        return {}

    return callback


def test_frames_are_those_that_the_autoencoder_decodes_at_once() -> None:
    pipe = make_pipeline()
    latents, frames = generate(pipe), generate(pipe, output_type="pt")
    assert frames.shape == (1, num_frames(3), 3, HEIGHT, WIDTH)
    expected = (stock_decode(pipe, latents) / 2 + 0.5).transpose(1, 2)
    torch.testing.assert_close(frames, expected, atol=1e-6, rtol=0)


def test_the_stream_is_the_video() -> None:
    pipe = make_pipeline()
    options = {"prompt_embeds": text(batch=2), "num_frames": num_frames(3, given=1), "output_type": "pt"}
    image = torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    parts = list(pipe.stream(image=image, generator=torch.Generator().manual_seed(0), **options))
    assert [part.shape[1] for part in parts] == [1, 12, 12, 12]
    latents = generate(pipe, image=image, **{**options, "output_type": "latent"})
    expected = (stock_decode(pipe, latents) / 2 + 0.5).transpose(1, 2)
    torch.testing.assert_close(torch.cat(parts, 1), expected, atol=1e-6, rtol=0)


def test_an_autoencoder_with_patches_is_streamed_too() -> None:
    vae = tiny_autoencoder(patch_size=2, in_channels=12, out_channels=12, scale_factor_spatial=16)
    latents = torch.randn(1, CHANNELS, 6, 4, 6)
    decoder = StreamingDecoder(vae, 4, 6)
    with torch.no_grad():
        parts = [decoder.decode(part) for part in latents.split([1, 2, 3], dim=2)]
        expected = vae.decode(_denormalized(latents)).sample
    torch.testing.assert_close(torch.cat(parts, 2), expected, atol=1e-6, rtol=0)


def test_two_streams_may_take_turns() -> None:
    pipe = make_pipeline()
    alone = [list(pipe.stream(prompt_embeds=text(seed), generator=_seeded(seed), num_frames=21)) for seed in (0, 1)]
    streams = [pipe.stream(prompt_embeds=text(seed), generator=_seeded(seed), num_frames=21) for seed in (0, 1)]
    for parts in zip(*alone, strict=True):
        for stream, part in zip(streams, parts, strict=True):
            assert np.array_equal(next(stream), part)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("output_type", "kind"), [("np", np.ndarray), ("pt", Tensor), ("pil", list)])
def test_a_cancelled_rollout_gives_the_chunks_that_are_done(output_type: str, kind: type) -> None:
    pipe = make_pipeline()
    whole = generate(pipe, output_type="pt")
    for step, frames in ((0, 0), (3, 9), (9, 21)):
        cancelled = generate(pipe, output_type=output_type, callback_on_step_end=interrupt_at(step))
        assert isinstance(cancelled, kind)
        assert len(cancelled[0]) == frames
        if output_type == "pt":
            torch.testing.assert_close(cancelled, whole[:, :frames], atol=1e-6, rtol=0)
    assert torch.equal(generate(pipe, output_type="pt"), whole)


def test_a_cancelled_stream_ends() -> None:
    pipe = make_pipeline()
    stream = pipe.stream(prompt_embeds=text(), num_frames=num_frames(3))
    next(stream)
    pipe._interrupt = True
    assert list(stream) == []


@pytest.mark.parametrize("streamed", [False, True], ids=["call", "stream"])
def test_a_rollout_can_be_cancelled_while_its_prompt_is_encoded(
    streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = make_pipeline()
    encode = pipe.encode_prompt

    def cancel_and_encode(*args: Any, **kwargs: Any) -> Any:
        pipe._interrupt = True
        return encode(*args, **kwargs)

    monkeypatch.setattr(pipe, "encode_prompt", cancel_and_encode)
    options = {"prompt_embeds": text(), "num_frames": num_frames(1), "output_type": "latent"}
    assert (list(pipe.stream(**options)) if streamed else pipe(**options).frames.shape[2]) in ([], 0)
    monkeypatch.undo()
    assert generate(pipe, chunks=1).shape[2] == 3


def test_caches_are_freed_before_the_video_is_decoded(caches: Caches, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = make_pipeline()
    held: list[int] = []
    decode = pipe.vae.decode

    def spy(*args: Any, **kwargs: Any) -> Any:
        held.append(caches[-1].nbytes)
        return decode(*args, **kwargs)

    monkeypatch.setattr(pipe.vae, "decode", spy)
    during: list[int] = []

    def look(*_: Any) -> dict[str, Any]:
        during.append(caches[-1].nbytes)
        return {}

    generate(pipe, output_type="pt", callback_on_step_end=look)
    frame = 6 * 2 * 16 * 4  # tokens, heads, channels of a head, bytes
    assert set(during) == {2 * 18 * frame * 2}  # keys and values of 18 frames in 2 layers
    assert held == [0]


@pytest.mark.parametrize("method", [None, "rtn_int4"])
def test_nothing_of_a_cache_outlives_its_rollout(caches: Caches, method: str | None) -> None:
    pipe = make_pipeline()
    pipe.kv_cache = CacheSetting(METHODS[method] if method else None)
    layers: list[weakref.ref[Any]] = []

    def look(*_: Any) -> dict[str, Any]:
        layers.append(weakref.ref(caches[-1].layer(0)))
        return {}

    def fail(*_: Any) -> dict[str, Any]:
        look()
        raise RuntimeError("stop")

    generate(pipe, callback_on_step_end=look)
    with pytest.raises(RuntimeError):
        generate(pipe, callback_on_step_end=fail)
    generate(pipe, callback_on_step_end=lambda *args: look() | interrupt_at(1)(*args))
    stream = pipe.stream(prompt_embeds=text(), num_frames=num_frames(2), callback_on_step_end=look)
    next(stream)
    stream.close()
    gc.collect()
    assert len(layers) > 4
    assert [layer() for layer in layers] == [None] * len(layers)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_frames": 82}, "num_frames=82 is no whole number of chunks .* nearest that are, are 81 and 93"),
        ({"num_frames": 8}, "num_frames=8 .* the nearest that is one is 9"),
        ({"num_frames": 81, "image": torch.zeros(1, 3, 32, 48)}, "after 1 given frames; .* are 73 and 85"),
        ({"video": torch.zeros(1, 6, 3, 32, 48)}, "has 6 frames.*; cut it to 5 frames, or give 9"),
        ({"video": torch.zeros(1, 5, 3, 32, 48), "image": torch.zeros(1, 3, 32, 48)}, "image and a video were given"),
        ({"image": torch.zeros(3, 3, 32, 48)}, "3 given images or videos were given for a batch of 1; give 1"),
        ({"height": 40}, "height and width are 40 and 48; give multiples of 16"),
        ({"output_type": "mp4"}, "output_type is 'mp4'; give one of np, pt, pil, latent"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0; give at least 1"),
        ({"denoising_steps": [1000, 500], "num_inference_steps": 4}, "do not go with num_inference_steps=4; leave"),
        ({"denoising_steps": [750, 500]}, "give timesteps that fall from 1000"),
        ({"denoising_steps": []}, r"denoising_steps are \[\]; give timesteps that fall from 1000"),
        ({"generator": [torch.Generator()] * 2, "num_videos_per_prompt": 4}, "2 generators were given for 4 videos"),
        ({"generator": [torch.Generator()] * 3, "num_videos_per_prompt": 2}, "for 2 videos; give one for each, or one"),
        ({"denoising_steps": [1000, 500, 500]}, "give timesteps that fall from 1000"),
        ({"latents": torch.zeros(1, 4, 6, 4, 6)}, r"latents have the shape .* give \(1, 4, 9, 4, 6\)"),
        ({"prompt_switches": [(33, text(1))]}, "name frame 33; give frames between 1 and 32"),
        ({"prompt": "a cat"}, "Cannot forward both"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else None,
)
def test_what_cannot_be_made_is_refused_at_once(options: dict[str, Any], sentence: str, caches: Caches) -> None:
    pipe = make_pipeline()
    with pytest.raises(ValueError, match=sentence):
        generate(pipe, **options)
    defaults = {"prompt_embeds": text(), "num_frames": num_frames(3)}
    with pytest.raises(ValueError, match=sentence):
        pipe.stream(**{**defaults, **options})
    assert not caches


def test_models_that_cannot_be_rolled_out_are_refused() -> None:
    pipe = make_pipeline()
    with pytest.raises(ValueError, match=r"Wan 2\.2 pipeline"):
        SelfForcingWanPipeline(None, None, pipe.vae, pipe.scheduler, pipe.transformer, transformer_2=pipe.transformer)
    pipe.kv_cache = CacheSetting(window_frames=5, sink_frames=3)
    with pytest.raises(ValueError, match="window of at least 6"):
        generate(pipe)
    pipe = make_pipeline(distilled=False)
    with pytest.raises(ValueError, match="do not go with a model that is not distilled"):
        generate(pipe, denoising_steps=[1000])
    pipe.transformer.enable_cache(FirstBlockCacheConfig())
    with pytest.raises(ValueError, match="disable_cache"):
        generate(pipe)
    pipe = make_pipeline()
    pipe.transformer._parallel_config = object()
    with pytest.raises(ValueError, match="split over several devices"):
        generate(pipe)
    pipe.transformer.register_to_config(in_channels=2 * CHANNELS)
    with pytest.raises(ValueError, match="takes 8 channels and predicts 4; give a text-to-video one"):
        generate(pipe)


def test_a_video_in_tiles_is_decoded_by_a_call_and_refused_by_a_stream() -> None:
    pipe = make_pipeline()
    pipe.vae.enable_tiling(16, 16, 8, 8)
    assert generate(pipe, chunks=1, output_type="pt").shape[1] == num_frames(1)
    with pytest.raises(ValueError, match="decodes videos of this size in tiles"):
        pipe.stream(prompt_embeds=text(), num_frames=num_frames(1))


def test_a_callback_hears_of_every_step_and_may_replace_tensors() -> None:
    pipe = make_pipeline()
    heard: list[tuple[int, float, tuple[int, ...]]] = []

    def zero_first_chunk(pipe: Any, step: int, timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        heard.append((step, float(timestep), tuple(tensors["latents"].shape)))
        assert set(tensors) == {"latents", "prompt_embeds"}
        assert pipe.num_timesteps == 8
        return {"latents": torch.zeros_like(tensors["latents"])} if step == 3 else {}

    inputs = ["latents", "prompt_embeds"]
    latents = generate(pipe, chunks=2, callback_on_step_end=zero_first_chunk, callback_on_step_end_tensor_inputs=inputs)
    times = [1000.0, 937.5, pytest.approx(833.3333), 625.0]
    assert heard == [(step, times[step % 4], (1, CHANNELS, 3, 4, 6)) for step in range(8)]
    assert latents[:, :, :3].abs().max() == 0
    assert latents[:, :, 3:].abs().min() > 0


def test_a_prompt_that_a_callback_replaces_holds_from_then_on() -> None:
    pipe = make_pipeline()

    def replace(_: Any, step: int, *__: Any) -> dict[str, Tensor]:
        return {"prompt_embeds": text(1)} if step == 3 else {}

    replaced = generate(pipe, chunks=2, callback_on_step_end=replace)
    switched = generate(pipe, chunks=2, prompt_switches=[(12, text(1))])
    assert torch.equal(replaced[:, :, :3], switched[:, :, :3])  # only the clean pass of chunk 0 has another prompt
    assert not torch.allclose(replaced[:, :, 3:], generate(pipe, chunks=2)[:, :, 3:], atol=1e-3)


def test_the_progress_bar_counts_the_steps_of_all_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = make_pipeline()
    bars: list[Any] = []
    progress_bar = pipe.progress_bar

    def keep(*args: Any, **kwargs: Any) -> Any:
        bars.append(progress_bar(*args, **kwargs))
        return bars[-1]

    pipe.set_progress_bar_config(disable=False, leave=False)
    monkeypatch.setattr(pipe, "progress_bar", keep)
    generate(pipe, chunks=2, num_inference_steps=3)
    assert [(bar.total, bar.n) for bar in bars] == [(6, 6)]


def test_videos_of_a_prompt_are_one_batch() -> None:
    pipe = make_pipeline()
    generators = [_seeded(seed) for seed in range(4)]
    prompts = torch.cat([text(0), text(1)])
    videos = generate(pipe, chunks=1, prompt_embeds=prompts, num_videos_per_prompt=2, generator=generators)
    assert videos.shape[0] == 4
    single = generate(pipe, chunks=1, prompt_embeds=text(1), seed=2)
    torch.testing.assert_close(videos[2:3], single, atol=1e-5, rtol=1e-5)


def test_fused_projections_and_plain_ones_agree() -> None:
    pipe = make_pipeline()
    plain = generate(pipe)
    pipe.transformer.fuse_qkv_projections()
    torch.testing.assert_close(generate(pipe), plain, atol=1e-5, rtol=1e-5)


def test_a_call_makes_a_window_of_frames_unless_told_otherwise() -> None:
    pipe = make_pipeline(num_inference_steps=1, window_frames=7)
    assert pipe(prompt_embeds=text(), output_type="latent").frames.shape[2] == 6
    assert pipe(prompt_embeds=text(), output_type="latent", return_dict=False)[0].shape[2] == 6


def test_the_options_of_a_stream_are_the_arguments_of_a_call() -> None:
    call = inspect.signature(SelfForcingWanPipeline.__call__).parameters
    assert set(call) - {"self", "return_dict"} == {field.name for field in fields(RolloutOptions)}
    defaults = {field.name: field.default for field in fields(RolloutOptions)}
    assert {name: call[name].default for name in defaults} == defaults


def test_a_saved_pipeline_is_the_same_when_loaded(tmp_path: Path) -> None:
    pipe = make_pipeline_with_text(window_frames=6, timestep_shift=3.0, max_sequence_length=8, num_inference_steps=2)
    options = {"prompt": "a red circle", "num_frames": 21, "output_type": "latent", "return_dict": False}
    expected = pipe(generator=_seeded(0), **options)[0]
    pipe.save_pretrained(tmp_path)
    loaded = SelfForcingWanPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert _public(loaded.config) == _public(pipe.config)
    # how weights lie in memory changes the last bit on a CPU
    torch.testing.assert_close(loaded(generator=_seeded(0), **options)[0], expected, atol=1e-5, rtol=1e-5)


def _public(config: Any) -> dict[str, Any]:
    return {name: value for name, value in config.items() if not name.startswith("_")}


def test_stock_diffusers_loads_its_folder(tmp_path: Path) -> None:
    pipe = make_pipeline_with_text(max_sequence_length=8)
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    # a list in the index stands for a component: of which every one is a stock one
    assert {entry[0] for entry in index.values() if isinstance(entry, list)} == {"diffusers", "transformers", None}
    stock = WanPipeline.from_pretrained(tmp_path)
    stock.set_progress_bar_config(disable=True)
    assert type(stock) is WanPipeline
    assert set(stock.components) == set(pipe.components)
    options = {"height": HEIGHT, "width": WIDTH, "max_sequence_length": 8, "guidance_scale": 1.0}
    video = stock("a red circle", num_frames=9, num_inference_steps=1, output_type="latent", **options).frames
    assert video.shape == (1, CHANNELS, 3, 4, 6)


def test_a_stock_pipeline_is_turned_into_one_with_the_same_weights(tmp_path: Path) -> None:
    pipe = make_pipeline_with_text(max_sequence_length=8)
    stock = WanPipeline(**pipe.components)
    stock.save_pretrained(tmp_path)
    converted = SelfForcingWanPipeline.from_pipe(stock, max_sequence_length=8)
    assert converted.transformer is stock.transformer
    loaded = SelfForcingWanPipeline.from_pretrained(tmp_path, max_sequence_length=8)
    videos = []
    for candidate in (converted, loaded):
        candidate.set_progress_bar_config(disable=True)
        options = {"height": HEIGHT, "width": WIDTH, "num_frames": 9, "output_type": "latent"}
        videos.append(candidate("a red circle", generator=_seeded(0), **options).frames)
    torch.testing.assert_close(*videos, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_texts_and_their_embeddings_are_the_same_prompts() -> None:
    pipe = make_pipeline_with_text(max_sequence_length=8)
    prompts = ["a red circle", "a cat on blue"]
    embeds, negative = pipe.encode_prompt(prompts, ["cat", "cat"], max_sequence_length=8)
    by_text = generate(
        pipe,
        prompt=prompts,
        prompt_embeds=None,
        negative_prompt=["cat", "cat"],
        guidance_scale=2.0,
        prompt_switches=[(20, "a blue cat")],
    )
    switched, _ = pipe.encode_prompt("a blue cat", do_classifier_free_guidance=False, max_sequence_length=8)
    by_embeds = generate(
        pipe,
        prompt_embeds=embeds,
        negative_prompt_embeds=negative,
        guidance_scale=2.0,
        prompt_switches=[(20, switched)],
    )
    assert torch.equal(by_text, by_embeds)

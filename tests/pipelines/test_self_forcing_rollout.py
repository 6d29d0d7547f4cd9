"""Cached, chunk-wise generation against one forward of the whole video, and what a rollout leaves behind."""

import copy
import itertools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import UniPCMultistepScheduler
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from rollout_oracle import FullVideo, few_step_rollout, sees_all, sees_window
from tiny_rollouts import (
    CHANNELS,
    HEIGHT,
    LATENT_MEAN,
    LATENT_STD,
    ROPE_FRAMES,
    WIDTH,
    fingerprint,
    generate,
    make_pipeline,
    num_frames,
    text,
)
from torch import Tensor, nn

from hasten.kernels.paged import PagePool, Segment
from hasten.pipelines.kv_cache import METHODS, KVCache, StepReuse
from hasten.pipelines.self_forcing import CacheSetting, SelfForcingWanPipeline
from hasten.pipelines.self_forcing.step_reuse import ReusingBlocks

SHAPE = (1, CHANNELS, 3, 4, 6)
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def test_a_cached_rollout_is_a_block_causal_forward() -> None:
    pipe = make_pipeline()
    expected = few_step_rollout(FullVideo(pipe.transformer), 4, SHAPE, lambda _: text())
    torch.testing.assert_close(generate(pipe, chunks=4), expected, **CLOSE)


@pytest.mark.parametrize(("window", "sinks"), [(6, 0), (7, 0), (9, 3), (8, 1)])
def test_eviction_is_a_mask(window: int, sinks: int) -> None:
    pipe = make_pipeline(window_frames=window, sink_frames=sinks)
    masked = FullVideo(pipe.transformer, sees_window(window, sinks))
    expected = few_step_rollout(masked, 5, SHAPE, lambda _: text())
    actual = generate(pipe, chunks=5)
    torch.testing.assert_close(actual, expected, **CLOSE)
    unmasked = few_step_rollout(FullVideo(pipe.transformer, sees_all), 5, SHAPE, lambda _: text())
    assert (actual - unmasked).abs().max() > 1e-3


def test_rebased_sinks_are_seen_directly_before_the_window() -> None:
    window, sinks = 9, 3

    def position(end: int, frame: int) -> int:
        oldest = max(end - (window - sinks), sinks)
        return frame + oldest - sinks if frame < sinks else frame

    pipe = make_pipeline(window_frames=window, sink_frames=sinks, rebase_sinks=True)
    moved = FullVideo(pipe.transformer, sees_window(window, sinks), position)
    expected = few_step_rollout(moved, 5, SHAPE, lambda _: text())
    actual = generate(pipe, chunks=5)
    torch.testing.assert_close(actual, expected, **CLOSE)
    pipe.kv_cache = CacheSetting(rebase_sinks=False)
    assert (actual - generate(pipe, chunks=5)).abs().max() > 1e-3


class LargerBuffer:
    """Keeps every frame in a page of its own, in the order of time, and shows the newest of them."""

    def __init__(self, cache: KVCache, frames: int) -> None:
        self.window, self._contexts, self._layers, self._frames = cache.window, cache.contexts, cache.layers, frames
        self._written: dict[tuple[str, int], int] = {}
        self._pools: dict[tuple[str, int], PagePool] = {}

    def begin(self, batch: int, heads: int, head_dim: int, frame_tokens: int, dtype: Any, device: Any) -> None:
        for place in itertools.product(self._contexts, range(self._layers)):
            shape = (batch, heads, frame_tokens, head_dim)
            self._pools[place] = PagePool.allocate(self._frames, shape, None, None, dtype, device)
            self._written[place] = 0

    def layer(self, index: int, context: str) -> SimpleNamespace:
        place = context, index

        def get(sink_query: None) -> list[Segment]:
            written = self._written[place]
            return [Segment(self._pools[place], list(range(max(written - self.window.pages, 0), written)))]

        def update(key: Tensor, value: Tensor, query: Tensor) -> None:
            frame_tokens = self._pools[place].keys.shape[2]
            for page in zip(key.split(frame_tokens, 2), value.split(frame_tokens, 2), strict=True):
                self._pools[place].write(self._written[place], *page)
                self._written[place] += 1

        return SimpleNamespace(get=get, update=update)

    def reset(self) -> None:
        self._pools.clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_ring_of_the_window_is_a_larger_buffer_bit_for_bit(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = make_pipeline(window_frames=9)
    pipe.transformer.to(dtype)
    ring = generate(pipe, chunks=6)
    make_cache = pipe.make_cache
    monkeypatch.setattr(pipe, "make_cache", lambda contexts: LargerBuffer(make_cache(contexts), frames=18))
    assert torch.equal(generate(pipe, chunks=6), ring)


@pytest.mark.parametrize("window", [3, 4])
def test_a_window_may_be_no_larger_than_a_chunk(window: int) -> None:
    pipe = make_pipeline(window_frames=window)
    expected = few_step_rollout(FullVideo(pipe.transformer, sees_window(window)), 3, SHAPE, lambda _: text())
    torch.testing.assert_close(generate(pipe), expected, **CLOSE)


def test_the_paged_cache_in_16_bits_is_the_plain_one() -> None:
    pipe = make_pipeline(window_frames=9, sink_frames=1, rebase_sinks=True)
    plain = generate(pipe, chunks=5)
    pipe.kv_cache = CacheSetting(METHODS["bf16"])
    torch.testing.assert_close(generate(pipe, chunks=5), plain, **CLOSE)


def test_a_quantized_cache_gives_nearly_the_same_video() -> None:
    pipe = make_pipeline(window_frames=9)
    exact = generate(pipe, chunks=4)
    errors = []
    for name in ("rtn_int4", "rtn_int2"):
        pipe.kv_cache = CacheSetting(METHODS[name])
        errors.append(float((generate(pipe, chunks=4) - exact).norm() / exact.norm()))
    assert 1e-4 < errors[0] < errors[1] < 0.5


@pytest.mark.parametrize("name", METHODS)
def test_every_cache_method_rolls_out(name: str) -> None:
    pipe = make_pipeline(window_frames=9, sink_frames=1, rebase_sinks=True)
    exact = generate(pipe, chunks=4, num_inference_steps=1)
    pipe.kv_cache = CacheSetting(METHODS[name])
    latents = generate(pipe, chunks=4, num_inference_steps=1)
    assert torch.equal(latents[:, :, :3], exact[:, :, :3])  # the first chunk has nothing to read
    assert (latents - exact).norm() < exact.norm()


def test_chunks_of_other_sizes_and_schedules() -> None:
    pipe = make_pipeline(chunk_frames=1, window_frames=4, timestep_shift=3.0)
    masked = FullVideo(pipe.transformer, sees_window(4))
    sigmas = [3 * u / (1 + 2 * u) for u in (1.0, 0.6)]
    expected = few_step_rollout(masked, 6, (1, CHANNELS, 1, 4, 6), lambda _: text(), sigmas=sigmas)
    actual = generate(pipe, num_frames=21, denoising_steps=[1000, 600])
    torch.testing.assert_close(actual, expected, **CLOSE)


def test_guidance_keeps_a_cache_for_each_prompt() -> None:
    pipe = make_pipeline(distilled=False, window_frames=6)
    full, scale, steps = FullVideo(pipe.transformer, sees_window(6)), 3.0, 3
    generator = torch.Generator().manual_seed(0)
    clean: list[Tensor] = []
    pipe.scheduler.set_timesteps(steps)
    sigmas = pipe.scheduler.sigmas.tolist()
    for _ in range(3):
        x = torch.randn(SHAPE, generator=generator)
        for sigma, following in itertools.pairwise(sigmas):
            prompts = [[text(seed)] * (len(clean) + 1) for seed in (1, 0)]
            negative, positive = (full(clean, x, 1000 * sigma, embeds) for embeds in prompts)
            x = x + (following - sigma) * (negative + scale * (positive - negative))
        clean.append(x)
    actual = generate(pipe, num_inference_steps=steps, guidance_scale=scale, negative_prompt_embeds=text(1))
    torch.testing.assert_close(actual, torch.cat(clean, 2), **CLOSE)


def test_a_solver_starts_afresh_with_each_chunk() -> None:
    pipe = make_pipeline(distilled=False)
    pipe.scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    full, steps, generator = FullVideo(pipe.transformer), 4, torch.Generator().manual_seed(0)
    clean: list[Tensor] = []
    for _ in range(2):
        fresh = UniPCMultistepScheduler.from_config(pipe.scheduler.config)
        fresh.set_timesteps(steps)
        x = torch.randn(SHAPE, generator=generator)
        for t in fresh.timesteps:
            x = fresh.step(full(clean, x, float(t), [text()] * (len(clean) + 1)), t, x).prev_sample
        clean.append(x)
    actual = generate(pipe, chunks=2, num_inference_steps=steps)
    torch.testing.assert_close(actual, torch.cat(clean, 2), **CLOSE)


def test_a_prompt_may_change_on_the_way() -> None:
    pipe = make_pipeline()
    prompts = [text(0), text(0), text(1), text(2)]
    expected = few_step_rollout(FullVideo(pipe.transformer), 4, SHAPE, lambda chunk: prompts[chunk])
    # latent frame 6 holds frames 21 to 24; frame 33 is the first of chunk 3
    actual = generate(pipe, chunks=4, prompt_switches=[(33, text(2)), (24, text(1))])
    torch.testing.assert_close(actual, expected, **CLOSE)


def test_the_text_is_projected_once_for_each_prompt_and_context() -> None:
    pipe = make_pipeline()
    calls: list[str] = []
    for name, module in pipe.transformer.named_modules():
        if name.endswith("attn2.to_k"):
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    generate(pipe, chunks=4, prompt_switches=[(33, text(2))], guidance_scale=2.0, negative_prompt_embeds=text(1))
    assert sorted(calls) == sorted(["blocks.0.attn2.to_k", "blocks.1.attn2.to_k"] * 3)


@pytest.mark.parametrize("given", [1, 3, 5])
def test_a_given_video_is_read_and_continued(given: int) -> None:
    pipe = make_pipeline(window_frames=7)
    video = torch.rand(1, 4 * (given - 1) + 1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    pixels = 2 * video.transpose(1, 2) - 1
    mean, std = (torch.tensor(x).view(1, -1, 1, 1, 1) for x in (LATENT_MEAN, LATENT_STD))
    with torch.no_grad():
        latents = (pipe.vae.encode(pixels).latent_dist.mean - mean) / std
    short = given % 3
    chunks = [latents[:, :, :short]] * bool(short) + list(latents[:, :, short:].split(3, dim=2))
    masked = FullVideo(pipe.transformer, sees_window(7))
    expected = few_step_rollout(masked, 2, SHAPE, lambda _: text(), given=[x for x in chunks if x.shape[2]])
    frames = num_frames(2, given)
    continued = generate(pipe, num_frames=frames, video=video)
    torch.testing.assert_close(continued, expected, **CLOSE)
    if given == 1:
        assert torch.equal(generate(pipe, num_frames=frames, image=video[0]), continued)


def test_a_rollout_goes_on_behind_the_table_of_positions() -> None:
    pipe = make_pipeline(window_frames=6)
    assert pipe.transformer.rope.freqs_cos.shape[0] == ROPE_FRAMES
    assert generate(pipe, chunks=8).isfinite().all()


def test_two_prompts_in_a_row_are_two_fresh_pipelines() -> None:
    pipe = make_pipeline(window_frames=6)
    for seed in (0, 1):
        again = generate(pipe, seed=seed, prompt_embeds=text(seed))
        assert torch.equal(again, generate(make_pipeline(window_frames=6), seed=seed, prompt_embeds=text(seed)))


def test_a_longer_video_begins_as_a_shorter_one() -> None:
    pipe = make_pipeline()
    assert torch.equal(generate(pipe, chunks=3)[:, :, :6], generate(pipe, chunks=2))


def test_a_batch_is_its_videos_one_by_one() -> None:
    pipe = make_pipeline(window_frames=6)
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    batch = generate(pipe, prompt_embeds=torch.cat([text(0), text(1)]), generator=generators)
    for row in (0, 1):
        torch.testing.assert_close(batch[row : row + 1], generate(pipe, seed=row, prompt_embeds=text(row)), **CLOSE)


def test_given_noise_is_where_the_chunks_start() -> None:
    pipe = make_pipeline()
    noise = torch.randn(1, CHANNELS, 6, 4, 6, generator=torch.Generator().manual_seed(7))
    starts = iter(noise.split(3, dim=2))
    seen: list[Tensor] = []

    def keep_first(_: Any, step: int, timestep: Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append(tensors["latents"])
        return {}

    generate(pipe, chunks=2, latents=noise, num_inference_steps=1, callback_on_step_end=keep_first)
    full, clean = FullVideo(pipe.transformer), []
    for x0 in seen:
        start = next(starts)
        torch.testing.assert_close(x0, start - full(clean, start, 1000.0, [text()] * (len(clean) + 1)), **CLOSE)
        clean.append(x0)


def blocks_called(pipe: SelfForcingWanPipeline, **options: Any) -> tuple[int, Tensor]:
    calls: list[int] = []
    handle = pipe.transformer.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    latents = generate(pipe, **options)
    handle.remove()
    return len(calls), latents


def test_a_step_may_repeat_what_the_blocks_added() -> None:
    pipe = make_pipeline()
    plain_calls, plain = blocks_called(pipe, chunks=2)
    assert plain_calls == 2 * 4 + 1
    for threshold, reused in ((0.0, 0), (1e9, 1)):
        rule = StepReuse(threshold=threshold, most_per_chunk=1)
        pipe.kv_cache = CacheSetting(replace(METHODS["bf16"], step_reuse=rule))
        calls, latents = blocks_called(pipe, chunks=2)
        assert calls == plain_calls - 2 * reused
        assert torch.allclose(latents, plain, atol=1e-5) == (reused == 0)


class Doubling(nn.Module):
    def forward(self, hidden_states: Tensor, text: Tensor) -> Tensor:
        return 2 * hidden_states


def test_a_repeated_residual_is_that_of_the_last_computed_step() -> None:
    stack = ReusingBlocks(StepReuse(threshold=1e9), nn.ModuleList([Doubling()]))
    first, second, text_tokens = torch.randn(3, 1, 18, 32).unbind()
    stack.begin_step("cond", 0)
    torch.testing.assert_close(stack(first, text_tokens), 2 * first)
    stack.begin_step("cond", 1)
    torch.testing.assert_close(stack(second, text_tokens), second + first)
    stack.begin_step("cond", None)
    torch.testing.assert_close(stack(second, text_tokens), 2 * second)
    stack.begin_step("uncond", 1)
    torch.testing.assert_close(stack(second, text_tokens), 2 * second)


@pytest.mark.parametrize("reuse", [False, True])
def test_the_transformer_is_as_it_was_after_calls_errors_and_pauses(reuse: bool) -> None:
    pipe = make_pipeline()
    if reuse:
        pipe.kv_cache = CacheSetting(METHODS["flowcache_native"])
    transformer = pipe.transformer
    with transformer.cache_context("cond"):
        pass  # leaves an empty registry of hooks, as the stock pipeline does
    before, weights = fingerprint(transformer), copy.deepcopy(transformer.state_dict())

    def fail(*_: Any) -> dict[str, Any]:
        assert fingerprint(transformer) != before
        raise RuntimeError("stop")

    generate(pipe, chunks=1)
    assert fingerprint(transformer) == before
    with pytest.raises(RuntimeError, match="stop"):
        generate(pipe, callback_on_step_end=fail)
    assert fingerprint(transformer) == before
    stream = pipe.stream(prompt_embeds=text(), num_frames=num_frames(2), output_type="latent")
    next(stream)
    assert fingerprint(transformer) == before
    after = transformer.state_dict()
    assert weights.keys() == after.keys()
    assert all(torch.equal(weights[name], after[name]) for name in weights)


def test_an_attention_of_someone_else_is_refused() -> None:
    class Other(WanAttnProcessor):
        pass

    pipe = make_pipeline()
    pipe.transformer.blocks[1].attn1.processor = other = Other()
    with pytest.raises(ValueError, match=r"blocks\.1\.attn1 has a Other, .* pipe.disable_acceleration"):
        generate(pipe)
    assert pipe.transformer.blocks[1].attn1.processor is other

"""Parts of a rollout on their own: noise levels, positions, chunks, the plain cache, checkpoints."""

import math
from decimal import Decimal, getcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tiny_rollouts import LAYERS, tiny_transformer
from torch import Tensor, nn

from hasten.kernels.paged import paged_attention
from hasten.pipelines.kv_cache import Window
from hasten.pipelines.self_forcing import convert_self_forcing_weights, load_self_forcing_weights
from hasten.pipelines.self_forcing.chunks import Chunk, frames_of, latent_frames_of, plan_chunks
from hasten.pipelines.self_forcing.rolling import RollingCache
from hasten.pipelines.self_forcing.rotary import TokenBlock, rotation
from hasten.pipelines.self_forcing.schedule import even_steps, few_steps
from hasten.pipelines.self_forcing.text import TextCache, TextKeysAndValues

BLOCK = TokenBlock(frames=2, rows=2, columns=3)


def test_the_published_steps_are_entries_of_the_shifted_table() -> None:
    unshifted = [1 - index / 1000 for index in range(1000)]
    table = [5 * u / (1 + 4 * u) for u in unshifted]
    expected = [1000 * table[1000 - step] for step in (1000, 750, 500, 250)]
    assert even_steps(4) == (1000, 750, 500, 250)
    timesteps = few_steps(even_steps(4), shift=5.0).begin_chunk(torch.device("cpu"))
    assert timesteps.tolist() == pytest.approx(expected)
    assert timesteps.tolist() == pytest.approx([1000, 937.5, 833.3333, 625])


def test_the_last_step_gives_the_clean_chunk_and_draws_nothing() -> None:
    sampler = few_steps((1000, 500), shift=1.0)
    clean, noise = torch.randn(2, 1, 4, 3, 2, 2)
    generator = torch.Generator().manual_seed(0)
    noisy = sampler.step(0, noise - clean, noise, generator)
    fresh = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(noisy, 0.5 * clean + 0.5 * fresh)
    drawn = generator.get_state()
    torch.testing.assert_close(sampler.step(1, fresh - clean, noisy, generator), clean)
    assert torch.equal(generator.get_state(), drawn)


@pytest.mark.parametrize("shift", [0, -1.0])
def test_a_shift_is_positive(shift: float) -> None:
    with pytest.raises(ValueError, match=f"timestep_shift is {shift}; give a number above 0"):
        few_steps((1000,), shift)


@pytest.mark.parametrize("first_frame", [0, 3])
def test_positions_are_the_stock_ones_as_far_as_those_go(first_frame: int) -> None:
    rope = tiny_transformer(rope_max_seq_len=16).rope
    cosine, sine = rope(torch.zeros(1, 4, first_frame + BLOCK.frames, 2 * BLOCK.rows, 2 * BLOCK.columns))
    ours = rotation(16, BLOCK, first_frame)
    behind = first_frame * BLOCK.frame_tokens
    assert torch.equal(ours.cosine, cosine[0, behind:, 0, 0::2])
    assert torch.equal(ours.sine, sine[0, behind:, 0, 1::2])


def test_positions_are_exact_a_million_frames_in() -> None:
    getcontext().prec = 40
    tau = 2 * Decimal("3.141592653589793238462643383279502884197")
    frame, time_channels = 1_000_003, 8  # of 16 channels
    ours = rotation(16, TokenBlock(1, 1, 1), frame)
    for pair in range(time_channels // 2):
        angle = float(frame * Decimal(10_000) ** (Decimal(-2 * pair) / time_channels) % tau)
        assert float(ours.cosine[0, pair]) == pytest.approx(math.cos(angle), abs=1e-7)
        assert float(ours.sine[0, pair]) == pytest.approx(math.sin(angle), abs=1e-7)


def test_scores_depend_on_distance_alone_wherever_the_frames_are() -> None:
    query, key = torch.randn(2, 1, 2, BLOCK.frame_tokens * BLOCK.frames, 16)
    scores = [
        rotation(16, BLOCK, start + 5)(query) @ rotation(16, BLOCK, start)(key).mT for start in (-7, 0, 5000, 1_000_000)
    ]
    for other in scores[1:]:
        torch.testing.assert_close(other, scores[0], atol=1e-5, rtol=1e-5)
    assert (scores[0] - query @ key.mT).abs().max() > 0.1


def test_a_rotation_keeps_the_dtype_and_leaves_its_input_alone() -> None:
    heads = torch.randn(1, 2, 12, 16).bfloat16()
    before = heads.clone()
    assert rotation(16, BLOCK, 3)(heads).dtype == torch.bfloat16
    assert torch.equal(heads, before)


def test_chunks_follow_each_other_and_given_ones_begin_with_the_short_one() -> None:
    assert plan_chunks(0, 6, 3) == (Chunk(0, 3, given=False), Chunk(3, 3, given=False))
    assert plan_chunks(1, 4, 3) == (Chunk(0, 1, given=True), Chunk(1, 3, given=False))
    given_frames = [(chunk.first_frame, chunk.frames) for chunk in plan_chunks(5, 8, 3) if chunk.given]
    assert given_frames == [(0, 2), (2, 3)]


@given(st.integers(1, 200), st.integers(0, 7), st.integers(1, 5), st.sampled_from([1, 4]))
@settings(deadline=None, max_examples=50)
def test_numbers_of_frames_are_valid_or_the_nearest_valid_ones_are_named(
    num_frames: int, given_frames: int, chunk: int, stride: int
) -> None:
    valid = [frames_of(given_frames + chunk * count, stride) for count in range(1, 300)]
    if num_frames in valid:
        assert frames_of(latent_frames_of(num_frames, given_frames, chunk, stride), stride) == num_frames
        return
    nearest = [number for number in valid if number < num_frames][-1:] + [x for x in valid if x > num_frames][:1]
    with pytest.raises(ValueError, match=rf"num_frames={num_frames} .* {' and '.join(map(str, nearest))}\.$"):
        latent_frames_of(num_frames, given_frames, chunk, stride)


@pytest.mark.parametrize(("frames", "sinks"), [(9, 0), (9, 2), (7, 0), (5, 2), (4, 0), (3, 0)])
def test_the_plain_cache_holds_the_sinks_and_the_newest_frames_in_order(frames: int, sinks: int) -> None:
    window = Window(frames, sinks, chunk_frames=3)
    cache = RollingCache(1, window)
    cache.begin(2, 2, 16, 4, torch.float32, "cpu")
    keys, values, queries = torch.randn(3, 2, 2, 12 * 4, 16)
    for chunk in range(4):
        part = slice(chunk * 12, chunk * 12 + 12)
        cache.layer(0).update(keys[:, :, part], values[:, :, part])
        written = 3 * (chunk + 1)
        kept = [frame for frame in range(written) if frame < sinks or frame >= written - (window.pages - sinks)]
        tokens = torch.tensor([frame * 4 + token for frame in kept for token in range(4)], dtype=torch.long)
        segments = cache.layer(0).get()
        stored = [segment.pool.read(list(segment.slots)) for segment in segments]
        for all_of, parts in zip((keys, values), zip(*stored, strict=True), strict=False):
            assert torch.equal(torch.cat(parts, 2), all_of[:, :, tokens])
        by_sinks = paged_attention(queries, cache.layer(0).get(sink_query=queries))
        torch.testing.assert_close(by_sinks, paged_attention(queries, segments))
    assert cache.nbytes == 2 * window.pages * 2 * 2 * 4 * 16 * 4
    cache.reset()
    assert cache.nbytes == 0


def test_text_is_kept_for_each_context_until_it_is_forgotten() -> None:
    text, asked = TextCache(), []

    def project() -> TextKeysAndValues:
        asked.append(1)
        return TextKeysAndValues(torch.zeros(1, 8, 2, 16), torch.zeros(1, 8, 2, 16))

    for context, layer in [("cond", 0), ("cond", 1), ("uncond", 0), ("cond", 0)]:
        text.get(context, layer, project)
    assert len(asked) == 3
    assert text.nbytes == 3 * 2 * 8 * 2 * 16 * 4
    text.forget("cond")
    text.get("uncond", 0, project)
    text.get("cond", 0, project)
    assert len(asked) == 4
    text.reset()
    assert text.nbytes == 0


def original_names() -> dict[str, str]:
    """Every parameter of the transformer in diffusers' name and in that of the original Wan code."""
    pairs = {
        "patch_embedding": "patch_embedding",
        "condition_embedder.text_embedder.linear_1": "text_embedding.0",
        "condition_embedder.text_embedder.linear_2": "text_embedding.2",
        "condition_embedder.time_embedder.linear_1": "time_embedding.0",
        "condition_embedder.time_embedder.linear_2": "time_embedding.2",
        "condition_embedder.time_proj": "time_projection.1",
        "proj_out": "head.head",
    }
    for layer in range(LAYERS):
        ours, theirs = f"blocks.{layer}", f"blocks.{layer}"
        for attention, original in (("attn1", "self_attn"), ("attn2", "cross_attn")):
            for part, letter in (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "o")):
                pairs[f"{ours}.{attention}.{part}"] = f"{theirs}.{original}.{letter}"
            for norm in ("norm_q", "norm_k"):
                pairs[f"{ours}.{attention}.{norm}"] = f"{theirs}.{original}.{norm}"
        pairs[f"{ours}.norm2"] = f"{theirs}.norm3"
        pairs[f"{ours}.ffn.net.0.proj"] = f"{theirs}.ffn.0"
        pairs[f"{ours}.ffn.net.2"] = f"{theirs}.ffn.2"
    names = {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in pairs.items() for kind in ("weight", "bias")}
    names = {ours: theirs for ours, theirs in names.items() if not ("norm_" in ours and ours.endswith("bias"))}
    tables = {f"blocks.{layer}.scale_shift_table": f"blocks.{layer}.modulation" for layer in range(LAYERS)}
    return {**names, **tables, "scale_shift_table": "head.modulation"}


def original_weights(transformer: nn.Module, seed: int = 0, wrapper: str = "") -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    names = {ours: theirs.replace("blocks.", f"{wrapper}blocks.") for ours, theirs in original_names().items()}
    state = transformer.state_dict()
    return {f"model.{names[name]}": torch.randn(state[name].shape, generator=generator) for name in state}


def loaded(transformer: nn.Module, weights: dict[str, Tensor]) -> bool:
    state, names = transformer.state_dict(), original_names()
    bare = {name.replace("_fsdp_wrapped_module.", "").removeprefix("model."): x for name, x in weights.items()}
    return all(torch.equal(state[name], bare[names[name]]) for name in state)


def checkpoint(transformer: nn.Module) -> dict[str, Any]:
    parts = {"generator": 0, "generator_ema": 1, "critic": 2}
    return {
        part: original_weights(transformer, seed, "_fsdp_wrapped_module." if part == "generator_ema" else "")
        for part, seed in parts.items()
    }


def test_an_original_checkpoint_is_loaded_by_its_moving_average_first(tmp_path: Path) -> None:
    transformer = tiny_transformer()
    content = checkpoint(transformer)
    torch.save(content, tmp_path / "self_forcing.pt")
    load_self_forcing_weights(transformer, tmp_path / "self_forcing.pt")
    assert loaded(transformer, content["generator_ema"])
    load_self_forcing_weights(transformer, content, weights="generator")
    assert loaded(transformer, content["generator"])
    assert set(content) == {"generator", "generator_ema", "critic"}
    assert "model.blocks.0.self_attn.q.weight" in content["generator"]


def test_parameters_without_parts_are_a_checkpoint_too(tmp_path: Path) -> None:
    transformer = tiny_transformer()
    weights = original_weights(transformer)
    save_file(weights, tmp_path / "generator.safetensors")
    load_self_forcing_weights(transformer, str(tmp_path / "generator.safetensors"))
    assert loaded(transformer, weights)
    assert convert_self_forcing_weights(weights).keys() == transformer.state_dict().keys()


def test_weights_take_the_dtype_of_the_transformer() -> None:
    transformer = tiny_transformer().bfloat16()
    load_self_forcing_weights(transformer, checkpoint(tiny_transformer()))
    assert {parameter.dtype for parameter in transformer.parameters()} == {torch.bfloat16}


def test_everything_that_does_not_fit_is_named_and_nothing_is_loaded() -> None:
    transformer = tiny_transformer()
    before = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    weights = original_weights(transformer)
    del weights["model.blocks.1.ffn.2.bias"], weights["model.head.modulation"]
    weights["model.blocks.0.self_attn.extra"] = torch.zeros(1)
    weights["model.patch_embedding.bias"] = torch.zeros(3)
    sentence = (
        r"missing: blocks\.1\.ffn\.net\.2\.bias, scale_shift_table; unknown: blocks\.0\.attn1\.extra; "
        r"of another shape: patch_embedding\.bias\); load it"
    )
    with pytest.raises(ValueError, match=sentence):
        load_self_forcing_weights(transformer, {"generator": weights})
    after = transformer.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_part_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="has no weights 'generator_ema' but generator; choose one that it has"):
        convert_self_forcing_weights({"generator": {}}, weights="generator_ema")

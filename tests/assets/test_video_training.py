"""The video recipes: their parts agree with the pipelines that run the result, and a toy passes from end to end."""

import sys
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline
from torch import Tensor, nn

from hasten.assets import read_card
from hasten.assets.recipes.common.learner import Learner, Stage, adam, run_stages
from hasten.assets.recipes.common.publishing import fingerprint
from hasten.assets.recipes.emoji_image.render import mipmaps
from hasten.assets.recipes.emoji_rollout import __main__ as rollout_recipe
from hasten.assets.recipes.emoji_rollout.causal import CausalTransformer
from hasten.assets.recipes.emoji_video import __main__ as video_recipe
from hasten.assets.recipes.emoji_video import attention, autoencoder, reading, train
from hasten.assets.recipes.emoji_video.glances import look_back
from hasten.assets.recipes.emoji_video.model import build_text_encoder, build_tokenizer, build_transformer
from hasten.assets.recipes.emoji_video.parts import artwork
from hasten.assets.recipes.emoji_video.scenes import MOTIONS, THINGS
from hasten.pipelines.self_forcing import SelfForcingWanPipeline

CAPTION = "a rocket moving up on a blue background"


@pytest.fixture
def transformer() -> nn.Module:
    torch.manual_seed(0)
    transformer = build_transformer(heads=1, layers=2)
    nn.init.normal_(transformer.proj_out.weight, std=0.05)
    return transformer


@pytest.fixture(scope="module")
def maps() -> list[Tensor]:
    return mipmaps(artwork(3, Path(), bundled=True), levels=2)


def test_every_word_of_a_caption_is_one_token() -> None:
    tokenizer = build_tokenizer()
    words = " ".join([*THINGS, *MOTIONS.values(), "a an on background red"]).split()
    assert [word for word in words if len(tokenizer(word).input_ids) != 2] == []


def test_training_attention_is_the_stock_attention(transformer: nn.Module) -> None:
    call = {"timestep": torch.tensor([3.0, 500.0]), "encoder_hidden_states": torch.randn(2, 16, 128)}
    latents = torch.randn(2, 16, 2, 4, 4)
    stock = transformer(latents, **call).sample
    attention.prepare(transformer)
    assert (transformer(latents, **call).sample - stock).abs().max() < 1e-5


def test_every_word_of_a_caption_comes_to_say_which_way_things_move(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BATCH", 32)
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    text_encoder = build_text_encoder(len(tokenizer))
    assert reading.learn_to_read(text_encoder, tokenizer, things=8, steps=60) < 0.05
    outputs = []
    for motion in ("left", "right"):
        tokens = tokenizer(f"a cat moving {motion} on a red background", return_tensors="pt")
        with torch.no_grad():
            outputs.append(text_encoder(tokens.input_ids, tokens.attention_mask)[0][0])
    assert ((outputs[0] - outputs[1]).norm(dim=-1) > 0.4 * outputs[0].norm(dim=-1)).all()


def test_a_head_for_each_direction_begins_by_looking_where_its_thing_was() -> None:
    torch.manual_seed(0)
    transformer = build_transformer(heads=4, layers=2)
    look_back(transformer, pixels=128)
    layer, states = transformer.blocks[1].attn1, 0.1 * torch.randn(1, 192, 256)
    rotation = transformer.rope(torch.zeros(1, 16, 3, 16, 16))
    query, key, _ = attention.heads_first(layer, states, states)
    query, key = attention.rotate(query, rotation), attention.rotate(key, rotation)
    middle = 2 * 64 + 4 * 8 + 4  # frame 2, row 4, column 4
    looked_at = (query[0, middle, :, None] * key[0].transpose(0, 1)).sum(-1).argmax(-1).tolist()
    # things move by one token a latent frame: one that moves left, right, up, down was right, left, below, above
    assert looked_at == [64 + 4 * 8 + 5, 64 + 4 * 8 + 3, 64 + 5 * 8 + 4, 64 + 3 * 8 + 4]


def test_a_bias_stands_for_any_number_of_pads(transformer: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = build_tokenizer()
    text_encoder = build_text_encoder(len(tokenizer))
    latents, timestep = torch.randn(1, 16, 1, 4, 4), torch.tensor([500.0])
    pipe = WanPipeline(tokenizer, text_encoder, autoencoder.build(), FlowMatchEulerDiscreteScheduler(), transformer)
    text, _ = pipe.encode_prompt(CAPTION, do_classifier_free_guidance=False, max_sequence_length=90)
    padded = transformer(latents, timestep, text).sample
    reader = train.Reader(tokenizer, text_encoder, transformer)
    monkeypatch.setattr(torch, "rand", lambda *_: torch.zeros(1, 1))
    monkeypatch.setattr(train, "round", lambda _: 90, raising=False)
    tokens = tokenizer([CAPTION], padding="max_length", max_length=16, return_tensors="pt")
    short = reader(tokens.input_ids, tokens.attention_mask, dropout=0.0)
    assert short.shape == (1, 16, 128)
    assert (transformer(latents, timestep, short).sample - padded).abs().max() < 1e-5


def test_the_causal_transformer_makes_what_the_pipeline_makes(transformer: nn.Module) -> None:
    tokenizer = build_tokenizer()
    text_encoder = build_text_encoder(len(tokenizer))
    pipe = SelfForcingWanPipeline(
        tokenizer, text_encoder, autoencoder.build(), FlowMatchEulerDiscreteScheduler(), transformer,
        window_frames=9, sample_height=32, sample_width=32, max_sequence_length=16,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    noise, generator = torch.randn(1, 16, 12, 4, 4), torch.Generator().manual_seed(1)
    video = pipe(CAPTION, num_frames=45, latents=noise, generator=generator, output_type="latent").frames
    text, _ = pipe.encode_prompt(CAPTION, do_classifier_free_guidance=False, max_sequence_length=16)

    generator.manual_seed(1)
    attention.prepare(transformer)
    model, sigmas = CausalTransformer(transformer), (1.0, 0.9375, 5 / 6, 0.625)
    made = []
    with torch.no_grad():
        for chunk, latents in enumerate(noise.split(3, dim=2)):
            for index, sigma in enumerate(sigmas):
                clean = latents - sigma * model(latents, torch.tensor([1000 * sigma]), text, 3 * chunk)
                later = sigmas[index + 1] if index < 3 else 0.0
                fresh = torch.randn(clean.shape, generator=generator) if later else 0.0
                latents = (1 - later) * clean + later * fresh
            model(latents, torch.zeros(1), text, 3 * chunk, write=True)
            model.forget(keep=2)
            made.append(latents)
    assert (torch.cat(made, dim=2) - video).abs().max() < 1e-5
    assert video.std() > 0.1


def test_a_causal_transformer_becomes_a_stock_one_again(transformer: nn.Module) -> None:
    latents, text = torch.randn(1, 16, 2, 4, 4), torch.randn(1, 16, 128)
    before, names = transformer(latents, torch.tensor([5.0]), text).sample, list(transformer.state_dict())
    model = CausalTransformer(transformer)
    attention.prepare(transformer)
    assert list(transformer.state_dict()) == names
    assert torch.equal(model.stock()(latents, torch.tensor([5.0]), text).sample, before)


def test_long_scenes_repeat() -> None:
    latents = torch.arange(24, dtype=torch.float16).view(2, 1, -1, 1, 1)
    pool = train.Pool(latents, latents, latents)
    assert pool.frames_at(torch.tensor([0]), 9, 12).flatten().tolist() == [9, 10, 11, 4, 5, 6, 7, 8, 9, 10, 11, 4]
    assert pool.frames_at(torch.tensor([1]), 27, 2).flatten().tolist() == [23, 16]


def test_unclamped_decoding_is_decoding_before_the_clamp(maps: list[Tensor]) -> None:
    torch.manual_seed(0)
    vae = autoencoder.build()
    latents = 3 * torch.randn(1, 16, 3, 4, 4)
    with torch.no_grad():
        assert torch.equal(autoencoder._decode(vae, latents).clamp(-1, 1), vae.decode(latents).sample)


def test_key_pictures_are_every_fourth_frame_made_small() -> None:
    clip = torch.rand(1, 3, 5, 16, 24)
    keys = autoencoder.key_pictures(clip)
    assert keys.shape == (1, 12, 2, 2, 3)
    # channel 4 of a 2 x 2 block's first corner is green; latent (1, 2) covers rows 8 to 15 and columns 16 to 23
    assert keys[0, 4, 1, 1, 2] == pytest.approx(clip[0, 1, 4, 8:12, 16:20].mean().item())
    assert keys[0, 7, 1, 1, 2] == pytest.approx(clip[0, 1, 4, 12:16, 20:24].mean().item())


def test_normalised_latents_have_unit_pictures_and_smaller_details(maps: list[Tensor]) -> None:
    torch.manual_seed(0)
    vae = autoencoder.build()
    autoencoder.normalise_latents(vae, maps, clips=4)
    crops = autoencoder.Lessons(vae, maps)._crops()
    latents = autoencoder.encode(vae, crops).transpose(0, 1).flatten(1)
    assert latents[: autoencoder.PICTURE_CHANNELS].std() == pytest.approx(1.0, abs=0.5)
    assert latents[autoencoder.PICTURE_CHANNELS :].std() == pytest.approx(autoencoder.DETAIL_STD, abs=0.3)


def test_stages_resume_where_they_stopped_and_end_with_the_average(tmp_path: Path) -> None:
    def learner() -> tuple[Learner, nn.Linear]:
        torch.manual_seed(0)
        layer = nn.Linear(2, 1)
        return Learner({"layer": layer}, adam(layer.parameters(), 1e-2)), layer

    calls: list[str] = []

    def lesson(name: str, layer: nn.Linear) -> Tensor:
        calls.append(name)
        return layer(torch.ones(1, 2)).square().mean()

    first, layer = learner()
    stages = [Stage("one", 0.5, 1.0, 0.5), Stage("two", 0.5, 0.5, 0.1)]
    run_stages(first, [(stages[0], lambda: lesson("one", layer))], 0.2, tmp_path / "checkpoint")
    assert torch.equal(layer.weight, first.average[0])
    steps = first.step
    assert steps == len(calls) > 1

    calls.clear()
    second, layer = learner()
    both = [(stage, lambda name=stage.name: lesson(name, layer)) for stage in stages]
    run_stages(second, both, 0.2, tmp_path / "checkpoint")
    assert set(calls) == {"two"}
    assert second.step == steps + len(calls)


def _run(recipe: object, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["recipe", "--smoke", "--minutes", "0.01", *arguments])
    recipe.main()  # type: ignore[attr-defined]


def _traces(model: Path, *folders: Path) -> list[str]:
    """Configurations of a saved pipeline that name one of `folders`."""
    configs = [path for path in model.rglob("*") if path.suffix in (".json", ".md")]
    return [path.name for path in configs if any(str(folder) in path.read_text() for folder in folders)]


def test_both_recipes_pass_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video, rollout = tmp_path / "video", tmp_path / "rollout"
    prompts = tmp_path / "prompts.jsonl"
    _run(video_recipe, monkeypatch, "--out", str(video), "--work", str(tmp_path / "work"), "--prompts", str(prompts))
    pipe = WanPipeline.from_pretrained(video)
    pipe.set_progress_bar_config(disable=True)
    for frames in (1, 5):
        call = {"height": 64, "width": 64, "num_frames": frames, "num_inference_steps": 1, "output_type": "pt"}
        assert pipe(CAPTION, **call).frames.shape == (1, frames, 3, 64, 64)
    assert len(prompts.read_text().splitlines()) == 1
    assert "| 9 | 1 |" in (video / "README.md").read_text()

    more = tmp_path / "more"
    _run(video_recipe, monkeypatch, "--start", str(video), "--out", str(more), "--work", str(tmp_path / "more-work"))
    before, after = read_card(video)["training"], read_card(more)["training"]
    assert after["steps"] > before["steps"]
    assert after["command"].startswith(before["command"])
    assert _traces(more, tmp_path) == []

    _run(rollout_recipe, monkeypatch, "--base", str(video), "--out", str(rollout), "--work", str(tmp_path / "work"))
    pipe = SelfForcingWanPipeline.from_pretrained(rollout)
    pipe.set_progress_bar_config(disable=True)
    assert pipe(CAPTION, num_frames=9, output_type="pt").frames.shape == (1, 9, 3, 64, 64)
    assert "| 4 |" in (rollout / "README.md").read_text()
    assert _traces(rollout, tmp_path) == []


def test_a_fingerprint_tells_weights_apart_but_not_how_they_are_stored() -> None:
    layer = nn.Linear(3, 2)
    told = fingerprint(layer)
    assert fingerprint(layer.bfloat16()) == told
    with torch.no_grad():
        layer.bias += 1
    assert fingerprint(layer) != told

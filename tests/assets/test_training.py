"""The recipe's parts on a few icons: they learn, resume, and save what stock diffusers loads."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import PixArtSigmaPipeline

from hasten.app.metrics.caption_accuracy import icons
from hasten.assets import model_path
from hasten.assets.recipes.common.learner import Learner, Stage, run_stages
from hasten.assets.recipes.emoji_image import __main__ as recipe
from hasten.assets.recipes.emoji_image import autoencoder, drafts, reading, routing, spelling
from hasten.assets.recipes.emoji_image.concepts import ICONS
from hasten.assets.recipes.emoji_image.model import (
    MAX_TOKENS,
    PARTS,
    TEXT_WIDTH,
    assemble,
    build_text_encoder,
    build_tokenizer,
    build_transformer,
    set_resolution,
)
from hasten.assets.recipes.emoji_image.progress import Clock, cosine
from hasten.assets.recipes.emoji_image.render import mipmaps
from hasten.assets.recipes.emoji_image.scenes import LAYOUTS, Scene
from hasten.assets.recipes.emoji_image.train import Lessons, Size, cut, encode_pool, make_learner

CONCEPTS = tuple(ICONS)[:4]


@pytest.fixture(scope="module")
def maps() -> list[torch.Tensor]:
    _, levels = icons(model_path("emoji-image"))
    return [level[:4] for level in levels]


@pytest.fixture(scope="module")
def vae(maps: list[torch.Tensor]) -> autoencoder.AutoencoderKL:
    torch.manual_seed(0)
    return autoencoder.build()


def test_normalising_latents_changes_them_but_not_the_picture(maps: list[torch.Tensor]) -> None:
    torch.manual_seed(0)
    vae = autoencoder.build().eval()
    pictures = autoencoder._crops(maps, 4, random.Random(0), torch.device("cpu"))
    with torch.no_grad():
        before = vae.encode(pictures).latent_dist.mean
        drawn = vae.decode(before).sample
        autoencoder.normalise_latents(vae, maps, 4)
        latents = vae.encode(pictures).latent_dist.mean
        assert (vae.decode(latents).sample - drawn).abs().max() < 1e-3
    assert (latents - before).abs().max() > 0.1
    assert latents[:, : autoencoder.COLOUR_CHANNELS].std() == pytest.approx(1, abs=0.5)


class StepClock(Clock):
    """Counts steps for seconds, as a slow machine may not take one in time."""

    def ticks(self) -> Iterator[float]:
        while self.spent < self.budget:
            yield self.spent / self.budget
            self.spent += 1


@pytest.mark.parametrize("decoder_only", [False, True])
def test_the_autoencoder_resumes(decoder_only: bool, maps: list[torch.Tensor], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(autoencoder, "CHECKPOINT_EVERY", 0.0)
    monkeypatch.setattr(autoencoder, "BATCH", 2)
    torch.manual_seed(0)
    vae, checkpoint = autoencoder.build(), tmp_path / "autoencoder.ckpt"
    encoder = [parameter.clone() for parameter in vae.encoder.parameters()]
    latents = torch.randn(1, autoencoder.LATENT_CHANNELS, 24, 24)
    drawn = (latents.half(), torch.rand(1, 3, 192, 192).half()) if decoder_only else None
    autoencoder.train(vae, maps, 4, StepClock(3), checkpoint, decoder_only=decoder_only, drafts=drawn)
    unchanged = all(torch.equal(a, b) for a, b in zip(encoder, vae.encoder.parameters(), strict=True))
    assert unchanged == decoder_only
    steps = torch.load(checkpoint)["step"]
    clock = StepClock(6)
    autoencoder.train(autoencoder.build(), maps, 4, clock, checkpoint, decoder_only=decoder_only)
    assert torch.load(checkpoint)["step"] > steps > 0
    assert clock.spent == 6


def test_drafts_are_near_the_pictures_that_they_should_be(
    vae: autoencoder.AutoencoderKL, maps: list[torch.Tensor]
) -> None:
    tokenizer = build_tokenizer(CONCEPTS)
    torch.manual_seed(0)
    parts = build_transformer(heads=1, layers=1), build_text_encoder(len(tokenizer))
    latents, pictures = drafts.make_drafts(vae, *parts, tokenizer, maps, CONCEPTS, count=6)
    assert latents.shape == (8, autoencoder.LATENT_CHANNELS, 24, 24)
    assert pictures.shape == (8, 3, 192, 192)
    with torch.no_grad():
        clean = vae.encode(pictures.float()).latent_dist.mean
    # an untrained transformer takes no noise away, so that what is left of the picture is the rest of it
    same = torch.nn.functional.cosine_similarity(latents.float().flatten(1), clean.flatten(1))
    other = torch.nn.functional.cosine_similarity(latents.float().flatten(1), clean.roll(1, 0).flatten(1))
    assert same.mean() > 1.2 * other.mean()


def test_the_decoder_sees_drafts_with_what_they_should_be() -> None:
    pictures = torch.arange(2 * 192 * 192).view(2, 1, 192, 192).expand(-1, 3, -1, -1).float()
    latents, targets = autoencoder._crops_of_drafts((pictures[:, :1, ::8, ::8], pictures), 5)
    assert latents.shape == (5, 1, 8, 8)
    assert torch.equal(latents[:, 0], targets[:, 0, ::8, ::8])


def test_the_transformer_learns_resumes_and_loads(
    vae: autoencoder.AutoencoderKL, maps: list[torch.Tensor], tmp_path: Path
) -> None:
    tokenizer = build_tokenizer(CONCEPTS)
    pool = encode_pool(vae, maps, CONCEPTS, tokenizer, Size(64, 6, 2, 1.0), tmp_path)
    assert pool[0].shape == (6, autoencoder.LATENT_CHANNELS, 8, 8)
    stage, checkpoint = Stage("64px", 1.0, 1.0, 0.5, 0.9), tmp_path / "transformer.ckpt"

    def train(seconds: float) -> Learner:
        torch.manual_seed(0)
        parts = build_text_encoder(len(tokenizer)), build_transformer(heads=1, layers=2)
        learner = make_learner(parts[1], parts[0])
        lessons = Lessons(tokenizer, *parts, {64: pool})
        run_stages(learner, [(stage, lessons.draw([Size(64, 6, 2, 1.0)]))], seconds, checkpoint)
        return learner

    first = train(1.0)
    resumed = train(2.0)
    assert resumed.step > first.step > 0
    transformer = resumed.modules["transformer"]
    assert (transformer.proj_out.weight != 0).any()  # it begins with zeros
    assemble(tokenizer, build_text_encoder(len(tokenizer)), transformer, vae).save_pretrained(tmp_path / "model")
    loaded = PixArtSigmaPipeline.from_pretrained(tmp_path / "model")
    loaded.set_progress_bar_config(disable=True)
    image = loaded(
        "a heart on a red background", height=64, width=64, num_inference_steps=2, use_resolution_binning=False,
        clean_caption=False,
    ).images[0]  # fmt: skip
    assert image.size == (64, 64)


def test_a_model_of_another_layout_is_not_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoder, "LATENT_CHANNELS", 7)
    with pytest.raises(SystemExit, match=r"latent channels, but this recipe trains models with 7; start from"):
        recipe._go_on(model_path("emoji-image"), CONCEPTS, torch.device("cpu"))


def test_every_word_of_a_caption_is_known() -> None:
    tokenizer = build_tokenizer(tuple(ICONS))
    words = ["a", "small", "on", "the", "left", "checkered", "background"]
    assert [word for word in words if len(tokenizer(word).input_ids) != 2] == []
    assert [name for name in ICONS if len(tokenizer(name).input_ids) != PARTS + 1] == []


def test_position_tables_match_what_the_model_computes() -> None:
    transformer = build_transformer(heads=1, layers=1)
    latents = torch.randn(1, autoencoder.LATENT_CHANNELS, 8, 8)
    computed = transformer.pos_embed(latents)
    set_resolution(transformer, 64)
    assert torch.allclose(transformer.pos_embed(latents), computed)


def test_a_paused_clock_counts_one_long_step_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 5000.0, 5001.0, 5002.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    clock = Clock(10.5)
    assert [round(share * 10.5, 1) for share in clock.ticks()] == [0.0, 1.0, 9.0, 10.0]


def test_the_learning_rate_rises_and_falls() -> None:
    values = [cosine(share / 100, 1.0, 0.1, warmup=0.1) for share in range(101)]
    assert max(values) == pytest.approx(1.0, abs=0.01)
    assert values.index(max(values)) == 10
    assert values[-1] == pytest.approx(0.1)


def test_the_text_encoder_learns_from_captions_where_things_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BATCH", 24)
    torch.manual_seed(0)
    concepts = tuple(ICONS)[:16]
    tokenizer = build_tokenizer(concepts)
    encoder = build_text_encoder(len(tokenizer))
    assert reading.learn_to_read(encoder, tokenizer, concepts, steps=120) < 0.5  # 1 without reading
    caption, outputs = "a {} on the left and a {} on the right on a red background", []
    for first, second in ((concepts[0], concepts[1]), (concepts[1], concepts[0])):
        tokens = tokenizer(caption.format(first, second), return_tensors="pt")
        with torch.no_grad():
            output = encoder(**{name: tokens[name] for name in ("input_ids", "attention_mask")})[0][0]
        outputs.append(output[tokens.input_ids[0].tolist().index(tokenizer(concepts[0]).input_ids[0])])
    assert (outputs[0] - outputs[1]).norm() > 0.3 * outputs[0].norm()  # the same word, on the other side


def test_a_name_is_spelled_with_its_parts() -> None:
    tokenizer = build_tokenizer(CONCEPTS)
    for name in CONCEPTS:
        ids = tokenizer(f"a {name} on a red background").input_ids
        assert tokenizer.convert_ids_to_tokens(ids[1 : PARTS + 1]) == [
            f"\u0120{name}", *(f"<{name}_{part}>" for part in range(1, PARTS))
        ]  # fmt: skip
        assert tokenizer.decode(ids[PARTS + 1 : -1]) == " on a red background"
    scenes = [Scene((0, 1)[: len(layout.placements)], name, "graded", "red") for name, layout in LAYOUTS.items()]
    assert max(len(tokenizer(scene.caption(CONCEPTS)).input_ids) for scene in scenes) <= MAX_TOKENS
    assert len(tokenizer(f"a {CONCEPTS[0]}like {CONCEPTS[0]}_thing").input_ids) < PARTS  # names inside other words


def test_names_say_what_their_parts_look_like(vae: autoencoder.AutoencoderKL) -> None:
    artwork = torch.zeros(2, 4, 512, 512)  # one thing is red on the left and green on the right, the other mirrored
    artwork[0, 0, :, :256] = artwork[0, 1, :, 256:] = artwork[:, 3] = 1
    artwork[1, :3] = artwork[0, :3].flip(-1)
    tokenizer = build_tokenizer(CONCEPTS)
    encoder = build_text_encoder(len(tokenizer))
    before = encoder.shared.weight.clone()
    spelling.spell(encoder, tokenizer, vae, mipmaps(artwork), CONCEPTS[:2])
    rows = [tokenizer(name).input_ids[:PARTS] for name in CONCEPTS[:2]]
    others = sorted(set(range(len(tokenizer))) - {token for row in rows for token in row})
    assert torch.equal(encoder.shared.weight[others], before[others])
    looks = encoder.shared.weight.detach()[torch.tensor(rows)][..., : spelling.CODE_WIDTH].unflatten(1, (9, 9))
    assert looks.square().mean() == pytest.approx(2 * PARTS / spelling.CODE_WIDTH, rel=0.01)  # as many as there are
    red, green, also_red = looks[0, 3, 2], looks[0, 3, 6], looks[1, 3, 6]
    assert (red - also_red).norm() < 0.7 * (red - green).norm()  # scaled down, colour stands out less


def test_a_token_looks_first_at_the_part_that_stands_there() -> None:
    transformer = build_transformer(heads=4, layers=1)
    routing.look_by_place(transformer, preferred=[])
    placement = LAYOUTS["large"].placements[0]
    says = torch.cat([routing.sayings_of_parts(placement), routing.sayings_of_words()[None]])
    text = 1.9 * says @ routing.directions(TEXT_WIDTH).T
    set_resolution(transformer, 384)
    attention = transformer.transformer_blocks[0].attn2
    with torch.no_grad():
        keys = attention.to_k(transformer.caption_projection(text)).unflatten(-1, (4, 64))
        queries = attention.to_q(transformer.pos_embed.pos_embed[0]).unflatten(-1, (4, 64))
    scores = torch.einsum("qhd,khd->hqk", queries, keys)
    assert (scores[3].argmax(-1) == PARTS).all()  # the last head looks at words
    first = round(48 * (placement.x - placement.size / 2))
    for row, column in ((0, 0), (2, 3), (8, 4)):
        token = 48 * (first + 4 * row + 2) + first + 4 * column + 2  # in the middle of the part
        assert (scores[:3, token].argmax(-1) == 9 * row + column).all()


def test_what_finds_the_parts_stays_as_it_is() -> None:
    encoder, transformer = build_text_encoder(50), build_transformer(heads=1, layers=1)
    moved = {id(p) for p in make_learner(transformer, encoder).parameters}
    fixed = [name for name, p in transformer.named_parameters() if id(p) not in moved]
    assert {name.removesuffix(".weight").removesuffix(".bias") for name in fixed} == {
        "caption_projection.linear_1", "caption_projection.linear_2",
        "transformer_blocks.0.attn2.to_q", "transformer_blocks.0.attn2.to_k",
    }  # fmt: skip
    assert moved.isdisjoint({id(p) for p in encoder.parameters()})


def test_the_projection_of_the_text_is_linear() -> None:
    transformer = build_transformer(heads=2, layers=1)
    routing.look_by_place(transformer, preferred=range(40))
    text = torch.randn(7, TEXT_WIDTH)
    with torch.no_grad():
        out = transformer.caption_projection(text)
        assert torch.allclose(
            transformer.caption_projection(2 * text - text.roll(1, 0)), 2 * out - out.roll(1, 0), atol=1e-4
        )
    assert torch.allclose(out[:, : routing.SAYINGS], text @ routing.directions(TEXT_WIDTH), atol=1e-4)


def test_a_cut_picture_keeps_the_positions_of_its_tokens() -> None:
    transformer = build_transformer(heads=1, layers=1)
    set_resolution(transformer, 64)
    whole = transformer.pos_embed.pos_embed.clone()
    size = Size(64, 1, 1, 1.0, crop=32)
    for _ in range(5):
        rows, columns = part = size.draw_part()
        set_resolution(transformer, 64, part)
        tokens = [8 * row + column for row in range(8)[rows] for column in range(8)[columns]]
        assert len(tokens) == 16
        assert torch.equal(transformer.pos_embed.pos_embed, whole[:, tokens])
        assert (transformer.pos_embed.height, transformer.pos_embed.width) == (4, 4)
        latents = torch.arange(64).view(1, 1, 8, 8)
        assert cut(latents, part)[0, 0, 0, 0] == 8 * rows.start + columns.start
        assert cut(latents, part).shape == (1, 1, 4, 4)
    assert torch.equal(cut(latents, Size(64, 1, 1, 1.0).draw_part()), latents)

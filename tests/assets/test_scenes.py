"""The scene grammar and its pictures."""

import random
from itertools import islice

import pytest
import torch

from hasten.assets.recipes.emoji_image.concepts import ICONS
from hasten.assets.recipes.emoji_image.render import mipmaps, render
from hasten.assets.recipes.emoji_image.scenes import COLOURS, LAYOUTS, STYLES, Scene, draw_scenes

CONCEPTS = tuple(ICONS)[:96]
CAT, ELEPHANT, APPLE = (CONCEPTS.index(name) for name in ("cat", "elephant", "apple"))


@pytest.mark.parametrize(
    ("scene", "caption"),
    [
        (Scene((CAT,), "large", "plain", "red"), "a cat on a red background"),
        (Scene((APPLE,), "large", "graded", "orange"), "an apple on a graded orange background"),
        (Scene((CAT,), "left", "plain", "orange"), "a small cat on the left on an orange background"),
        (
            Scene((CAT, ELEPHANT), "above", "dotted", "blue"),
            "a cat at the top and an elephant at the bottom on a dotted blue background",
        ),
        (
            Scene((ELEPHANT, CAT), "falling", "plain", "white"),
            "an elephant at the top left and a cat at the bottom right on a white background",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else value.layout,
)
def test_captions_read_as_sentences(scene: Scene, caption: str) -> None:
    assert scene.caption(CONCEPTS) == caption


def test_training_never_shows_what_is_held_out() -> None:
    def combinations(held_out: bool) -> set[tuple[object, ...]]:
        scenes = islice(draw_scenes(96, random.Random(0), held_out=held_out), 4000)
        return {
            tuple(sorted(scene.things)) if len(scene.things) == 2 else (scene.things[0], scene.colour)
            for scene in scenes
        }

    seen, unseen = combinations(held_out=False), combinations(held_out=True)
    assert len(seen) > 1000
    assert len(unseen) > 300
    assert seen.isdisjoint(unseen)


def test_every_thing_comes_up_about_equally_often() -> None:
    scenes = islice(draw_scenes(96, random.Random(0), held_out=False), 3000)
    counts = torch.bincount(torch.tensor([thing for scene in scenes for thing in scene.things]), minlength=96)
    assert counts.min() > 0.6 * counts.float().mean()


def _squares() -> list[torch.Tensor]:
    """Two opaque things: one all red, one all green."""
    artwork = torch.zeros(2, 4, 512, 512)
    artwork[0, 0] = artwork[1, 1] = artwork[:, 3] = 1
    return mipmaps(artwork)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pixels", [64, 192])
def test_things_stand_where_the_caption_puts_them(layout: str, pixels: int) -> None:
    things = (0, 1)[: len(LAYOUTS[layout].placements)]
    picture = render(Scene(things, layout, "plain", "black"), _squares(), pixels, random.Random(1))
    for thing, placement in zip(things, LAYOUTS[layout].placements, strict=True):
        inside = (picture[thing] > 0.9) & (picture[1 - thing] < -0.9)
        rows, columns = inside.nonzero().float().mean(0) / pixels
        assert abs(columns - placement.x) <= 1 / pixels
        assert abs(rows - placement.y) <= 1 / pixels
        assert abs(inside.float().mean().sqrt() - placement.size) <= 2 / pixels


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pixels", [192, 384])
def test_edges_of_things_lie_between_tokens(layout: str, pixels: int) -> None:
    things = (0, 1)[: len(LAYOUTS[layout].placements)]
    for seed in range(5):
        picture = render(Scene(things, layout, "plain", "black"), _squares(), pixels, random.Random(seed))
        tokens = picture.unfold(1, 8, 8).unfold(2, 8, 8).flatten(3)
        assert (tokens.amax(-1) - tokens.amin(-1)).max() < 1e-4
        assert picture.std() > 0.1


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("colour", COLOURS)
def test_backgrounds_keep_their_hue(style: str, colour: str) -> None:
    nothing = mipmaps(torch.zeros(1, 4, 64, 64))
    picture = (render(Scene((0,), "large", style, colour), nothing, 64, random.Random(2)) + 1) / 2
    mean, nominal = picture.mean((1, 2)), torch.tensor(COLOURS[colour]) / 255
    assert (mean - nominal).abs().max() < 0.25
    assert mean.argsort().equal(nominal.argsort()) or nominal.std() < 0.02
    assert picture.std((1, 2)).max() > 0.02 or style == "plain"

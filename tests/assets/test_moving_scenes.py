"""Moving scenes: their captions, what is held out, and that things move as the captions say."""

import random
from itertools import islice, pairwise

import pytest
import torch

from hasten.assets.recipes.emoji_image.render import mipmaps
from hasten.assets.recipes.emoji_image.scenes import COLOURS
from hasten.assets.recipes.emoji_video.render import background, render_clip
from hasten.assets.recipes.emoji_video.scenes import MOTIONS, PERIOD, THINGS, Scene, draw_scenes

PIXELS = 64
APPLE, ROCKET = THINGS.index("apple"), THINGS.index("rocket")


@pytest.mark.parametrize(
    ("scene", "caption"),
    [
        (Scene(ROCKET, "up", "blue"), "a rocket moving up on a blue background"),
        (Scene(APPLE, "pulsing", "orange"), "an apple pulsing on an orange background"),
        (Scene(APPLE, "still", "white"), "an apple standing still on a white background"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.motion,
)
def test_captions_read_as_sentences(scene: Scene, caption: str) -> None:
    assert scene.caption == caption


def test_training_never_shows_what_is_held_out() -> None:
    seen, unseen = (set(islice(draw_scenes(24, random.Random(0), held_out=h), 2000)) for h in (False, True))
    assert seen.isdisjoint(unseen)
    assert len(seen) == 7 * len(unseen) == 1008


def test_held_out_scenes_are_of_words_that_training_shows() -> None:
    for thing in range(24):
        shown = [s for s in islice(draw_scenes(24, random.Random(0), held_out=False), 1008) if s.thing == thing]
        assert {s.motion for s in shown} == set(MOTIONS)
        assert {s.colour for s in shown} == set(COLOURS)


def _square() -> list[torch.Tensor]:
    """One opaque red thing."""
    artwork = torch.zeros(1, 4, 64, 64)
    artwork[:, 0] = artwork[:, 3] = 1
    return mipmaps(artwork)


def _masks(motion: str, frames: int = PERIOD + 1) -> torch.Tensor:
    """Where the thing is, frame by frame: (frames, PIXELS, PIXELS)."""
    clip = render_clip(Scene(0, motion, "black"), _square(), PIXELS, frames, random.Random(1))
    return clip[0] > 0.65


@pytest.mark.parametrize(
    ("motion", "shift"), [("left", (0, -1)), ("right", (0, 1)), ("up", (-1, 0)), ("down", (1, 0)), ("still", (0, 0))]
)
def test_a_thing_moves_two_pixels_of_64_a_frame_and_comes_back_at_the_other_edge(
    motion: str, shift: tuple[int, int]
) -> None:
    masks = _masks(motion)
    for before, after in pairwise(masks):
        assert torch.equal(before.roll([2 * pixels for pixels in shift], dims=(0, 1)), after)
    assert torch.equal(masks[0], masks[PERIOD])
    assert masks[0][28:36, 28:36].all()


def test_a_pulsing_thing_swells_first_then_shrinks_and_stays_in_place() -> None:
    sides = _masks("pulsing").float().mean((1, 2)).sqrt()
    assert sides[8] / sides[0] == pytest.approx(1.3, abs=0.06)
    assert sides[24] / sides[0] == pytest.approx(0.7, abs=0.06)
    assert sides[PERIOD] == sides[0]


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_clip_can_begin_at_any_frame(motion: str) -> None:
    whole, later = (
        render_clip(Scene(0, motion, "blue"), _square(), PIXELS, 20 - first, random.Random(3), first)
        for first in (0, 12)
    )
    assert torch.equal(whole[:, 12:], later)


@pytest.mark.parametrize("colour", COLOURS)
def test_backgrounds_are_near_their_colour_and_lighter_at_the_top(colour: str) -> None:
    picture, nominal = background(colour, PIXELS), torch.tensor(COLOURS[colour]) / 255
    assert (picture.mean((1, 2)) - nominal).abs().max() < 0.07
    assert picture[:, 0].mean() > picture[:, -1].mean()

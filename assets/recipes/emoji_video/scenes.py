"""Moving scenes and their captions: one thing, how it moves, and the colour behind it.

Every motion goes on for ever and repeats after `PERIOD` frames, so that a rollout of any length has a right answer.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hasten.assets.recipes.emoji_image.scenes import COLOURS, HELD_OUT_EVERY

# Chosen from the things of emoji-image to differ in outline and colour.
THINGS = (
    "heart", "star", "sun", "apple", "banana", "car", "rocket", "cat", "dog", "fish", "house", "tree",
    "flower", "ball", "cup", "bell", "umbrella", "leaf", "mushroom", "pizza", "gift", "book", "clock", "crown",
)  # fmt: skip

MOTIONS: dict[str, str] = {
    "left": "moving left",
    "right": "moving right",
    "up": "moving up",
    "down": "moving down",
    "pulsing": "pulsing",
    "still": "standing still",
}
DIRECTIONS: dict[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
FRAMES_PER_SECOND = 8
PERIOD = 32
"""Frames after which every scene is again what it was: once around the picture, or one pulse."""
PULSE_DEPTH = 0.3
SIZE = 0.44
"""A thing's nominal share of the picture's side. A pulse swings around it by `PULSE_DEPTH`."""


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


@dataclass(frozen=True)
class Scene:
    """What a caption says; `thing` indexes `THINGS`."""

    thing: int
    motion: str
    colour: str

    @property
    def caption(self) -> str:
        """For example `a rocket moving up on a blue background`."""
        thing, background = _with_article(THINGS[self.thing]), _with_article(self.colour)
        return f"{thing} {MOTIONS[self.motion]} on {background} background"

    @property
    def held_out(self) -> bool:
        """Whether training must never show this combination."""
        colour, motion = list(COLOURS).index(self.colour), list(MOTIONS).index(self.motion)
        return (self.thing + 3 * colour + 5 * motion) % HELD_OUT_EVERY == 0

    @property
    def record(self) -> dict[str, Any]:
        """What a judge needs: the caption, the thing, the motion and the colour."""
        return {
            "prompt": self.caption,
            "thing": THINGS[self.thing],
            "motion": self.motion,
            "colour": self.colour,
        }


def draw_scenes(num_things: int, rng: random.Random, *, held_out: bool) -> Iterator[Scene]:
    """Endless scenes of the first `num_things` things, all unseen (`held_out`) or all for training, in even shares."""
    everything = [Scene(t, motion, colour) for t in range(num_things) for motion in MOTIONS for colour in COLOURS]
    chosen = [scene for scene in everything if scene.held_out == held_out]
    while True:
        yield from rng.sample(chosen, len(chosen))

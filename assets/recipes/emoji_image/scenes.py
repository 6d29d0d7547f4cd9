"""Scenes and their captions: one or two things, where they stand, and the background behind them."""

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 48, 49),
    "orange": (240, 140, 40),
    "yellow": (250, 216, 70),
    "green": (60, 170, 90),
    "blue": (60, 110, 220),
    "purple": (140, 80, 190),
    "white": (248, 248, 248),
    "black": (28, 28, 32),
}
STYLES = ("plain", "graded", "striped", "dotted", "checkered")
HELD_OUT_EVERY = 8


TOKEN = 1 / 24
"""A token of the half-size picture, two of the native one, as a share of the side."""


@dataclass(frozen=True)
class Placement:
    """Where a thing stands: its centre and its size in shares of the picture's side.

    Things stand on whole tokens, and a small one is half as large as a large one, so that tokens cut both alike, at
    either size of the picture: a small model then has shapes to learn, not all the ways in which they can be cut.
    """

    x: float
    y: float
    size: float


@dataclass(frozen=True)
class Layout:
    """A caption pattern over `{a}` and `{b}` and a placement for each thing that it names."""

    pattern: str
    placements: tuple[Placement, ...]
    share: float


SMALL, LARGE = 9 * TOKEN, 18 * TOKEN
_NEAR, _MIDDLE, _FAR = 6.5 * TOKEN, 11.5 * TOKEN, 17.5 * TOKEN  # edges of small things lie between tokens
_LEFT, _TOP, _TOP_LEFT, _BOTTOM_LEFT, _CENTRE = (
    Placement(x, y, SMALL)
    for x, y in ((_NEAR, _MIDDLE), (_MIDDLE, _NEAR), (_NEAR, _NEAR), (_NEAR, _FAR), (_MIDDLE, _MIDDLE))
)
_RIGHT, _BOTTOM, _BOTTOM_RIGHT, _TOP_RIGHT = (
    Placement(x, y, SMALL) for x, y in ((_FAR, _MIDDLE), (_MIDDLE, _FAR), (_FAR, _FAR), (_FAR, _NEAR))
)
LAYOUTS: dict[str, Layout] = {
    "large": Layout("{a}", (Placement(0.5, 0.5, LARGE),), 0.35),
    "centre": Layout("small {a}", (_CENTRE,), 0.04),
    "left": Layout("small {a} on the left", (_LEFT,), 0.03),
    "right": Layout("small {a} on the right", (_RIGHT,), 0.03),
    "top": Layout("small {a} at the top", (_TOP,), 0.03),
    "bottom": Layout("small {a} at the bottom", (_BOTTOM,), 0.03),
    "top left": Layout("small {a} at the top left", (_TOP_LEFT,), 0.03),
    "top right": Layout("small {a} at the top right", (_TOP_RIGHT,), 0.03),
    "bottom left": Layout("small {a} at the bottom left", (_BOTTOM_LEFT,), 0.03),
    "bottom right": Layout("small {a} at the bottom right", (_BOTTOM_RIGHT,), 0.03),
    "beside": Layout("{a} on the left and {b} on the right", (_LEFT, _RIGHT), 0.12),
    "above": Layout("{a} at the top and {b} at the bottom", (_TOP, _BOTTOM), 0.12),
    "falling": Layout("{a} at the top left and {b} at the bottom right", (_TOP_LEFT, _BOTTOM_RIGHT), 0.06),
    "rising": Layout("{a} at the bottom left and {b} at the top right", (_BOTTOM_LEFT, _TOP_RIGHT), 0.07),
}


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


@dataclass(frozen=True)
class Scene:
    """What a caption says. `things` index the concepts; how a picture of it looks beyond that is drawn at random."""

    things: tuple[int, ...]
    layout: str
    style: str
    colour: str

    def caption(self, concepts: tuple[str, ...]) -> str:
        """For example `a small cat on the left on a striped red background`."""
        layout = LAYOUTS[self.layout]
        names = [concepts[thing] for thing in self.things]
        single = len(names) == 1
        phrase = layout.pattern.format(
            a=names[0] if single else _with_article(names[0]), b="" if single else _with_article(names[1])
        )
        background = self.colour if self.style == "plain" else f"{self.style} {self.colour}"
        return f"{_with_article(phrase) if single else phrase} on {_with_article(background)} background"

    @property
    def held_out(self) -> bool:
        """Whether training must never show this combination of things, or of a single thing and its colour."""
        if len(self.things) == 2:
            first, second = sorted(self.things)
            return (5 * first + 11 * second) % HELD_OUT_EVERY == 0
        return (3 * self.things[0] + 5 * list(COLOURS).index(self.colour)) % HELD_OUT_EVERY == 0

    def record(self, concepts: tuple[str, ...]) -> dict[str, Any]:
        """What a judge needs: the caption, the names, and where each thing stands."""
        layout = LAYOUTS[self.layout]
        return {
            "prompt": self.caption(concepts),
            "things": [concepts[thing] for thing in self.things],
            "placements": [
                {name: round(share, 4) for name, share in asdict(placement).items()} for placement in layout.placements
            ],
            "layout": self.layout,
        }


def draw_scenes(num_concepts: int, rng: random.Random, *, held_out: bool) -> Iterator[Scene]:
    """Endless scenes, all unseen (`held_out`) or all for training; each thing comes up equally often."""
    names, shares = list(LAYOUTS), [layout.share for layout in LAYOUTS.values()]
    deck: list[int] = []
    while True:
        layout = rng.choices(names, shares)[0]
        if len(deck) < 2:
            deck += rng.sample(range(num_concepts), num_concepts)
        things = tuple(deck.pop() for _ in LAYOUTS[layout].placements)
        scene = Scene(things, layout, rng.choice(STYLES), rng.choice(list(COLOURS)))
        if len(set(things)) == len(things) and scene.held_out == held_out:
            yield scene

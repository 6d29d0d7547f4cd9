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
    """Where a thing may stand, in shares of the picture's side.

    Each value is nominal or its spread away. Things move by whole tokens, and a small one is half as large as a large
    one, so that tokens cut both alike, at either size of the picture: a small model then has shapes to learn, not all
    the ways in which they can be cut.
    """

    x: float
    y: float
    size: float
    spread_x: float
    spread_y: float
    spread_size: float

    def draw(self, rng: random.Random) -> tuple[float, float, float]:
        """A centre (x, y) and a size."""
        return (
            self.x + self.spread_x * rng.choice((-1, 0, 1)),
            self.y + self.spread_y * rng.choice((-1, 0, 1)),
            self.size + self.spread_size * rng.choice((-1, 0, 1)),
        )


@dataclass(frozen=True)
class Layout:
    """A caption pattern over `{a}` and `{b}` and a placement for each thing that it names."""

    pattern: str
    placements: tuple[Placement, ...]
    share: float


SMALL, LARGE = 9 * TOKEN, 18 * TOKEN
_SMALL = {"size": SMALL, "spread_size": 0.0}
_ACROSS, _DOWN = {"spread_x": 3 * TOKEN, "spread_y": 0.0}, {"spread_x": 0.0, "spread_y": 3 * TOKEN}
_NEAR, _MIDDLE, _FAR = 6.5 * TOKEN, 11.5 * TOKEN, 17.5 * TOKEN  # edges of small things lie between tokens
_LEFT, _RIGHT = (Placement(x, _MIDDLE, **_SMALL, **_DOWN) for x in (_NEAR, _FAR))
_TOP, _BOTTOM = (Placement(_MIDDLE, y, **_SMALL, **_ACROSS) for y in (_NEAR, _FAR))
_CENTRE = Placement(0.5, 0.5, LARGE, spread_x=TOKEN, spread_y=TOKEN, spread_size=0.0)
_ANYWHERE = Placement(_MIDDLE, _MIDDLE, **_SMALL, spread_x=5 * TOKEN, spread_y=5 * TOKEN)
LAYOUTS: dict[str, Layout] = {
    "large": Layout("{a}", (_CENTRE,), 0.40),
    "anywhere": Layout("small {a}", (_ANYWHERE,), 0.05),
    "left": Layout("small {a} on the left", (_LEFT,), 0.04),
    "right": Layout("small {a} on the right", (_RIGHT,), 0.04),
    "top": Layout("small {a} at the top", (_TOP,), 0.04),
    "bottom": Layout("small {a} at the bottom", (_BOTTOM,), 0.04),
    "beside": Layout("{a} on the left and {b} on the right", (_LEFT, _RIGHT), 0.17),
    "above": Layout("{a} at the top and {b} at the bottom", (_TOP, _BOTTOM), 0.13),
    "together": Layout("{a} and {b}", (_LEFT, _RIGHT), 0.09),
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
        """What a judge needs: the caption, the names, and where each thing may stand."""
        layout = LAYOUTS[self.layout]
        return {
            "prompt": self.caption(concepts),
            "things": [concepts[thing] for thing in self.things],
            "placements": [asdict(placement) for placement in layout.placements],
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

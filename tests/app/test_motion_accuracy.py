"""The judge of moving clips, against clips that are pasted together here."""

import json
import math
from pathlib import Path

import pytest
from PIL import Image

from hasten.app.metrics.motion_accuracy import Sighting, motion_accuracy, watch
from hasten.assets import model_card, model_path

NAMES = ("heart", "star", "banana", "rocket", "cat", "fish")
SIDE = 96
COLOURS = {"blue": (60, 110, 220), "yellow": (250, 216, 70), "black": (28, 28, 32)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the judge reads of a model: six names and their icons."""
    folder = tmp_path_factory.mktemp("model")
    sheet = Image.new("RGBA", (16 * 64, 64))
    for index, name in enumerate(NAMES):
        sheet.paste(_icon(name), (64 * index, 0))
    sheet.save(folder / "icons.png")
    (folder / "hasten.json").write_text(json.dumps({"concepts": NAMES}))
    return folder


def _icon(name: str) -> Image.Image:
    index = model_card("emoji-image")["concepts"].index(name)
    left, top = index % 16 * 64, index // 16 * 64
    return Image.open(model_path("emoji-image") / "icons.png").convert("RGBA").crop((left, top, left + 64, top + 64))


def _clip(name: str, colour: str, motion: str, frames: int = 24, speed: float = 3.0) -> list[Image.Image]:
    """`name` in 96 x 96 pixels, moving by `speed` pixels a frame around a picture whose edges are joined."""
    right, down = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}.get(motion, (0, 0))
    clip = []
    for t in range(frames):
        swing = 1 + 0.3 * math.sin(2 * math.pi * t / 32) if motion == "pulsing" else 1.0
        size = round(42 * swing)
        icon = _icon(name).resize((size, size))
        picture = Image.new("RGB", (SIDE, SIDE), COLOURS[colour])
        x, y = (round(SIDE / 2 - size / 2 + speed * t * step) % SIDE for step in (right, down))
        for around_x in (x, x - SIDE):
            for around_y in (y, y - SIDE):
                picture.paste(icon, (around_x, around_y), icon)
        clip.append(picture)
    return clip


@pytest.mark.parametrize("motion", ["left", "right", "up", "down", "pulsing", "still"])
@pytest.mark.parametrize(("name", "colour"), [("rocket", "blue"), ("heart", "yellow"), ("fish", "black")])
def test_a_clean_clip_is_seen_as_it_is(name: str, colour: str, motion: str, folder: Path) -> None:
    assert watch(folder, _clip(name, colour, motion)) == [Sighting(name, colour, motion)]


def test_a_thing_that_hardly_moves_is_not_seen_to_move(folder: Path) -> None:
    assert watch(folder, _clip("cat", "blue", "left", speed=0.3))[0].motion != "left"


def test_each_stretch_is_judged_on_its_own(folder: Path) -> None:
    clip = _clip("cat", "blue", "left") + _clip("star", "blue", "left") + _clip("cat", "black", "up")
    record = {"thing": "cat", "motion": "left", "colour": "blue"}
    shares = motion_accuracy(folder, [record], [clip], segments=3)
    assert [s["thing"] for s in shares] == [1, 0, 1]
    assert [s["colour"] for s in shares] == [1, 1, 0]
    assert [s["motion"] for s in shares] == [1, 1, 0]
    assert [s["all"] for s in shares] == [1, 0, 0]


def test_shares_are_of_all_clips(folder: Path) -> None:
    records = [{"thing": "cat", "motion": motion, "colour": "blue"} for motion in ("left", "right")]
    clips = [_clip("cat", "blue", "left")] * 2
    assert motion_accuracy(folder, records, clips) == [{"thing": 1, "colour": 1, "motion": 0.5, "all": 0.5}]


def test_a_stretch_too_short_for_a_motion_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="more than 4"):
        watch(folder, _clip("cat", "blue", "left", frames=8), segments=2)

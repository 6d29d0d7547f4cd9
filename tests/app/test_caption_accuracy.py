"""The judge, on pictures whose content is known: composed from the bundled icons by Pillow."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from hasten.app.metrics.caption_accuracy import caption_accuracy, judge
from hasten.assets import model_card, model_path, prompts

MODEL = "emoji-image"
NAMES = model_card(MODEL)["concepts"]
LEFT = {"x": 0.26, "y": 0.5, "size": 0.42}
RIGHT = {**LEFT, "x": 0.74}


def _picture(things: list[str], places: list[tuple[float, float, float]], colour: str = "purple") -> Image.Image:
    atlas = Image.open(model_path(MODEL) / "icons.png").convert("RGBA")
    picture = Image.new("RGB", (192, 192), colour)
    for thing, (x, y, size) in zip(things, places, strict=True):
        column, row = NAMES.index(thing) % 16, NAMES.index(thing) // 16
        tile = atlas.crop((64 * column, 64 * row, 64 * column + 64, 64 * row + 64))
        tile = tile.resize((round(192 * size),) * 2, Image.Resampling.LANCZOS)
        picture.paste(tile, (round(192 * (x - size / 2)), round(192 * (y - size / 2))), tile)
    return picture


def _record(things: list[str]) -> dict[str, Any]:
    return {"things": things, "placements": [LEFT, RIGHT]}


@pytest.mark.parametrize("place", [(0.26, 0.5, 0.42), (0.27, 0.51, 0.43), (0.26, 0.49, 0.40)])
def test_a_thing_is_recognised_at_its_place(place: tuple[float, float, float]) -> None:
    picture = _picture(["cat", "rocket"], [place, (0.74, 0.5, 0.42)])
    assert judge(MODEL, _record(["cat", "rocket"]), picture) == ["cat", "rocket"]


def test_a_thing_at_another_place_does_not_count() -> None:
    picture = _picture(["cat", "rocket"], [(0.26, 0.2, 0.38), (0.74, 0.5, 0.42)])
    assert caption_accuracy(MODEL, [_record(["cat", "rocket"])], [picture]) == 0


def test_every_icon_is_told_from_every_other() -> None:
    places = [(0.26, 0.49, 0.41), (0.74, 0.51, 0.43)]
    pairs = list(zip(NAMES[::2], NAMES[1::2], strict=True))
    pictures = [_picture(list(pair), places) for pair in pairs]
    assert caption_accuracy(MODEL, [_record(list(pair)) for pair in pairs], pictures) == 1


def test_order_counts() -> None:
    swapped = _picture(["rocket", "cat"], [(0.26, 0.5, 0.42), (0.74, 0.5, 0.42)])
    assert caption_accuracy(MODEL, [_record(["cat", "rocket"])], [swapped]) == 0


def test_one_wrong_thing_makes_a_picture_wrong() -> None:
    picture = _picture(["cat", "dog"], [(0.26, 0.5, 0.42), (0.74, 0.5, 0.42)])
    records = [_record(["cat", "rocket"]), _record(["cat", "dog"])]
    assert caption_accuracy(MODEL, records, [picture, picture]) == 0.5


def test_backgrounds_with_a_gradient_do_not_confuse_it() -> None:
    picture = _picture(["star", "key"], [(0.26, 0.5, 0.42), (0.74, 0.5, 0.42)])
    ramp = Image.new("RGB", picture.size)
    draw = ImageDraw.Draw(ramp)
    for column in range(192):
        draw.line([(column, 0), (column, 191)], fill=(column // 2, 20, 150))
    mask = Image.eval(_picture(["star", "key"], [(0.26, 0.5, 0.42), (0.74, 0.5, 0.42)], "black").convert("L"), bool)
    shaded = Image.composite(picture, ramp, mask.point(lambda value: 255 * bool(value)))
    assert judge(MODEL, _record(["star", "key"]), shaded) == ["star", "key"]


def test_bundled_prompts_carry_what_the_judge_needs() -> None:
    for record in prompts(MODEL):
        assert len(record["things"]) == len(record["placements"])
        assert set(record["things"]) <= set(NAMES)


def test_a_models_folder_serves_as_well_as_its_name() -> None:
    picture = _picture(["cat", "dog"], [(0.26, 0.5, 0.42), (0.74, 0.5, 0.42)])
    folder: Path = model_path(MODEL)
    assert judge(folder, _record(["cat", "dog"]), picture) == judge(MODEL, _record(["cat", "dog"]), picture)

import numpy as np
from PIL import Image

from hasten.app.pictures import SMALLEST_SIDE, Column, side_by_side


def picture(seed: int, size: tuple[int, int] = (384, 384)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def contains(canvas: Image.Image, part: Image.Image) -> bool:
    """Whether `part` stands somewhere in `canvas`, pixel for pixel."""
    whole, wanted = np.array(canvas), np.array(part)
    height, width = wanted.shape[:2]
    corners = np.argwhere((whole[: whole.shape[0] - height + 1, : whole.shape[1] - width + 1] == wanted[0, 0]).all(-1))
    return any(np.array_equal(whole[top : top + height, left : left + width], wanted) for top, left in corners)


def test_every_picture_is_in_it_pixel_for_pixel() -> None:
    columns = [Column(f"method {c}", ["10 steps", "1.0 s"], [picture(2 * c), picture(2 * c + 1)]) for c in range(3)]
    canvas = side_by_side(columns, ["first prompt", "second prompt"])
    for column in columns:
        for image in column.images:
            assert contains(canvas, image)


def test_small_pictures_are_enlarged_by_a_whole_factor() -> None:
    small = picture(0, (64, 96))
    canvas = side_by_side([Column("plain", [], [small])], ["prompt"])
    factor = -(-SMALLEST_SIDE // 64)
    enlarged = Image.fromarray(np.array(small).repeat(factor, axis=0).repeat(factor, axis=1))
    assert contains(canvas, enlarged)


def test_size_grows_by_columns_and_rows() -> None:
    def size(columns: int, rows: int) -> tuple[int, int]:
        column = Column("title", ["figures"], [picture(0)] * rows)
        return side_by_side([column] * columns, ["prompt"] * rows).size

    width, height = size(1, 1)
    assert size(3, 1)[0] - width == 2 * (size(2, 1)[0] - width)
    assert size(3, 1)[1] == height
    assert size(1, 2)[1] - height > 384
    assert size(1, 2)[0] == width


def test_titles_and_figures_are_drawn_above_the_pictures() -> None:
    column = Column("plain", ["20 steps, 13.0 s"], [Image.new("RGB", (384, 384), "white")])
    without = Column("", [""], column.images)
    ink = [(np.array(side_by_side([one], [""])) < 128).any(-1).sum() for one in (column, without)]
    assert ink[0] > 100
    assert ink[1] == 0


def test_a_long_prompt_is_cut_to_fit() -> None:
    column = Column("plain", ["figures"], [picture(0)])
    short, long = (np.array(side_by_side([column], [text])) for text in ("word", "word " * 200))
    assert short.shape == long.shape
    assert (long[:, -16:] == 255).all()

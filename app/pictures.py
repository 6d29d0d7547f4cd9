"""One picture that tells the whole comparison: a column a method, a row a prompt, the figures in it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

GAP = 16
TITLE_SIZE = 22
TEXT_SIZE = 17
LINE = 1.35
SMALLEST_SIDE = 320
PAPER = "#ffffff"
INK = "#16181d"
FAINT = "#5b6270"


@dataclass(frozen=True)
class Column:
    """A method: its title, lines of figures, and one picture a row, all of one size."""

    title: str
    lines: Sequence[str]
    images: Sequence[Image.Image]


def side_by_side(columns: Sequence[Column], row_titles: Sequence[str]) -> Image.Image:
    """Draw `columns` beside each other, figures on top and a row title over each row of pictures.

    Pictures keep their pixels; small ones are enlarged by a whole factor, so that what is compared is not resampled.
    """
    factor = math.ceil(SMALLEST_SIDE / min(columns[0].images[0].size))
    width, height = (side * factor for side in columns[0].images[0].size)
    title_font, text_font = ImageFont.load_default(TITLE_SIZE), ImageFont.load_default(TEXT_SIZE)
    title_line, text_line = round(TITLE_SIZE * LINE), round(TEXT_SIZE * LINE)
    head = GAP + title_line + text_line * max(len(column.lines) for column in columns)
    row_height = text_line + height + GAP
    canvas_size = (GAP + (width + GAP) * len(columns), head + GAP // 2 + row_height * len(row_titles))
    canvas = Image.new("RGB", canvas_size, PAPER)
    draw = ImageDraw.Draw(canvas)
    for index, column in enumerate(columns):
        left = GAP + index * (width + GAP)
        draw.text((left, GAP), column.title, INK, title_font)
        for number, line in enumerate(column.lines):
            draw.text((left, GAP + title_line + number * text_line), line, FAINT, text_font)
        for row, image in enumerate(column.images):
            enlarged = image.convert("RGB").resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(enlarged, (left, head + GAP // 2 + row * row_height + text_line))
    for row, title in enumerate(row_titles):
        shown = _fit(title, text_font, canvas_size[0] - 2 * GAP)
        draw.text((GAP, head + GAP // 2 + row * row_height), shown, INK, text_font)
    return canvas


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."

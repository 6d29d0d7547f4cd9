"""From what a pipeline made to the bytes of a file that knows how it came about, and back."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from PIL import ExifTags, Image, PngImagePlugin

from hasten.app.video import decode_video, encode_video

VIDEO_SUFFIX = ".mp4"
ASCII_COMMENT = b"ASCII\0\0\0"
"""How a user comment of EXIF begins that is ASCII."""
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><rdf:Alt>'
    '<rdf:li xml:lang="x-default">{}</rdf:li></rdf:Alt></dc:description></rdf:Description></rdf:RDF></x:xmpmeta>'
)


@dataclass(frozen=True)
class Rendering:
    """
    What one call of the pipeline gave and cost.

    Args:
        frames (`Sequence[Image]`): One picture, or the frames of a video.
        is_video (`bool`): Whether it is a video, even if it has one frame.
        seconds (`float`): Of the whole call.
        density (`float | None`): As reported; `None` for the plain pipeline.
        fallbacks (`list`): As reported.
    """

    frames: Sequence[Image.Image]
    is_video: bool
    seconds: float
    density: float | None
    fallbacks: list[dict[str, Any]]


def suffix_of(rendering: Rendering, picture_format: str) -> str:
    """The suffix of the rendering's file."""
    return VIDEO_SUFFIX if rendering.is_video else f".{picture_format}"


def encode(rendering: Rendering, picture_format: str, fps: int, about: dict[str, Any]) -> bytes:
    """The rendering as a file.

    A picture keeps every pixel: PNG with the text chunks `prompt`, `seed` and `hasten`, or lossless WebP with the
    prompt as XMP description and `about` as user comment in EXIF. A video is MP4 with the prompt as title and `about`
    as comment.

    Args:
        about: How it came about, prompt and seed among it; as JSON it is what `hasten` and the comments hold.
    """
    if rendering.is_video:
        return encode_video(rendering.frames, fps, title=about["prompt"], comment=json.dumps(about))
    file = io.BytesIO()
    if picture_format == "png":
        rendering.frames[0].save(file, "PNG", pnginfo=_png_texts(about))
    else:
        xmp = XMP.format(escape(about["prompt"])).encode()
        rendering.frames[0].save(file, "WEBP", lossless=True, exact=True, exif=_exif(about), xmp=xmp)
    return file.getvalue()


def decode(content: bytes, suffix: str) -> list[Image.Image]:
    """The frames of a file that `encode` made; one for a picture."""
    if suffix == VIDEO_SUFFIX:
        return decode_video(content)
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        return [picture]


def _png_texts(about: dict[str, Any]) -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("prompt", about["prompt"])
    texts.add_text("seed", str(about["seed"]))
    texts.add_text("hasten", json.dumps(about))
    return texts


def _exif(about: dict[str, Any]) -> Image.Exif:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = ASCII_COMMENT + json.dumps(about).encode()
    return exif

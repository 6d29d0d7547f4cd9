"""The artwork: Noto emoji (Apache-2.0), fetched by package name from the npm registry and rasterised once."""

import io
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import resvg_py
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from hasten.assets.recipes.emoji_image.concepts import ICONS

PACKAGE = "@iconify-json/noto@1.2.9"
LICENSE = "Apache-2.0"
PIXELS = 512
ICON_PIXELS = 64
_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 128 128">{}</svg>'
)


def fetch_icons(cache: Path) -> dict[str, str]:
    """SVG body of every icon in the package, downloaded with `npm pack` unless `cache` already holds it."""
    stored = cache / "icons.json"
    if not stored.exists():
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
            with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
                archive.extract("package/icons.json", folder, filter="data")
            (Path(folder) / "package/icons.json").rename(stored)
    return {name: icon["body"] for name, icon in json.loads(stored.read_text())["icons"].items()}


def rasterise(body: str, pixels: int = PIXELS) -> Image.Image:
    """One icon as an RGBA picture of `pixels` x `pixels`."""
    png = resvg_py.svg_to_bytes(svg_string=_SVG.format(body), width=pixels, height=pixels)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def load_artwork(concepts: tuple[str, ...], cache: Path) -> Tensor:
    """Premultiplied RGBA pictures of `concepts`: (C, 4, 512, 512), float32 in [0, 1]."""
    bodies = fetch_icons(cache)
    pictures = np.stack([np.asarray(rasterise(bodies[ICONS[name]])) for name in concepts])
    rgba = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    return torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], dim=1)


def atlas(artwork: Tensor, columns: int = 16) -> Image.Image:
    """Every icon at 64 x 64 on one transparent sheet, in the order of the concepts."""
    tiles = F.interpolate(artwork, size=(ICON_PIXELS, ICON_PIXELS), mode="area")
    alpha = tiles[:, 3:]
    tiles = torch.cat([torch.where(alpha > 0, tiles[:, :3] / alpha.clamp_min(1e-6), 0), alpha], dim=1)
    rows = -(-len(tiles) // columns)
    sheet = torch.zeros(4, rows * ICON_PIXELS, columns * ICON_PIXELS)
    for index, tile in enumerate(tiles):
        top, left = index // columns * ICON_PIXELS, index % columns * ICON_PIXELS
        sheet[:, top : top + ICON_PIXELS, left : left + ICON_PIXELS] = tile
    return Image.fromarray((sheet * 255).round().byte().permute(1, 2, 0).numpy())

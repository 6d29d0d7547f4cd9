"""Pictures of the web page for the README: `python -P assets/recipes/screenshots.py --out FOLDER`.

Serves the page, makes one comparison on it in headless Chromium, and takes the page wide and narrow, light and dark.
Needs the extra `dev` and a Chromium on the path.
"""

import argparse
import os
import shutil
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from hasten.app.web.application import build_app, serving_options

VIEWPORTS = {"wide": (1440, 900), "narrow": (390, 844)}
SCHEMES = ("light", "dark")
COLOURS = 128
"""Of the pictures' palettes, which halve their bytes."""
PATIENCE = 300_000
_STILL = "*, *::before, *::after { animation: none !important; transition: none !important; }"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where page-wide-light.png and the others go")
    parser.add_argument("--prompt", default="a rocket on a blue background")
    return parser.parse_args()


def _compare(page: Any, prompt: str) -> None:
    """Make a comparison and wait for its figures."""
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.click("#compare")
    page.wait_for_selector(".figures tbody")


def _shrink(file: Path) -> None:
    with Image.open(file) as picture:
        picture.convert("RGB").quantize(COLOURS).save(file, optimize=True)


def main() -> None:
    """Serve, compare, look."""
    arguments = _arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        outputs = Path(folder)
        served = build_app(outputs)
        _, url, _ = served.launch(prevent_thread_lock=True, quiet=True, **serving_options(outputs))
        browser = playwright.chromium.launch(executable_path=chromium, args=sandbox)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(url)
        page.wait_for_selector("#compare")
        _compare(page, arguments.prompt)
        for (name, (width, height)), scheme in product(VIEWPORTS.items(), SCHEMES):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": height})
            page.add_style_tag(content=_STILL)
            page.evaluate("scrollTo(0, 0)")
            page.wait_for_timeout(500)
            file = arguments.out / f"page-{name}-{scheme}.png"
            page.screenshot(path=file, full_page=True)
            _shrink(file)
        browser.close()
        served.close()


if __name__ == "__main__":
    main()

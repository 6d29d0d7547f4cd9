"""The two components that Gradio lacks: a viewer for two pictures or videos, and HTML that reports what was chosen."""

from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

STATIC = Path(__file__).parent / "static"

_REPORT_CHOICE = """
element.addEventListener("click", (event) => {
  const choice = event.target.closest("[data-choice]")?.dataset.choice;
  if (choice !== undefined) trigger("choose", { choice });
});
element.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" && event.key !== " ") return;
  const item = event.target.closest("[data-choice]");
  if (!item || item.tagName === "BUTTON") return;
  event.preventDefault();
  item.dispatchEvent(new MouseEvent("click", { bubbles: true }));
});
"""


def viewer(**settings: Any) -> gr.HTML:
    """
    Plain beside accelerated: wipe, side by side and difference, for pictures and for videos that keep step.

    Its value is a dict: `kind` (`"empty"`, `"live"`, `"image"` or `"video"`), `aspect` (width / height), for videos
    `fps` and `frames`, and `left` and `right`: one item and a list of items, each a dict of `src` and `label`.
    """
    # no subclass: gradio writes a stub file beside the source of every one
    return gr.HTML(
        value={"kind": "empty"},
        html_template=(STATIC / "viewer.html").read_text(encoding="utf-8"),
        css_template=(STATIC / "viewer.css").read_text(encoding="utf-8"),
        js_on_load=(STATIC / "viewer.js").read_text(encoding="utf-8"),
        **settings,
    )


def chooser(value: str = "", **settings: Any) -> gr.HTML:
    """HTML whose elements with a `data-choice` can be clicked: the event `choose` carries that text as `choice`."""
    return gr.HTML(value=value, js_on_load=_REPORT_CHOICE, **settings)


def media_url(file: Path) -> str:
    """Address of a file under the outputs, relative to the page."""
    return f"gradio_api/file={quote(str(file))}"


def medium(file: Path, name: str, *, plays: bool = False) -> str:
    """A picture or a video of the outputs as HTML, `name` being its text; whether a video `plays` by itself."""
    source = f'src="{media_url(file)}"'
    if file.suffix == ".mp4":
        motion = "autoplay " if plays else ""
        return f'<video {source} aria-label="{escape(name)}" {motion}muted loop playsinline controls></video>'
    return f'<img {source} alt="{escape(name)}">'

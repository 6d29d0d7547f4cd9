"""A web page that needs nothing but itself: its frame, its look, its tables and its pictures."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape

from PIL.Image import Image

THUMBNAIL_SIDE = 256
THUMBNAIL_QUALITY = 80

_FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --faint: light-dark(#5b6270, #9aa3b2); --line: light-dark(#d8dce3, #333944);
  --paper: light-dark(#fff, #14161a); --ink: light-dark(#16181d, #e8eaee); --shade: light-dark(#f5f6f8, #1c1f25);
  --ours: light-dark(#0969da, #6cb6ff); --cache: light-dark(#bc4c00, #f0883e); --plain: light-dark(#57606a, #9aa3b2) }}
* {{ box-sizing: border-box }}
body {{ margin: 2rem auto; padding: 0 1.25rem; max-width: 1500px; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif }}
h1 {{ margin: 0; font-size: 1.5rem; overflow-wrap: anywhere }}
h2 {{ margin: 2.2rem 0 .4rem; font-size: 1.15rem }}
h3 {{ margin: 1.6rem 0 .6rem; font-size: 1rem; font-weight: 600; overflow-wrap: anywhere }}
h3 small {{ font-weight: 400 }}
p {{ max-width: 70ch; margin: .5rem 0 }}
small, .faint {{ color: var(--faint) }}
.scroll {{ overflow-x: auto; position: relative }}
.scroll:focus-visible, a:focus-visible {{ outline: 2px solid var(--ours); outline-offset: 2px }}
table {{ border-collapse: collapse; white-space: nowrap }}
th, td {{ padding: .34rem .9rem .34rem 0; border-bottom: 1px solid var(--line); text-align: right;
  font-variant-numeric: tabular-nums }}
thead th {{ color: var(--faint); font-weight: 500 }}
tbody th {{ font-weight: 500 }}
th:first-child {{ text-align: left; position: sticky; left: 0; background: var(--paper) }}
td.why {{ text-align: left; white-space: normal; min-width: 24rem; color: var(--faint) }}
.best th::after {{ content: " ◆"; color: var(--ours) }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; margin: .6rem 0 }}
dt {{ color: var(--faint) }}
dd {{ margin: 0; overflow-wrap: anywhere }}
pre {{ margin: .6rem 0; padding: .8rem 1rem; border-radius: 6px; background: var(--shade); white-space: pre-wrap;
  overflow-wrap: anywhere; font: 13px/1.5 ui-monospace, monospace }}
.charts {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 620px), 1fr)); gap: 1rem 2rem }}
.charts figure {{ min-width: 0 }}
.charts svg {{ display: block; width: 100%; min-width: 600px; height: auto; font-size: 13px; fill: var(--ink) }}
svg .grid {{ stroke: var(--line) }}
svg .axis, svg .tick {{ fill: var(--faint) }}
svg .lead {{ stroke: var(--faint); stroke-dasharray: 1 4 }}
svg polyline {{ fill: none; stroke: var(--faint); stroke-width: 1.2 }}
svg .ours {{ fill: var(--ours) }}
svg .cache {{ fill: var(--cache) }}
svg .plain {{ fill: var(--plain) }}
.row {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 1rem .8rem }}
figure {{ margin: 0 }}
img {{ display: block; width: 100%; height: auto; border-radius: 4px; background: var(--line) }}
figcaption {{ margin-top: .3rem; font-size: 13px; line-height: 1.35; overflow-wrap: anywhere }}
figcaption small {{ display: block; font-size: 12px; font-variant-numeric: tabular-nums }}
a {{ color: inherit }}
.row a {{ text-decoration: none }}
@media (max-width: 600px) {{
  body {{ margin: 1.2rem auto; padding: 0 1rem }}
  th:first-child {{ max-width: 44vw; white-space: normal; padding-right: .6rem }}
  dl {{ grid-template-columns: 1fr; gap: 0 }}
  dd {{ margin-bottom: .5rem }}
}}
@media print {{ .row figure {{ break-inside: avoid }} }}
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def page(title: str, body: Iterable[str], style: str = "") -> str:
    """The whole page; `body` is HTML, `title` is text, `style` are further rules of CSS."""
    return _FRAME.format(title=escape(title), body="\n".join(body), style=style)


def scrolled(label: str, content: str) -> str:
    """HTML that may be wider than the screen, to be scrolled by keyboard as well."""
    return f'<div class="scroll" role="region" aria-label="{escape(label)}" tabindex="0">{content}</div>'


def definitions(facts: Sequence[tuple[str, str]]) -> str:
    """Names and what they are."""
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(what)}</dd>" for name, what in facts) + "</dl>"


def picture_source(picture: Image) -> str:
    """A small WebP of `picture`, as an address that holds it."""
    small = picture.convert("RGB")
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    file = io.BytesIO()
    small.save(file, "WEBP", quality=THUMBNAIL_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()

"""The contact sheet: all results of a batch on one page that needs nothing else, so that it can be mailed."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hasten.app.batch.board import DONE
from hasten.app.batch.items import PLAIN_KIND
from hasten.app.batch.media import decode
from hasten.app.batch.summary import FIGURES, figure_row
from hasten.app.page import THUMBNAIL_SIDE, page, picture_source

_STYLE = """:root { --wrong: light-dark(#a1260d, #ff9b85) }
table { margin: 1rem 0 }
th:first-child, td:first-child, .texts td, .texts th { text-align: left }
.wrong { color: var(--wrong) }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(%dpx, 1fr)); gap: 1.5rem 1.25rem;
  margin-top: 1.5rem }
main figure { content-visibility: auto; contain-intrinsic-size: auto 340px }
.pair { display: flex; gap: 6px }
.pair > * { flex: 1; min-width: 0 }
.pair a { text-decoration: none }
.pair small { display: block }
"""


def contact_sheet(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], model: str, root: Path) -> str:
    """The page: figures, what went wrong, and a thumbnail of each result that leads to its file beside the page.

    Args:
        rows: Of the manifest.
        summary: As `summarise` gives it.
        root: Folder of the files.
    """
    pairs = any(PLAIN_KIND in row for row in rows)
    title = f"{model}: {summary[DONE]} of {summary['items']} items"
    return page(
        title,
        [
            f"<h1>{escape(title)}</h1>",
            f'<p class="faint">{_subtitle(summary)}</p>',
            _table("figures", FIGURES, map(figure_row, summary["methods"])) + _problems(summary["problems"]),
            "<main>",
            *(_figure(row, root) for row in rows if row["status"] == DONE),
            "</main>",
        ],
        _STYLE % (2 * THUMBNAIL_SIDE if pairs else THUMBNAIL_SIDE),
    )


def _subtitle(summary: Mapping[str, Any]) -> str:
    counts = [f"{summary[status]} {status}" for status in ("failed", "refused", "waiting") if summary[status]]
    if summary["overhead"] is not None:
        counts.append(f"{summary['overhead']:.1%} of the workers’ time outside the pipeline")
    return escape(" · ".join(counts))


def _problems(problems: Sequence[Mapping[str, Any]]) -> str:
    if not problems:
        return ""
    rows = [[problem["item"], problem["source"], problem["error"]] for problem in problems]
    return _table("texts wrong", ("item", "asked for in", "problem"), rows)


def _table(kind: str, header: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    return f'<table class="{kind}"><tr>{head}</tr>' + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _figure(row: Mapping[str, Any], root: Path) -> str:
    labelled = {PLAIN_KIND: row[PLAIN_KIND], row["method"]: row} if PLAIN_KIND in row else {"": row}
    pictures = "".join(_picture(result, root, row["prompt"], label) for label, result in labelled.items())
    return (
        f'<figure id="item-{row["item"]}"><div class="pair">{pictures}</div><figcaption>{escape(row["prompt"])}'
        f"<small>{escape(_about(row))}</small></figcaption></figure>"
    )


def _picture(result: Mapping[str, Any], root: Path, prompt: str, label: str) -> str:
    frames = decode((root / result["file"]).read_bytes(), Path(result["file"]).suffix)
    thumbnail = picture_source(frames[len(frames) // 2])
    # alone in somebody's mail box the page still shows everything; beside its files the links work
    return (
        f'<a href="{escape(quote(result["file"]))}" title="{escape(result["file"])}">'
        f'<img alt="{escape(prompt)}" src="{thumbnail}"><small>{escape(label)}</small></a>'
    )


def _about(row: Mapping[str, Any]) -> str:
    facts = [row["item"], *([row["id"]] if row["id"] else []), f"seed {row['seed']}"]
    if row["width"] and row["height"]:
        facts.append(f"{row['width']}×{row['height']}")
    facts += [f"{row['steps']} steps", row["method"], f"{row['seconds']:.2f} s"]
    if PLAIN_KIND in row:
        likeness = "identical" if row["psnr"] is None else f"{row['psnr']:.1f} dB"
        facts += [f"plain {row[PLAIN_KIND]['seconds']:.2f} s", f"{row['speedup']:.2f}×", likeness]
    return " · ".join(facts)

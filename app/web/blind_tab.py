"""The blind test: two results of one prompt and seed, and the question which one is accelerated."""

import random
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from hasten import AccelerationError
from hasten.app.errors import UserError
from hasten.app.web import panels
from hasten.app.web.compare_tab import CompareTab, follow
from hasten.app.web.components import media_url
from hasten.app.web.engine import CancelledError
from hasten.app.web.runs import PastRun
from hasten.app.web.services import Services
from hasten.app.web.votes import Side, Tally, Vote, cast

_MOST_DRAWN_FROM = 60
_KEPT_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Ballot:
    """A pair before the vote; stays on the server. `shown` are the files of A and B, under names that tell nothing."""

    run: str
    accelerated: Side
    shown: tuple[Path, Path]


def build_blind_tab(services: Services, tab: gr.Tab, compare: CompareTab) -> None:
    """Lay the tab out in the current context; new pairs are made with the settings of the first tab."""
    gr.HTML(
        "<h2>Which one is accelerated?</h2>"
        "<p>Both have the same prompt and seed. If nobody can tell, the share of correct answers stays near 50 %.</p>"
    )
    ballot: gr.State = gr.State(None)
    with gr.Column(elem_classes="narrow"):
        pair = gr.HTML('<p class="empty">Draw a pair to begin.</p>', elem_id="pair")
        with gr.Row(elem_classes="actions"):
            vote_a = gr.Button("A is accelerated", interactive=False, elem_id="vote-a")
            vote_b = gr.Button("B is accelerated", interactive=False, elem_id="vote-b")
        with gr.Row(elem_classes="actions"):
            draw = gr.Button("Pair from past runs", variant="primary", elem_id="blind-draw")
            make = gr.Button("New pair", elem_id="blind-make")
        tally = gr.HTML(elem_id="tally")

    def from_past() -> list[Any]:
        runs = [run for run in services.store.newest(_MOST_DRAWN_FROM) if _differs(run)]
        if not runs:
            return [
                None,
                panels.message("There is no pair yet: choose New pair, or make a comparison.", "error"),
                *_off(),
            ]
        return _asked(draw_ballot(services, random.choice(runs)), runs)

    async def new_pair(request: gr.Request, *values: Any) -> AsyncIterator[list[Any]]:
        try:
            settings = compare.form.read(values)
            job = services.start(request.session_hash or "", settings)
            async for _ in follow(services, job, settings):
                done = sum(len(lane.marks) for lane in job.progress.lanes.values())
                yield [None, panels.message(f"Making both, without telling which is which: {done} steps done"), *_off()]
            run = services.store.get(job.result())
            yield _asked(draw_ballot(services, run), [run])
        except (UserError, AccelerationError) as error:
            yield [None, panels.message(str(error), "error"), *_off()]
        except CancelledError:
            yield [None, panels.message("Stopped. Nothing was kept."), *_off()]

    def vote(asked: Ballot | None, answer: Side) -> list[Any]:
        if asked is None:
            return [None, gr.skip(), *_off(), gr.skip()]
        run = services.store.get(asked.run)
        cast(_vote(run, asked, answer), services.votes)
        return [None, _answered(run, asked, answer), *_off(), tally_panel(Tally.of(services.votes))]

    shown = [ballot, pair, vote_a, vote_b]
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    tab.select(lambda: tally_panel(Tally.of(services.votes)), None, tally, **quiet)
    draw.click(from_past, None, shown, **quiet)
    make.click(new_pair, compare.form.inputs, shown, concurrency_limit=None, **quiet)
    vote_a.click(lambda asked: vote(asked, "a"), ballot, [*shown, tally], **quiet)
    vote_b.click(lambda asked: vote(asked, "b"), ballot, [*shown, tally], **quiet)


def draw_ballot(services: Services, run: PastRun) -> Ballot:
    """Copy both results of `run` to new names, in an order drawn by chance."""
    folder = services.store.outputs / "app" / "blind"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if time.time() - old.stat().st_mtime > _KEPT_SECONDS:
            old.unlink(missing_ok=True)
    accelerated: Side = random.choice(("a", "b"))
    lanes = ("accelerated", "baseline") if accelerated == "a" else ("baseline", "accelerated")
    files = [run.media(lane) for lane in lanes]
    shown = [folder / f"{secrets.token_hex(8)}{file.suffix}" for file in files]
    for file, copy in zip(files, shown, strict=True):
        shutil.copyfile(file, copy)
    return Ballot(run.name, accelerated, (shown[0], shown[1]))


def tally_panel(tally: Tally) -> str:
    """The running tally in words, with its interval drawn around the 50 % of guessing."""
    if not tally.votes:
        return '<section class="tally"><p class="note">No votes yet.</p></section>'
    low, high = tally.interval
    verdict = "people can tell" if low > 0.5 else "people pick the wrong one" if high < 0.5 else "no telling so far"
    noun = "vote" if tally.votes == 1 else "votes"
    return (
        f'<section class="tally"><p><strong>{tally.share:.0%}</strong> of {tally.votes} {noun} found it, '
        f"95 % interval {low:.0%} to {high:.0%}: {verdict}.</p>"
        f'<div class="interval" style="--low:{low:.3f};--high:{high:.3f};--share:{tally.share:.3f}" aria-hidden="true">'
        "<i></i><b></b></div></section>"
    )


def _differs(run: PastRun) -> bool:
    """Whether there is something to see: identical results would make every answer a guess."""
    return run.result["accelerated"]["psnr"] is not None


def _vote(run: PastRun, asked: Ballot, answer: Side) -> Vote:
    recipe = run.result["recipe"]
    return Vote(answer, asked.accelerated, run.name, run.result["model"], run.prompt, run.seed, recipe)


def _asked(asked: Ballot, runs: list[PastRun]) -> list[Any]:
    prompt = next(run.prompt for run in runs if run.name == asked.run)
    return [asked, _pair(asked, prompt, ("A", "B")), gr.Button(interactive=True), gr.Button(interactive=True)]


def _answered(run: PastRun, asked: Ballot, answer: Side) -> str:
    names = ("A: accelerated", "B: plain") if asked.accelerated == "a" else ("A: plain", "B: accelerated")
    result = "Right." if answer == asked.accelerated else "Wrong."
    speedup, name = run.result["accelerated"]["speedup"], run.result["recipe"]["name"]
    told = f"{result} {asked.accelerated.upper()} is accelerated: {speedup:.2f}× with {name}."
    return panels.message(told) + _pair(asked, run.prompt, names)


def _pair(asked: Ballot, prompt: str, names: tuple[str, str]) -> str:
    panes = "".join(
        f"<figure>{_medium(file, name)}<figcaption>{name}</figcaption></figure>"
        for file, name in zip(asked.shown, names, strict=True)
    )
    return f'<div class="blind"><p class="note">{escape(prompt)}</p><div class="blind-pair">{panes}</div></div>'


def _medium(file: Path, name: str) -> str:
    source = f'src="{media_url(file)}"'
    if file.suffix == ".mp4":
        return f'<video {source} aria-label="{name}" autoplay muted loop playsinline controls></video>'
    return f'<img {source} alt="{name}">'


def _off() -> list[gr.Button]:
    return [gr.Button(interactive=False), gr.Button(interactive=False)]

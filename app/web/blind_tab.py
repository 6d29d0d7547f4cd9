"""The blind test: two results of one prompt and seed, and the question which one is accelerated."""

import random
from collections.abc import AsyncIterator
from html import escape
from typing import Any

import gradio as gr

from hasten.app.web import panels
from hasten.app.web.ballots import Ballot, differs, draw_ballot
from hasten.app.web.compare_tab import CompareTab
from hasten.app.web.components import medium
from hasten.app.web.runs import PastRun
from hasten.app.web.services import Services
from hasten.app.web.votes import Side, Tally, Vote, cast

_MOST_DRAWN_FROM = 60
_HEADER = (
    "<h2>Which one is accelerated?</h2>"
    "<p>Both have the same prompt and seed. If nobody can tell, the share of correct answers stays near 50 %. "
    "New pair makes one with the settings of the Compare tab. Votes are kept with their prompts, and everybody who can "
    "open this page sees what they add up to.</p>"
)


def build_blind_tab(services: Services, tab: gr.Tab, compare: CompareTab) -> None:
    """Lay the tab out in the current context; new pairs are made with the settings of the first tab."""
    gr.HTML(_HEADER)
    ballot: gr.State = gr.State(None)
    with gr.Column(elem_classes="narrow"):
        pair = gr.HTML('<p class="empty">Make or draw a pair to begin.</p>', elem_id="pair")
        with gr.Row(elem_classes="actions"):
            vote_a = gr.Button("A is accelerated", interactive=False, elem_id="vote-a")
            vote_b = gr.Button("B is accelerated", interactive=False, elem_id="vote-b")
        with gr.Row(elem_classes="actions"):
            make = gr.Button("New pair", variant="primary", elem_id="blind-make")
            draw = gr.Button("Pair from past runs", elem_id="blind-draw")
            stop = gr.Button("Stop", interactive=False, elem_id="blind-stop", scale=0, min_width=90)
        tally = gr.HTML(elem_id="tally")

    def from_past() -> list[Any]:
        runs = [run for run in services.store.newest(_MOST_DRAWN_FROM) if differs(run)]
        if not runs:
            return _view(None, panels.message("There is no pair yet: choose New pair, or make a comparison.", "error"))
        return _ask(services, random.choice(runs))

    async def new_pair(request: gr.Request, *values: Any) -> AsyncIterator[list[Any]]:
        try:
            job = services.start(request.session_hash or "", compare.form.read(values))
            async for _ in services.engine.follow(job):
                done = sum(len(lane.marks) for lane in job.progress.lanes.values())
                told = f"Making both, without telling which is which: {done} steps done"
                yield _view(None, panels.message(told), busy=True)
            yield _ask(services, services.store.get(job.result()))
        except Exception as error:
            yield _view(None, panels.failure(error))

    def vote(asked: Ballot | None, answer: Side) -> list[Any]:
        if asked is None:
            return [*[gr.skip()] * len(shown), gr.skip()]
        run = services.store.get(asked.run)
        cast(_vote(run, asked, answer), services.votes)
        return [*_view(None, _answered(run, asked, answer)), tally_panel(Tally.of(services.votes))]

    def end(request: gr.Request) -> None:
        services.engine.cancel(request.session_hash or "")

    shown = [ballot, pair, vote_a, vote_b, make, draw, stop]
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    tab.select(lambda: tally_panel(Tally.of(services.votes)), None, tally, **quiet)
    draw.click(from_past, None, shown, **quiet)
    make.click(new_pair, compare.form.inputs, shown, concurrency_limit=None, **quiet)
    stop.click(end, None, None, queue=False, **quiet)
    vote_a.click(lambda asked: vote(asked, "a"), ballot, [*shown, tally], **quiet)
    vote_b.click(lambda asked: vote(asked, "b"), ballot, [*shown, tally], **quiet)


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


def _view(asked: Ballot | None, text: str, *, busy: bool = False) -> list[Any]:
    """What the tab shows: votes are open while there is a ballot; while a pair is made there is only Stop."""
    votes = [gr.Button(interactive=asked is not None) for _ in "ab"]
    return [asked, text, *votes, *(gr.Button(interactive=not busy) for _ in range(2)), gr.Button(interactive=busy)]


def _ask(services: Services, run: PastRun) -> list[Any]:
    if not differs(run):
        told = "Both came out identical, so there is nothing to vote on; choose a faster preset on the Compare tab."
        return _view(None, panels.message(told))
    asked = draw_ballot(run, services.store.own / "blind")
    return _view(asked, _pair(asked, run.prompt, ("A", "B")))


def _vote(run: PastRun, asked: Ballot, answer: Side) -> Vote:
    recipe = run.result["recipe"]
    return Vote(answer, asked.accelerated, run.name, run.result["model"], run.prompt, run.seed, recipe)


def _answered(run: PastRun, asked: Ballot, answer: Side) -> str:
    names = ("A: accelerated", "B: plain") if asked.accelerated == "a" else ("A: plain", "B: accelerated")
    result = "Right." if answer == asked.accelerated else "Wrong."
    speedup, name = run.result["accelerated"]["speedup"], run.result["recipe"]["name"]
    told = f"{result} {asked.accelerated.upper()} is accelerated: {speedup:.2f}× with {name}."
    return panels.message(told) + _pair(asked, run.prompt, names)


def _pair(asked: Ballot, prompt: str, names: tuple[str, str]) -> str:
    panes = "".join(
        f"<figure>{medium(file, name, plays=True)}<figcaption>{name}</figcaption></figure>"
        for file, name in zip(asked.shown, names, strict=True)
    )
    return f'<div class="blind"><p class="note">{escape(prompt)}</p><div class="blind-pair">{panes}</div></div>'

"""Inputs for numbers that may be left out, which Gradio's own input would turn into 0."""

import contextlib
from typing import Any

import gradio as gr


def number_input(label: str, value: Any = None, **settings: Any) -> gr.Textbox:
    """An input that shows `value`, or nothing; any text can be given, for the check that names what is allowed."""
    return gr.Textbox(written(value), label=label, max_lines=1, min_width=90, **settings)


def written(value: Any) -> str:
    """The text that shows a number, empty for None."""
    return "" if value is None else str(value)


def parsed(text: str | None) -> Any:
    """The number that `text` says, None if it is empty; anything else as it is."""
    if not text or not text.strip():
        return None
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text

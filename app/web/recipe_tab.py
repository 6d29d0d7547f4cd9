"""The current settings to take home: recipe as JSON and Python, a link; and recipes of others to load."""

import json
from typing import Any

import gradio as gr

from hasten import AccelerationError, Recipe
from hasten.app.errors import UserError
from hasten.app.web.compare_tab import CompareTab
from hasten.app.web.panels import message
from hasten.app.web.settings import CUSTOM
from hasten.app.web.snippets import page_link, recipe_json, recipe_python

LONGEST_RECIPE = 100_000


def build_recipe_tab(tab: gr.Tab, tabs: gr.Tabs, compare: CompareTab) -> None:
    """Lay the tab out in the current context; it shows what the form of `compare` says and fills it."""
    form = compare.form
    gr.HTML("<h2>Recipe</h2><p>What the first tab is set to, ready to take home.</p>")
    problem = gr.HTML(elem_id="recipe-problem")
    link = gr.Textbox(
        label="Link to this comparison", buttons=["copy"], interactive=False, max_lines=1, elem_id="deep-link"
    )
    with gr.Row():
        as_json = _text_to_copy("Recipe file (JSON)", "recipe-json")
        as_python = _text_to_copy("Python", "recipe-python")
    gr.HTML("<h2>Load a recipe</h2><p>Paste one, or choose a file. It fills the advanced settings.</p>")
    with gr.Row(equal_height=True):
        pasted = gr.Textbox(
            label="Recipe (JSON)", lines=6, max_lines=12, elem_id="recipe-paste", elem_classes="code", scale=2
        )
        file = gr.File(label="Recipe file", file_types=[".json"], type="binary", height=180, scale=1)
    load = gr.Button("Use this recipe", variant="primary", elem_id="recipe-load")

    def show(request: gr.Request, *values: Any) -> list[str]:
        try:
            settings = form.read(values)
        except (UserError, AccelerationError) as error:
            return [message(str(error), "error"), "", "", ""]
        page = str(request.headers.get("referer") or "")
        return ["", page_link(settings, page), recipe_json(settings.recipe), recipe_python(settings)]

    def use(text: str) -> list[Any]:
        try:
            recipe = parse_recipe(text)
        except (UserError, AccelerationError) as error:
            return [gr.skip(), message(str(error), "error"), *[gr.skip()] * len(form.recipe_outputs)]
        return [gr.Tabs(selected="compare"), "", *form.write_recipe(CUSTOM, recipe)]

    tab.select(
        show,
        form.inputs,
        [problem, link, as_json, as_python],
        api_visibility="private",
        show_progress="hidden",
    )
    file.upload(
        lambda content: content.decode(errors="replace")[:LONGEST_RECIPE], file, pasted, api_visibility="private"
    )
    load.click(
        use,
        pasted,
        [tabs, problem, *form.recipe_outputs],
        api_visibility="private",
        show_progress="hidden",
    )


def _text_to_copy(label: str, elem_id: str) -> gr.Textbox:
    return gr.Textbox(
        label=label, lines=8, max_lines=30, interactive=False, buttons=["copy"], elem_id=elem_id, elem_classes="code"
    )


def parse_recipe(text: str) -> Recipe:
    """The recipe in `text`.

    Raises:
        UserError: it is no JSON, or too long.
        AccelerationError: it is JSON, but no recipe.
    """
    if len(text) > LONGEST_RECIPE:
        raise UserError(f"The recipe has {len(text):,} characters; give {LONGEST_RECIPE:,} at most.")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError("The recipe is not JSON; paste what 'Recipe file' shows, or choose such a file.") from error
    return Recipe.from_dict(values)

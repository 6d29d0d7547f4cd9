"""The form of a comparison: its inputs, what they say, and how other tabs fill them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

import hasten
from hasten import Recipe
from hasten.app.web.advanced import AdvancedSettings
from hasten.app.web.numbers import number_input, parsed, written
from hasten.app.web.settings import CUSTOM, Settings, preset_recipe
from hasten.app.web.shelf import Shelf
from hasten.assets import bundled_models, prompts
from hasten.presets import DEFAULT_PRESET, resolve_recipe

NO_SAMPLING = "none"
_EXAMPLES = 3
_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


@dataclass(frozen=True)
class Form:
    """The inputs of a comparison, made inside a `gr.Blocks` context by `build_form`."""

    prompt: gr.Textbox
    examples: gr.Dataset
    preset: gr.Radio
    compare: gr.Button
    stop: gr.Button
    options: tuple[gr.components.Component, ...]
    sampling: gr.Dropdown
    advanced: AdvancedSettings

    @property
    def inputs(self) -> list[gr.components.Component]:
        """Every input, in the order that `read` takes and `write` gives."""
        return [self.prompt, self.preset, *self.options, *self.advanced.components]

    @property
    def recipe_outputs(self) -> list[gr.components.Component]:
        """What shows a recipe, in the order that `write_recipe` gives."""
        return [self.preset, self.sampling, *self.advanced.components]

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What shows settings, in the order that `write` gives."""
        return [self.prompt, *self.options, *self.recipe_outputs]

    def read(self, values: Sequence[Any]) -> Settings:
        """The settings that the inputs say.

        Raises:
            UserError, AccelerationError: an input holds a value that is not allowed.
        """
        prompt, preset, model, negative, width, height, frames, steps, guidance, seed, *advanced = values
        recipe = self.advanced.read(advanced) if preset == CUSTOM else preset_recipe(preset)
        width, height, frames, steps, guidance, seed = map(parsed, (width, height, frames, steps, guidance, seed))
        return Settings(
            model=model or "",
            prompt=(prompt or "").strip(),
            recipe=recipe,
            preset=preset,
            negative_prompt=(negative or "").strip(),
            height=height,
            width=width,
            num_frames=frames,
            steps=steps,
            guidance=guidance,
            seed=0 if seed is None else seed,
        )

    def write(self, settings: Settings) -> list[Any]:
        """Values of `outputs` that show `settings`."""
        preset = settings.preset if hasten.presets().get(settings.preset) == settings.recipe else CUSTOM
        numbers = ("width", "height", "num_frames", "steps", "guidance", "seed")
        texts = [written(getattr(settings, name)) for name in numbers]
        options = (settings.model, settings.negative_prompt, *texts)
        return [settings.prompt, *options, *self.write_recipe(preset, settings.recipe)]

    def write_recipe(self, preset: str, recipe: Recipe) -> list[Any]:
        """Values of `recipe_outputs` that show `recipe`."""
        return [preset, _sampling_name(recipe), *self.advanced.write(recipe)]


def build_form(shelf: Shelf) -> Form:
    """Lay the inputs out in the current context and connect presets with the advanced settings."""
    texts = _examples(bundled_models()[0])
    prompt = gr.Textbox(
        label="Prompt", value=texts[0], lines=2, max_lines=6, elem_id="prompt", placeholder="What to draw"
    )
    examples = gr.Dataset(components=[prompt], label="Try one", **_shown(texts))
    preset = gr.Radio(
        [*hasten.presets(), CUSTOM],
        value=DEFAULT_PRESET,
        label="Preset",
        info="From the most faithful to the fastest.",
        elem_id="preset",
    )
    with gr.Row(elem_classes="actions"):
        compare = gr.Button("Compare", variant="primary", elem_id="compare", scale=3)
        stop = gr.Button("Stop", elem_id="stop", interactive=False, scale=1, min_width=90)
    with gr.Accordion("Model, size and steps", open=False):
        model = gr.Dropdown(
            list(shelf.offered),
            value=shelf.offered[0],
            label="Model",
            allow_custom_value=shelf.any_model,
            elem_id="model",
        )
        with gr.Row():
            width = number_input("Width", placeholder="native")
            height = number_input("Height", placeholder="native")
            frames = number_input("Frames", placeholder="videos")
        with gr.Row():
            steps = number_input("Steps", placeholder="default")
            guidance = number_input("Guidance", placeholder="default")
            seed = number_input("Seed", placeholder="0")
        negative = gr.Textbox(label="Negative prompt", placeholder="What to keep out", max_lines=4)
    with gr.Accordion("Advanced", open=False, elem_id="advanced"):
        sampling = gr.Dropdown(
            [NO_SAMPLING, *hasten.sampling_presets()],
            value=NO_SAMPLING,
            label="Sampling preset",
            info="Steps at a lower resolution in the middle; fills the settings below.",
        )
        advanced = AdvancedSettings(resolve_recipe())
    options = (model, negative, width, height, frames, steps, guidance, seed)
    form = Form(prompt, examples, preset, compare, stop, options, sampling, advanced)
    _connect(form)
    _suggest(form, model)
    return form


def _connect(form: Form) -> None:
    """A preset fills the advanced settings; whoever changes one of those has a custom recipe."""
    inputs, shown = form.advanced.components, form.recipe_outputs

    def fill(preset: str) -> list[Any]:
        return [gr.skip()] * len(shown) if preset == CUSTOM else form.write_recipe(preset, preset_recipe(preset))

    def sample(name: str, *values: Any) -> list[Any]:
        sampling = None if name == NO_SAMPLING else hasten.BottleneckConfig.preset(name)
        try:
            recipe = form.advanced.read(values)
        except ValueError:  # half-typed settings are told about when they are used
            recipe = resolve_recipe()
        return form.write_recipe(CUSTOM, replace(recipe, sampling=sampling))

    form.preset.input(fill, form.preset, shown, **_QUIET)
    form.sampling.input(sample, [form.sampling, *inputs], shown, **_QUIET)
    # in the browser: whoever edits and compares at once is not a step ahead of the server
    for part in form.advanced.parts:
        has_stages = part.name == "sampling"
        edited = [form.preset, form.sampling] if has_stages else [form.preset]
        told = f'() => ["{CUSTOM}", null]' if has_stages else f'() => ["{CUSTOM}"]'
        for component in part.components:
            component.input(None, None, edited, js=told, **_QUIET)


def _sampling_name(recipe: Recipe) -> str | None:
    """What the sampling preset shows for `recipe`; nothing for stages without a name."""
    if recipe.sampling is None:
        return NO_SAMPLING
    return next((name for name, one in hasten.sampling_presets().items() if one == recipe.sampling), None)


def _suggest(form: Form, model: gr.Dropdown) -> None:
    """An example fills the prompt; another bundled model brings its own, in place of an example as it was."""

    def exchange(name: str, prompt: str) -> tuple[Any, Any]:
        if name not in bundled_models():
            return gr.skip(), gr.skip()
        texts = _examples(name)
        untouched = any(prompt in _examples(one) for one in bundled_models())
        return gr.Dataset(**_shown(texts)), texts[0] if untouched else gr.skip()

    form.examples.click(lambda sample: sample[0], form.examples, form.prompt, **_QUIET)
    model.input(exchange, [model, form.prompt], [form.examples, form.prompt], **_QUIET)


def _examples(model: str) -> list[str]:
    return [scene["prompt"] for scene in prompts(model)[:_EXAMPLES]]


def _shown(texts: list[str]) -> dict[str, Any]:
    """Arguments for a `gr.Dataset` that shows `texts`."""
    return {"samples": [[text] for text in texts], "sample_labels": texts}

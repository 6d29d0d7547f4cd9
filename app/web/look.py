"""The look of the page: one accent colour, system fonts, light and dark."""

import gradio as gr

from hasten.app.web.components import STATIC

FAVICON = STATIC / "favicon.png"
_SANS = ["Inter", "ui-sans-serif", "system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
_MONO = ["ui-monospace", "SF Mono", "Cascadia Mono", "Menlo", "Consolas", "monospace"]


def theme() -> gr.themes.Base:
    """Gradio's own components in the page's colours; fonts are those of the system, so nothing is fetched."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.stone,
        spacing_size=gr.themes.sizes.spacing_md,
        radius_size=gr.themes.sizes.radius_lg,
        text_size=gr.themes.sizes.text_md,
        font=_SANS,
        font_mono=_MONO,
    ).set(
        body_background_fill="#faf9f7",
        body_background_fill_dark="#171513",
        body_text_color="#1c1917",
        body_text_color_dark="#f3f0ec",
        body_text_color_subdued="#5f5a55",
        body_text_color_subdued_dark="#aaa39b",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#211e1b",
        background_fill_secondary="#faf9f7",
        background_fill_secondary_dark="#171513",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_shadow="none",
        block_padding="0px",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_title_text_weight="550",
        block_title_text_color="#1c1917",
        block_title_text_color_dark="#f3f0ec",
        block_info_text_color="#5f5a55",
        block_info_text_color_dark="#aaa39b",
        border_color_primary="#e4e0da",
        border_color_primary_dark="#38332e",
        input_background_fill="#ffffff",
        input_background_fill_dark="#211e1b",
        input_border_color="#d3cdc5",
        input_border_color_dark="#4a443e",
        input_border_color_focus="#0f766e",
        input_border_color_focus_dark="#2dd4bf",
        input_placeholder_color="#6f6962",
        input_placeholder_color_dark="#9a938b",
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_hover="#115e59",
        button_primary_background_fill_dark="#2dd4bf",
        button_primary_background_fill_hover_dark="#5eead4",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#0b2422",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_dark="#211e1b",
        button_secondary_border_color="#d3cdc5",
        button_secondary_border_color_dark="#4a443e",
        button_border_width="1px",
        button_large_radius="12px",
        panel_border_width="0px",
        layout_gap="20px",
        form_gap_width="0px",
        slider_color="#0f766e",
        slider_color_dark="#2dd4bf",
        link_text_color="#0f766e",
        link_text_color_dark="#2dd4bf",
    )


def css() -> str:
    """The style sheet of everything that is not Gradio's."""
    return (STATIC / "page.css").read_text(encoding="utf-8")

"""The whole page, and how it is served."""

import os
import secrets
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr

from hasten import AccelerationError
from hasten.app.errors import UserError
from hasten.app.web import look, panels
from hasten.app.web.blind_tab import build_blind_tab
from hasten.app.web.compare_tab import CompareTab, build_compare_tab
from hasten.app.web.endpoints import add_endpoints
from hasten.app.web.engine import Engine
from hasten.app.web.explore_tab import build_explore_tab
from hasten.app.web.gallery_tab import build_gallery_tab
from hasten.app.web.limits import Limits
from hasten.app.web.recipe_tab import build_recipe_tab
from hasten.app.web.runs import RunStore
from hasten.app.web.services import Services
from hasten.app.web.settings import Settings
from hasten.app.web.shelf import Shelf

TITLE = "hasten"
_LARGEST_UPLOAD = "1mb"
_CACHE_SECONDS = (600, 3600)
"""How often Gradio looks for old downloads and uploads, and how old they become."""
_HEADER = (
    '<header class="masthead"><h1>hasten</h1>'
    "<p>The same prompt and seed, plain and accelerated, with what it saves and what it costs.</p></header>"
)

_SCRIPT = """
document.addEventListener("click", (event) => {
  const progress = document.querySelector("#progress");
  if (event.target.closest("#compare") && progress?.getBoundingClientRect().top > innerHeight) {
    progress.scrollIntoView({ behavior: "smooth", block: "start" });
  }
});
document.addEventListener("input", (event) => {
  if (event.target.closest("#advanced")) document.querySelector("#preset input[value=custom]").click();
});
"""
"""On a small screen the results are below the form: whoever compares is taken there. Whoever types or pastes an
advanced setting has a custom recipe at once; Gradio's own event for it misses what is pasted."""


class Page(gr.Blocks):
    """
    The page, which has a device to give back. `close` it when it is served no more: whoever mounts it as well.

    Args:
        services (`Services`): What its tabs share.
    """

    def __init__(self, services: Services) -> None:
        super().__init__(title=TITLE, analytics_enabled=False, delete_cache=_CACHE_SECONDS)
        self.services = services

    def close(self, verbose: bool = False) -> None:
        """End the jobs, a running one at its next step, and stop serving."""
        self.services.engine.close()
        super().close(verbose)


def build_app(
    outputs: Path = Path("outputs"),
    *,
    models: tuple[str, ...] = (),
    any_model: bool = False,
    dtype: str = "auto",
    device: str = "auto",
    limits: Limits | None = None,
) -> Page:
    """
    The page as `gr.Blocks`, to be launched or mounted with `serving_options`, and closed at the end.

    It opens before torch and diffusers are loaded, which begins when somebody has opened it.

    Args:
        outputs (`Path`): Where comparisons and votes are kept; the only folder that the page serves files from.
        models (`tuple[str, ...]`): Folders and hub ids to offer beside the bundled models.
        any_model (`bool`): Whether visitors may name models themselves; only for people whom you trust.
        dtype, device (`str`): As for the command line.
        limits (`Limits`, *optional*): The most that one comparison may ask for.

    Raises:
        UserError: the device does not exist.
    """
    limits = limits or Limits()
    outputs.mkdir(parents=True, exist_ok=True)
    services = Services(
        Engine(limits.waiting),
        Shelf(models, any_model, dtype=dtype, device=device),
        limits,
        RunStore(outputs, limits.kept_runs),
    )
    with Page(services) as page:
        gr.HTML(_HEADER, js_on_load=_SCRIPT)
        with gr.Tabs(selected="compare", elem_classes="pages") as tabs:
            with gr.Tab("Compare", id="compare"):
                compare = build_compare_tab(services)
            with gr.Tab("Blind test", id="blind") as blind:
                build_blind_tab(services, blind, compare)
            with gr.Tab("Explore", id="explore") as explore:
                build_explore_tab(services, explore)
            with gr.Tab("Recipe", id="recipe") as recipe:
                build_recipe_tab(recipe, tabs, compare)
            with gr.Tab("Gallery", id="gallery") as gallery:
                build_gallery_tab(services, gallery, tabs, compare)
        _open_deep_links(page, services, compare)
        add_endpoints(services)

        def leave(request: gr.Request) -> None:
            """Whoever closes or reloads the page gives the device back."""
            services.engine.cancel(request.session_hash or "")

        page.unload(leave)
        page.load(services.prepare, None, None, api_visibility="private", queue=False, show_progress="hidden")
    page.queue(default_concurrency_limit=None)
    return page


def serving_options(outputs: Path, password: str | None = None, *, mcp: bool = False) -> dict[str, Any]:
    """Arguments for `Blocks.launch` and `gr.mount_gradio_app` alike: look, access, and what may be read.

    Args:
        outputs (`Path`): The folder that `build_app` was given.
        password (`str`, *optional*): Asked for, together with any user name, before the page opens.
        mcp (`bool`, defaults to `False`): Whether agents find the named endpoints as tools at `/gradio_api/mcp/`.
    """
    guard = None if password is None else partial(_is_password, password)
    return {
        "theme": look.theme(),
        "css": look.css(),
        "allowed_paths": [str(outputs.resolve())],
        "max_file_size": _LARGEST_UPLOAD,
        "auth": guard,
        "footer_links": ["api", "settings"],
        "run_history": False,
        "show_error": True,
        "enable_monitoring": False,
        "favicon_path": str(look.FAVICON),
        "ssr_mode": False,
        "mcp_server": mcp,
    }


def _is_password(password: str, _user: str, given: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "surrogatepass"), password.encode("utf-8", "surrogatepass"))


def _open_deep_links(page: gr.Blocks, services: Services, compare: CompareTab) -> None:
    """`?compare=…` in the address fills the form."""
    filled = compare.form.outputs

    def open_link(request: gr.Request) -> list[Any]:
        token = request.query_params.get("compare")
        if token is None:
            return [gr.skip()] * (len(filled) + 1)
        try:
            settings = Settings.from_link(str(token))
            services.shelf.check(settings.model)
        except (UserError, AccelerationError) as error:
            return [*[gr.skip()] * len(filled), panels.message(str(error), "error")]
        told = panels.message("These settings come from a link. Choose Compare to make it.")
        return [*compare.form.write(settings), told]

    page.load(open_link, None, [*filled, compare.progress], api_visibility="private", show_progress="hidden")

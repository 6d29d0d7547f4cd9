import os
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from page_actions import compare
from served_page import WIDE, Served

pytest.importorskip("gradio", reason="the web page needs gradio, from the extra app")

from hasten.app.web.application import build_app, serving_options

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 180_000


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    outputs = tmp_path_factory.mktemp("outputs")
    page = build_app(outputs)
    _, url, _ = page.launch(
        prevent_thread_lock=True, quiet=True, **serving_options(outputs, mcp=bool(find_spec("mcp")))
    )
    yield Served(url, outputs)
    page.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def a_run(browser: Any, served: Served) -> Path:
    """A comparison made on the page once, for tests that look at what is left of it."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(served.url)
    compare(page)
    page.close()
    return next((served.outputs / "app").glob("*/result.json")).parent


@pytest.fixture
def visit(browser: Any, served: Served) -> Iterator[Callable[..., Any]]:
    """Open the page; at the end no page may have logged an error or asked for anything outside."""
    complaints: list[str] = []
    contexts = []

    def open_page(path: str = "", *, viewport: dict[str, int] = WIDE, dark: bool = False, strict: bool = True) -> Any:
        context = browser.new_context(viewport=viewport, color_scheme="dark" if dark else "light")
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        if strict:
            watch(page)
        page.goto(served.url + path)
        page.wait_for_selector("#compare")
        return page

    def watch(page: Any) -> None:
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if is_outside(request.url) else None)

    def is_outside(url: str) -> bool:
        return not url.startswith((served.url, "data:", "blob:"))

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints

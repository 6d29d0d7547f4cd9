"""The page in each of its states, by the rules of axe."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from page_actions import fill, open_accordion, open_tab, set_up
from served_page import NARROW, WIDE

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the check needs axe-playwright-python")

SETTLED = 300
"""Milliseconds after which colours have faded in."""


def broken_rules(page: Any) -> list[Any]:
    page.wait_for_timeout(SETTLED)
    found = axe.Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found]


@pytest.mark.parametrize(("viewport", "dark"), [(NARROW, False), (WIDE, True)], ids=["narrow-light", "wide-dark"])
def test_no_rule_is_broken_in_any_state(
    visit: Callable[..., Any], a_run: Path, viewport: dict[str, int], dark: bool
) -> None:
    page = visit(viewport=viewport, dark=dark)
    broken = {"first visit": broken_rules(page)}
    set_up(page, side=128, steps=0)
    for accordion in ("Advanced", "Sparse attention", "Bottleneck sampling", "Quantized KV cache"):
        open_accordion(page, accordion)
    broken["open accordions"] = broken_rules(page)
    page.click("#compare")
    page.get_by_role("alert").wait_for()
    broken["error"] = broken_rules(page)
    fill(page, {"Steps": 100})
    page.click("#compare")
    page.wait_for_selector(".ribbon i.done", state="attached")
    broken["running"] = broken_rules(page)
    page.click("#stop")
    page.get_by_text("Stopped. Nothing was kept.").wait_for()
    open_tab(page, "Blind test")
    page.click("#blind-draw")
    page.wait_for_selector("#pair img")
    broken["blind pair"] = broken_rules(page)
    for name in ("Explore", "Recipe", "Gallery"):
        open_tab(page, name)
        broken[name] = broken_rules(page)
    page.locator(".card").first.click()
    page.wait_for_selector(".figures tbody")
    broken["result"] = broken_rules(page)
    assert not any(broken.values()), broken

"""What visitors do on the page, in the browser."""

import re
from typing import Any

STEPS = 6


def set_up(page: Any, *, side: int = 64, steps: int = STEPS) -> None:
    open_accordion(page, "Model, size and steps")
    fill(page, {"Width": side, "Height": side, "Steps": steps})


def fill(page: Any, values: dict[str, Any]) -> None:
    for label, value in values.items():
        page.get_by_label(label, exact=True).fill(str(value))


def compare(page: Any, **settings: int) -> None:
    set_up(page, **settings)
    page.click("#compare")
    page.wait_for_selector(".figures tbody")


def open_tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def open_accordion(page: Any, name: str) -> None:
    page.locator("button.label-wrap", has_text=re.compile(f"^{name}")).click()


def choose(page: Any, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()


def pictures_are_loaded(page: Any, selector: str) -> bool:
    return page.eval_on_selector_all(
        selector, "pictures => pictures.length > 0 && pictures.every(p => p.complete && p.naturalWidth > 0)"
    )

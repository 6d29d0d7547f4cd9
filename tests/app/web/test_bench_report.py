"""The report of a benchmark in headless Chromium: its pictures are there and nothing is asked for elsewhere."""

import re
from pathlib import Path
from typing import Any

import pytest
from invented_benchmark import METHODS, NAMES, REQUESTS, WORKLOAD, counting, measure
from served_page import NARROW, WIDE

from hasten.app.loading import LoadedModel
from hasten.app.methods import PLAIN
from hasten.app.series import Method


@pytest.fixture(scope="module")
def folder(emoji_image: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark of invented calls, one method of which cannot run."""

    def warm_up(_model: LoadedModel, methods: list[Method], _workload: object) -> None:
        if methods[0].name == "refused":
            raise ValueError("it wants <10> steps")

    out = tmp_path_factory.mktemp("report") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hasten.app.bench_pipeline.warm_up", warm_up)
        patch.setattr("hasten.app.benchmark.kept_calls.run", counting([]))
        measure(out, emoji_image, methods=[*METHODS, Method("refused", PLAIN.active)])
    return out


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_shows_all_pictures_without_asking_for_anything(
    browser: Any, folder: Path, viewport: dict[str, int], dark: bool
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the check of accessibility needs axe")
    context = browser.new_context(viewport=viewport, color_scheme="dark" if dark else "light", bypass_csp=True)
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    page.goto((folder / "report.html").as_uri())
    images = page.locator("img")
    assert images.count() == len(REQUESTS) * len(NAMES)
    assert images.evaluate_all("all => all.every(one => one.complete && one.naturalWidth === 32 && one.alt)")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert [url for url in asked if not url.startswith("data:")] == [(folder / "report.html").as_uri()]
    assert page.locator("tbody tr").count() == len(NAMES) + 1
    assert page.locator("svg").count() == 2
    text = page.locator("main").inner_text()
    for words in (
        *NAMES,
        "refused",
        "did not run: it wants <10> steps",
        '<b>"a cat" & a dog</b>',
        "seed 2",
        "torch 2.",
    ):
        assert words in text
    found = axe.Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found] == []
    assert complaints == []
    context.close()


def test_its_source_names_no_other_place(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    assert not re.search(r"https?:|@import|url\(|<script|<link|<iframe", text)
    assert "default-src 'none'" in text
    links = re.findall(r'href="([^"]+)"', text)
    assert len(links) == len(REQUESTS) * len(NAMES)
    assert all((folder / link).is_file() for link in links)


def test_it_stays_small_and_says_what_it_leaves_out(
    emoji_image: LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("hasten.app.bench_pipeline.warm_up", lambda *_: None)
    monkeypatch.setattr("hasten.app.benchmark.kept_calls.run", counting([]))
    monkeypatch.setattr("hasten.app.benchmark.report.PICTURE_BYTES", 9_000)
    measure(tmp_path / "out", emoji_image, workload=WORKLOAD)
    text = (tmp_path / "out" / "report.html").read_text()
    shown = text.count("<img")
    assert 0 < shown < len(REQUESTS) * len(NAMES)
    assert f"The first {shown // len(NAMES)} of {len(REQUESTS)} requests" in text

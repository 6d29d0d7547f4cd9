"""The page as people use it, in headless Chromium on the bundled model. Timing decides nothing."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from page_actions import STEPS, choose, compare, fill, open_accordion, open_tab, pictures_are_loaded, set_up
from served_page import NARROW, Served

from hasten import Recipe, RettentionConfig
from hasten.assets import prompts

Visit = Callable[..., Any]

BRIEF = 50
"""Letters of an example that its button shows at least."""


def test_a_comparison_shows_both_results_and_every_way_to_look_at_them(visit: Visit, served: Served) -> None:
    page = visit()
    compare(page)
    assert pictures_are_loaded(page, "#viewer img")
    assert page.locator(".figures tbody tr").count() == 3
    assert page.locator(".charts figure").count() == 2
    assert {page.locator("#viewer .viewer").get_attribute("data-mode")} == {"wipe"}
    page.get_by_label("Wipe between plain and accelerated").focus()
    page.keyboard.press("Home")
    assert page.locator("#viewer .viewer").evaluate("v => v.style.getPropertyValue('--wipe')") == "0%"
    page.get_by_role("button", name="Difference").click()
    assert page.locator("#viewer .right").evaluate("p => getComputedStyle(p).mixBlendMode") == "difference"
    plain = page.locator("#viewer .left img").get_attribute("src")
    accelerated = page.locator("#viewer .right img").get_attribute("src")
    page.get_by_role("button", name="Plain, equal seconds").click()
    assert len({plain, accelerated, page.locator("#viewer .right img").get_attribute("src")}) == 3


def test_a_run_can_be_stopped_and_the_next_one_works(visit: Visit, served: Served) -> None:
    before = set((served.outputs / "app").glob("*/result.json"))
    page = visit()
    set_up(page, side=128, steps=100)
    page.click("#compare")
    page.wait_for_selector(".ribbon i.done", state="attached")
    page.click("#stop")
    page.get_by_text("Stopped. Nothing was kept.").wait_for()
    assert set((served.outputs / "app").glob("*/result.json")) == before
    fill(page, {"Steps": STEPS, "Width": 64, "Height": 64})
    page.click("#compare")
    page.wait_for_selector(".figures tbody")


def test_a_reload_in_the_middle_gives_the_device_to_the_next_visitor(visit: Visit) -> None:
    # Gradio's own client complains of the stream that a reload cuts off
    first, second = visit(strict=False), visit()
    set_up(first, side=128, steps=100)
    first.click("#compare")
    first.wait_for_selector(".ribbon i.done", state="attached")
    set_up(second)
    second.get_by_label("Prompt", exact=True).fill("of the second visitor")
    second.click("#compare")
    second.get_by_text("Waiting: 1 comparison ahead of yours").wait_for()
    first.reload()
    first.wait_for_selector("#compare")
    second.wait_for_selector(".figures tbody")
    assert first.locator(".figures").count() == 0
    assert first.get_by_label("Prompt", exact=True).input_value() != "of the second visitor"


def test_examples_are_those_of_the_model(visit: Visit) -> None:
    page = visit()
    prompt = page.get_by_label("Prompt", exact=True)
    open_accordion(page, "Model, size and steps")
    for model in ("emoji-video", "emoji-image"):
        choose(page, "Model", model)
        first, second = (scene["prompt"] for scene in prompts(model)[:2])
        page.get_by_role("button", name=second[:BRIEF]).click()
        page.wait_for_function("text => document.querySelector('#prompt textarea').value === text", arg=second)
        page.get_by_role("button", name=first[:BRIEF]).click()
        page.wait_for_function("text => document.querySelector('#prompt textarea').value === text", arg=first)
    prompt.fill("a thing of mine")
    choose(page, "Model", "emoji-video")
    page.get_by_role("button", name=prompts("emoji-video")[0]["prompt"][:BRIEF]).wait_for()
    assert prompt.input_value() == "a thing of mine"


def test_two_visitors_at_once_each_get_their_own(visit: Visit, served: Served) -> None:
    visitors = {prompt: visit() for prompt in ("a red car", "a green tree")}
    for prompt, page in visitors.items():
        set_up(page)
        fill(page, {"Prompt": prompt})
        page.click("#compare")
    runs = set()
    for prompt, page in visitors.items():
        page.wait_for_selector(".figures tbody")
        picture = page.locator("#viewer .left img").get_attribute("src")
        run = served.outputs / "app" / picture.split("/app/")[1].split("/")[0]
        assert json.loads((run / "result.json").read_text())["requests"][0]["prompt"] == prompt
        runs.add(run)
    assert len(runs) == 2


WRONG_INPUTS: list[tuple[dict[str, str], str]] = [
    ({"Prompt": ""}, "The prompt is empty"),
    ({"Prompt": "x" * 10_000}, "The prompt has 10,000 characters"),
    ({"Width": "wide"}, "'wide' was given for the width"),
    ({"Height": "100"}, "cannot make a height of 100 pixels"),
    ({"Width": "16384", "Height": "16384"}, "bytes of memory"),
    ({"Frames": "5"}, "PixArtSigmaPipeline takes no"),
    ({"Steps": "0"}, "0 was given for the steps"),
    ({"Guidance": "-1"}, "-1 was given for the guidance"),
    ({"Seed": "1.5"}, "1.5 was given for the seed"),
    ({"Negative prompt": "x" * 10_000}, "The negative prompt has 10,000 characters"),
]


def test_wrong_input_in_every_field_is_answered_in_the_page(visit: Visit) -> None:
    page = visit()
    set_up(page)
    for accordion in ("Advanced", "Sparse attention"):
        open_accordion(page, accordion)
    for wrong, sentence in WRONG_INPUTS:
        right = {label: page.get_by_label(label, exact=True).input_value() for label in wrong}
        fill(page, wrong)
        page.click("#compare")
        page.get_by_role("alert").get_by_text(sentence).wait_for()
        fill(page, right)
    density = page.locator("#attention-density").get_by_role("textbox")
    for wrong, sentence in (("7", "density=7"), ("much", "density='much'"), ("", "density=None")):
        density.fill(wrong)
        page.click("#compare")
        page.get_by_role("alert").get_by_text(sentence).wait_for()
    density.fill("0.25")
    open_tab(page, "Recipe")
    page.locator("#recipe-paste textarea").fill("[")
    page.click("#recipe-load")
    page.get_by_role("alert").get_by_text("The recipe is not JSON").wait_for()
    open_tab(page, "Compare")
    page.click("#compare")
    page.wait_for_selector(".figures tbody")


def test_a_blind_vote_is_kept_and_counted(visit: Visit, served: Served, a_run: Path) -> None:
    page = visit()
    open_tab(page, "Blind test")
    page.click("#blind-draw")
    page.wait_for_selector("#pair img")
    assert pictures_are_loaded(page, "#pair img")
    names = page.eval_on_selector_all("#pair img", "pictures => pictures.map(p => p.src)")
    assert not [name for name in names if re.search("accelerated|baseline", name)]
    page.click("#vote-a")
    page.get_by_text(re.compile("(Right|Wrong). [AB] is accelerated")).wait_for()
    (line,) = (served.outputs / "app" / "votes.jsonl").read_text().splitlines()
    vote = json.loads(line)
    assert vote["correct"] == (vote["accelerated"] == "a")
    assert {"prompt", "seed", "recipe", "run"} <= set(vote)
    page.get_by_text("of 1 vote found it, 95 % interval").wait_for()


def test_a_new_blind_pair_can_be_stopped(visit: Visit) -> None:
    page = visit()
    set_up(page, side=128, steps=100)
    open_tab(page, "Blind test")
    page.click("#blind-make")
    page.get_by_text("Making both, without telling which is which").wait_for()
    page.click("#blind-stop")
    page.get_by_text("Stopped. Nothing was kept.").wait_for()
    assert page.locator("#vote-a").is_disabled()
    assert page.locator("#blind-make").is_enabled()


def test_the_sampling_preset_shown_is_the_one_that_is_set(visit: Visit) -> None:
    page = visit()
    open_accordion(page, "Advanced")
    choose(page, "Sampling preset", "pixart-x2")
    page.wait_for_selector("#preset input[value=custom]:checked", state="attached")
    page.locator("#preset label", has_text="quality").click()
    page.wait_for_function("document.querySelector('input[aria-label=\"Sampling preset\"]').value === 'none'")


def test_a_recipe_makes_the_round_trip(visit: Visit) -> None:
    page = visit()
    open_tab(page, "Recipe")
    recipe = Recipe(RettentionConfig(density=0.125, dense_steps=2, dense_blocks=(0, 3)))
    page.locator("#recipe-paste textarea").fill(json.dumps(recipe.to_dict()))
    page.click("#recipe-load")
    page.wait_for_selector("#preset input[value=custom]:checked", state="attached")
    open_tab(page, "Recipe")
    page.wait_for_function("document.querySelector('#recipe-json textarea').value.includes('0.125')")
    link = page.locator("#deep-link textarea, #deep-link input").input_value()
    other = visit("?" + link.split("?")[1])
    other.get_by_text("These settings come from a link").wait_for()
    open_tab(other, "Recipe")
    other.wait_for_function("document.querySelector('#recipe-json textarea').value.includes('0.125')")
    shown = other.locator("#recipe-json textarea").input_value()
    assert Recipe.from_dict(json.loads(shown)) == recipe


def test_past_runs_are_downloaded_by_one_click_and_one_opens_by_another(visit: Visit, a_run: Path) -> None:
    page = visit()
    open_tab(page, "Gallery")
    page.locator(".card").first.wait_for()
    with page.expect_download() as download:
        page.click("#download-all")
    with ZipFile(download.value.path()) as archive:
        assert {f"app/{a_run.name}/{name}" for name in ("result.json", "accelerated-01.png")} <= set(archive.namelist())
    page.locator(".card").first.click()
    page.wait_for_selector(".figures tbody")
    page.wait_for_function("document.querySelector('#viewer .left img')?.naturalWidth > 0")
    open_accordion(page, "Model, size and steps")
    assert page.get_by_label("Steps", exact=True).input_value() == str(STEPS)


def test_a_point_of_the_frontier_tells_its_figures_by_keyboard(visit: Visit) -> None:
    page = visit()
    open_tab(page, "Explore")
    page.get_by_role("button", name=re.compile("^balanced: ")).focus()
    page.keyboard.press("Enter")
    page.locator("#point h3", has_text="balanced").wait_for()


def test_a_phone_shows_everything_within_its_width(visit: Visit, a_run: Path) -> None:
    page = visit(viewport=NARROW)
    for name in ("Compare", "Blind test", "Explore", "Gallery"):
        page.get_by_role("tab", name=name, exact=True).click()
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], name

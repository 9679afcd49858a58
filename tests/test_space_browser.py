from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio
import pytest

from modeling_docre import DEFAULT_MODEL, Document
from modeling_docre.extraction import load_pipeline
from modeling_docre.spaces_app.app import LOWEST_THRESHOLD, THEME, build_demo

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is absent: pip install '.[test]'")

CHROMIUM = os.environ.get("DOCRE_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install it, or name its program in DOCRE_CHROMIUM"),
    pytest.mark.slow,
]
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
# Older versions of gradio fetch this one script, which tells a frame around the page its height.
OLD = tuple(map(int, gradio.__version__.split(".")[:2])) < (6, 24)
MARKUP = (
    "[Ada](ada:PER) was born in [London](:LOC). "
    "[She](ada) left [England](:LOC) for the [City of [Paris](:LOC)](c:ORG)."
)
HOSTILE = (
    "[<img src=x onerror=window.hit=1>](k:PER) met [<script>window.hit=2</script>](:<svg onload=window.hit=3>) in "
    "[${window.hit=4}{{window.hit=5}}](:LOC). <iframe srcdoc='<script>parent.hit=6</script>'></iframe>"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def pipe(tiny_checkpoint: Path) -> Any:
    return load_pipeline(str(tiny_checkpoint), "cpu")


@pytest.fixture(scope="module")
def address(pipe: Any) -> Iterator[str]:
    demo = build_demo(pipe)
    yield demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, theme=THEME)[1]
    demo.close(verbose=False)


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A fresh page; at the end, nothing may have gone wrong in it, and nobody outside may have been asked."""
    opened = browser.new_page(viewport={"width": 1280, "height": 1000})
    errors: list[str] = []
    opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    outside: list[str] = []

    def note(request: Any) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            outside.append(request.url)

    opened.on("request", note)
    if OLD:
        opened.route("**/iframeResizer*", lambda route: route.fulfill(body=""))
    opened.goto(f"{address}?__theme=light")
    opened.wait_for_selector(".docre-answer")
    opened.wait_for_function("window.docre !== undefined")
    yield opened
    opened.close()
    assert errors == []
    assert [url for url in outside if not (OLD and "iframeResizer" in url)] == []


def extract(page: Any, text: str) -> None:
    """Type a text, press the button and wait for what it gives."""
    page.evaluate("document.querySelector('#docre-result .docre-page').dataset.old = 'yes'")
    page.fill("#docre-box textarea", text)
    page.get_by_role("button", name="Extract relations").click()
    page.wait_for_function("!document.querySelector('#docre-result .docre-page').dataset.old", timeout=60000)


def set_threshold(page: Any, threshold: float) -> None:
    field = page.locator("#docre-threshold input[type=number]")
    field.fill(str(threshold))
    field.press("Enter")
    page.wait_for_function(f"document.querySelector('.docre-answer').dataset.threshold === '{threshold:g}'")


def visible_rows(page: Any) -> list[tuple[str, ...]]:
    rows = page.locator("tr[data-relation]").filter(visible=True)
    return [tuple(cell.strip() for cell in row.split("\t")[:3]) for row in rows.all_inner_texts()]


def expected_rows(answer: dict[str, Any]) -> list[tuple[str, ...]]:
    return [(item["head_name"], item["label"], item["tail_name"]) for item in answer["relations"]]


def test_type_press_read_sift_and_take_along(page, pipe, tmp_path):
    extract(page, MARKUP)
    document = Document.from_markup(MARKUP)
    assert page.locator("mark[data-entity='0']").all_inner_texts() == ["Ada", "She"]
    assert page.locator("mark mark").all_inner_texts() == ["Paris"]
    assert page.locator(".docre-text").inner_text() == document.text
    assert visible_rows(page) == expected_rows(pipe(document))
    sizes = set()
    for threshold in (LOWEST_THRESHOLD, 0.6, 0.9, 0.99):
        set_threshold(page, threshold)
        expected = pipe(document, threshold=threshold)
        assert visible_rows(page) == expected_rows(expected)
        assert page.locator(".docre-count").inner_text() == str(len(expected["relations"]))
        edges = page.locator(".docre-edge").filter(visible=True)
        assert edges.count() == len(expected["relations"])
        sizes.add(len(expected["relations"]))
        with page.expect_download() as download:
            page.get_by_role("button", name="Download JSON").click()
        download.value.save_as(tmp_path / "relations.json")
        assert json.loads((tmp_path / "relations.json").read_text("utf-8")) == json.loads(json.dumps(expected))
    assert len(sizes) > 2, "the thresholds made a difference"
    # What the slider says holds for the next document too.
    set_threshold(page, 0.9)
    other = "[Bo](:PER) saw [Rome](:LOC)."
    extract(page, other)
    assert visible_rows(page) == expected_rows(pipe(Document.from_markup(other), threshold=0.9))
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert (tmp_path / "page.png").stat().st_size > 20_000


def test_a_model_surer_than_the_slider_s_end_has_a_page_that_works(browser, tiny_checkpoint):
    for own in (0.995, 0.3137):
        pipe = load_pipeline(str(tiny_checkpoint), "cpu")
        pipe.model.config.threshold = own
        demo = build_demo(pipe)
        address = demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)[1]
        page = browser.new_page()
        page.goto(address)
        page.wait_for_function("window.docre !== undefined")
        assert float(page.locator("#docre-threshold input[type=number]").input_value()) == own
        extract(page, MARKUP)
        assert visible_rows(page) == expected_rows(pipe(Document.from_markup(MARKUP)))
        page.close()
        demo.close(verbose=False)


def test_hostile_text_is_text(page):
    extract(page, HOSTILE)
    set_threshold(page, LOWEST_THRESHOLD)
    for row in page.locator("tr[data-relation]").filter(visible=True).all()[:3]:
        row.hover()
        row.click()
    text = page.locator(".docre-text").inner_text()
    assert text == Document.from_markup(HOSTILE).text
    assert "<img src=x onerror=window.hit=1>" in page.locator(".docre-table").inner_text()
    assert "<svg onload=window.hit=3>" in page.locator(".docre-entities").inner_text()
    assert "<script>window.hit=2</script>" in page.locator(".docre-graph svg").inner_html().replace(
        "&lt;", "<"
    ).replace("&gt;", ">")
    for broken in ("[<img src=x onerror=window.hit=7>](a", "<img src=x onerror=window.hit=8>", " "):
        extract(page, broken)
        assert page.get_by_role("alert").filter(has_text="cannot be read").is_visible()
        assert page.locator("tr[data-relation]").count() == 0
    assert "choose an example" in page.get_by_role("alert").inner_text()
    page.wait_for_timeout(300)
    assert page.evaluate("window.hit") is None
    assert page.locator(".docre-page img, .docre-page script, .docre-page iframe").count() == 0


def test_an_example_runs_when_it_is_chosen(page):
    page.get_by_text("A river, in short").click()
    page.wait_for_function("document.querySelector('.docre-text').textContent.startsWith('The Orla')", timeout=60000)
    assert page.locator("#docre-box textarea").input_value().startswith("The [Orla]")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_colour_has_enough_contrast(page, address, theme):
    page.goto(f"{address}?__theme={theme}")
    page.wait_for_selector(".docre-answer")
    # Every hue there is, not only those of this document.
    ratios = page.evaluate(
        """() => {
        const numbers = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
        const linear = (value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
        const light = (colour) => numbers(colour).map((value) => linear(value / 255))
            .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
        const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
        const mark = document.querySelector("mark");
        const found = {};
        for (let hue = 0; hue < 360; hue += 3) {
            mark.style.transition = "none";
            mark.style.setProperty("--hue", hue);
            const style = getComputedStyle(mark);
            found[`mark ${hue}`] = ratio(style.color, style.backgroundColor);
        }
        const panel = getComputedStyle(document.querySelector(".docre-panel")).backgroundColor;
        for (const name of [".docre-text", ".docre-reason", "th", ".docre-table td", ".docre-entities small"])
            found[name] = ratio(getComputedStyle(document.querySelector(name)).color, panel);
        const button = getComputedStyle(document.querySelector("button.primary"));
        found.button = ratio(button.color, button.backgroundColor);
        return found;
    }"""
    )
    assert len(ratios) == 126
    assert min(ratios.values()) >= 4.5, {name: ratio for name, ratio in ratios.items() if ratio < 4.5}


def test_a_narrow_window_is_not_wider_than_it_is(page):
    page.set_viewport_size({"width": 400, "height": 900})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


@pytest.mark.skipif(not DEFAULT_MODEL.is_dir(), reason=f"the embedded model is absent: {DEFAULT_MODEL}")
def test_a_chosen_relation_lights_up_its_entities_and_its_evidence(browser):
    pipe = load_pipeline(None, "cpu")
    demo = build_demo(pipe)
    address = demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)[1]
    page = browser.new_page()
    page.goto(address)
    page.wait_for_function("window.docre !== undefined")
    markup = page.locator("#docre-box textarea").input_value()
    relations = pipe(Document.from_markup(markup))["relations"]
    assert visible_rows(page) == expected_rows({"relations": relations}), "the page opens with an answer"
    evidence = [relation["evidence"] for relation in relations]
    # One without evidence sentences, where there is one, and one with them.
    chosen = {
        next((number for number, found in enumerate(evidence) if bool(found) == has), 0) for has in (False, True)
    }
    for number in sorted(chosen):
        row = page.locator(f"tr[data-relation='{number}']")
        row.get_by_role("button").press("Enter")
        relation = relations[number]
        lit = page.locator(".docre-sentence.docre-evidence")
        numbers = [int(sentence) for sentence in lit.evaluate_all("(all) => all.map((one) => one.dataset.sentence)")]
        assert numbers == sorted(relation["evidence"])
        ends = page.locator("mark.docre-end").evaluate_all("(all) => all.map((one) => Number(one.dataset.entity))")
        assert set(ends) == {relation["head"], relation["tail"]}
        reason = page.locator(".docre-reason").inner_text()
        assert f"{relation['head_name']} — {relation['label']} → {relation['tail_name']}" in reason
        assert re.findall(r"\d+", reason.rpartition("):")[2]) == [str(sentence) for sentence in relation["evidence"]]
        assert row.get_by_role("button").get_attribute("aria-pressed") == "true"
        assert page.locator(".docre-edge.docre-picked").count() == 1
    page.keyboard.press("Escape")
    assert page.locator(".docre-picked, .docre-end, .docre-evidence").count() == 0
    page.close()
    demo.close(verbose=False)

"""Answers that are hard to format, in a real browser. What they cost: ``tests.browser.frames``."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import ConsoleMessage, Page, expect

from tests.browser.fake_edge import WEB, FakeEdges, Script
from tests.browser.frames import PREPARE, STREAM, serve_modules

pytestmark = pytest.mark.browser

NewPage = Callable[..., Page]
INPUTS = 200
CHARS = 5_000
PIECE = 1_000


def formatted(page: Page) -> list[str]:
    """Collects what the page could only show without formatting."""
    failed: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type == "warning":
            failed.append(message.text)

    page.on("console", listen)
    return failed


def test_an_answer_of_quotes_hides_nothing_of_what_stands_around_it(
    fakes: FakeEdges, new_page: NewPage
) -> None:
    page = new_page()
    failed = formatted(page)
    fakes.next_script = Script(["What was **said**\n\n", *[">" * 100] * 50, "\n\n", "and so on."])
    page.goto(fakes.urls[0])
    page.get_by_label("Your question").fill("Who said it?")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_attribute("data-kind", "done")
    expect(page.locator("#text")).to_contain_text("What was said")
    expect(page.locator("#text")).to_contain_text("and so on.")
    assert not failed


def test_generated_answers_are_shown_whole_in_a_browser(
    fakes: FakeEdges, new_page: NewPage
) -> None:
    page = new_page()
    serve_modules(page)
    page.goto(fakes.urls[0])
    said = page.evaluate(f"""async () => {{
      const {{ fuzz }} = await import("/tests/browser/modules/fuzz.js");
      const said = [];
      fuzz({{ inputs: {INPUTS}, seed: 2, say: (line) => said.push(line) }});
      return said;
    }}""")
    assert not said


def test_every_shape_reaches_its_end_on_the_page(fakes: FakeEdges, new_page: NewPage) -> None:
    page = new_page(390, 844)
    failed = formatted(page)
    serve_modules(page)
    page.goto(fakes.urls[0])
    shapes = page.evaluate(
        'async () => Object.keys((await import("/tests/browser/modules/shapes.js")).SHAPES)'
    )
    wide = []
    for shape in shapes:
        page.evaluate(PREPARE, [shape, CHARS])
        page.evaluate(STREAM, [shape, PIECE])  # waits for the end of the text
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wide.append(shape)
    assert not failed
    assert not wide, "these stick out of the screen"


def test_what_is_vendored_comes_with_its_licence_and_is_what_a_page_may_load() -> None:
    for script in (WEB / "vendor").glob("*.js"):
        licence = script.with_name(f"{script.stem}.LICENSE.txt").read_text()
        assert "Permission is hereby granted" in licence
        assert "eval(" not in script.read_text()
        assert "new Function" not in script.read_text()


def test_no_module_of_the_page_sets_markup() -> None:
    """Every text goes in as a text node."""
    for script in Path(WEB).glob("*.js"):
        assert not {"innerHTML", "outerHTML", "insertAdjacentHTML"} & set(
            script.read_text().replace(".", " ").replace("(", " ").split()
        )

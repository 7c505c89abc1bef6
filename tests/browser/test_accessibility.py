"""Each state of the page, on a phone and a desk, light and dark: axe finds nothing in it.

With ``LORE_PICTURES=folder`` each state is drawn there, to be looked at.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.fake_edge import FakeEdges, Script

pytestmark = pytest.mark.browser

NewPage = Callable[..., Page]

AXE = Path(__file__).parents[2] / "examples/node_modules/axe-core/axe.min.js"
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
PICTURES = os.environ.get("LORE_PICTURES")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RUN = """async (tags) => {
  const { violations } = await axe.run(document, { runOnly: tags, resultTypes: ["violations"] });
  const where = (nodes) => nodes.map(({ target }) => target).join(", ");
  return violations.map(({ id, nodes }) => `${id}: ${where(nodes)}`);
}"""

RICH = Script(
    [
        "<think>\nWhat may it be?\n</think>\n\n",
        "# A title\n\nSome **bold** text and `code`, a [link](https://lore.example/).\n\n",
        '```python\ndef f(x: int) -> str:\n    """doc"""\n    return "1" * x  # one\n```\n\n',
        "> A quote.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- [x] read\n- [ ] write\n\n",
        "1. $x^2$\n2. two\n\n$$\\frac{a}{b}$$\n\n## The end\n\nDone.",
    ],
    finish_reason="length",
)
LONG = "Why does this fail?\n\n```\nfor i in x:\n    print(i)\n```\n\n" + "It says nothing. " * 42


def slow() -> Script:
    return Script([f"word{n} " for n in range(4000)], every_s=0.05)


def ask(page: Page, question: str) -> None:
    field = page.locator("textarea:visible").last
    field.fill(question)
    field.press("Enter")


def is_kind(page: Page, kind: str) -> None:
    expect(page.locator("#status")).to_have_attribute("data-kind", kind)


def refuse(page: Page, pattern: str, code: str, status: int) -> None:
    def fulfill(route: Route) -> None:
        body = json.dumps({"error": {"code": code, "message": "no"}})
        route.fulfill(status=status, body=body, headers={"Access-Control-Allow-Origin": "*"})

    page.route(pattern, fulfill)


def form(page: Page, _: FakeEdges) -> None:
    expect(page.locator("#question")).to_be_visible()


def refused(page: Page, _: FakeEdges) -> None:
    refuse(page, "**/v1/streams", "prompt_too_long", 400)
    ask(page, "What is it?")
    expect(page.locator("#ask-problem")).to_be_visible()


def writing(page: Page, fakes: FakeEdges) -> None:
    fakes.next_script = slow()
    ask(page, "What is a loop?")
    expect(page.locator("#text")).to_contain_text("word3")


def cut(page: Page, fakes: FakeEdges) -> None:
    writing(page, fakes)
    page.get_by_role("button", name="Under the hood").click()
    page.get_by_role("button", name="Cut the connection").click()
    is_kind(page, "cut")


def offline(page: Page, fakes: FakeEdges) -> None:
    cut(page, fakes)
    page.context.set_offline(True)
    page.get_by_role("button", name="Reconnect").click()
    expect(page.locator("#status-text")).to_have_text("You are offline")


def thinking(page: Page, fakes: FakeEdges) -> None:
    fakes.next_script = Script(["<think>", *slow().chunks], every_s=0.05)
    ask(page, "What is a loop?")
    expect(page.locator("#thinking")).to_be_visible()
    page.locator("#thinking-title").click()


def reaped(page: Page, fakes: FakeEdges) -> None:
    fakes.next_script = Script(slow().chunks, reap_after=5)
    ask(page, "What is a loop?")
    is_kind(page, "reaped")


def rich(page: Page, fakes: FakeEdges) -> None:
    fakes.next_script = Script(RICH.chunks, finish_reason="length")
    ask(page, "What is a loop?")
    is_kind(page, "done")
    expect(page.locator("#text math")).to_have_count(2)
    expect(page.locator("#text .keyword").first).to_be_visible()
    page.locator("#thinking-title").click()


def conversation(page: Page, fakes: FakeEdges) -> None:
    rich(page, fakes)
    fakes.next_script = Script(["Because of **that**."])
    page.get_by_label("Your next question").fill(LONG)
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator("#text")).to_contain_text("Because of that")
    is_kind(page, "done")


def editing(page: Page, fakes: FakeEdges) -> None:
    conversation(page, fakes)
    page.get_by_role("button", name="Edit this question").last.click()
    expect(page.get_by_label("Change the question")).to_be_focused()


def follow_up_refused(page: Page, fakes: FakeEdges) -> None:
    rich(page, fakes)
    refuse(page, "**/v1/streams", "context_length_exceeded", 400)
    ask(page, "And then?")
    is_kind(page, "refused")


def gone(page: Page, fakes: FakeEdges) -> None:
    rich(page, fakes)
    fakes.answers.clear()
    page.reload()
    is_kind(page, "failed")


def history(page: Page, fakes: FakeEdges) -> None:
    rich(page, fakes)
    page.get_by_role("button", name="New question").click()
    ask(page, "What is a list, and how long may the question in a list be?")
    is_kind(page, "done")
    del fakes.answers[next(iter(fakes.answers))]
    page.get_by_role("button", name="New question").click()
    expect(page.locator("#history-list .gone")).to_have_count(1)
    page.locator("#history").scroll_into_view_if_needed()


def key_wanted(page: Page, _: FakeEdges) -> None:
    config = '{"edges": [], "auth": true}'
    page.route("**/config.json", lambda route: route.fulfill(body=config))
    refuse(page, "**/v1/streams", "unauthorized", 401)
    page.reload()
    ask(page, "What is it?")
    page.get_by_label("API key").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#key-problem")).to_be_visible()


STATES = [
    *(form, refused, writing, cut, offline, thinking, reaped, rich, conversation, editing),
    *(follow_up_refused, gone, history, key_wanted),
]


def wrong_with(page: Page) -> list[str]:
    page.evaluate(AXE.read_text())
    wrong: list[Any] = page.evaluate(RUN, RULES)
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        wrong.append("it sticks out of the screen")
    return wrong


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: npm ci in examples")
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_axe_finds_nothing(
    fakes: FakeEdges, new_page: NewPage, state: Callable[..., None], width: int
) -> None:
    page = new_page(width, 844)
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    page.goto(fakes.urls[0])
    state(page, fakes)
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        if PICTURES:
            page.screenshot(path=Path(PICTURES) / f"{state.__name__}-{width}-{scheme}.png")
        assert wrong_with(page) == [], scheme


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: npm ci in examples")
def test_axe_finds_what_is_wrong(fakes: FakeEdges, new_page: NewPage) -> None:
    page = new_page(390, 844)
    page.goto(fakes.urls[0])
    page.evaluate("document.documentElement.removeAttribute('lang')")
    assert wrong_with(page) == ["html-has-lang: html"]
    page.evaluate("document.getElementById('ask').style.width = '500px'")
    assert "it sticks out of the screen" in wrong_with(page)

"""Code with its colours and its own copy button, task lists and formulas, under the page's CSP."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Request, expect

from tests.browser.fake_edge import FakeEdges, Script

pytestmark = pytest.mark.browser

NewPage = Callable[..., Page]

CODE = 'def f(x):\n    """doc\n    more"""\n    return 1  # one'
LAZY = ("/web/highlight.js", "/web/languages.js", "/web/vendor/temml.js")


def ask(page: Page, fakes: FakeEdges, *chunks: str) -> list[str]:
    """Asks for an answer of these chunks; returns what the page loaded meanwhile."""
    loaded: list[str] = []

    def listen(request: Request) -> None:
        loaded.append(request.url.removeprefix(fakes.urls[0]))

    fakes.next_script = Script(list(chunks))
    page.goto(fakes.urls[0])
    page.on("request", listen)
    page.get_by_label("Your question").fill("What is it?")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_attribute("data-kind", "done")
    return loaded


def test_code_has_colours_and_a_button_that_copies_it_alone(
    fakes: FakeEdges, new_page: NewPage
) -> None:
    page = new_page()
    loaded = ask(page, fakes, "So:\n\n```python\n", f"{CODE}\n```\n\n", "```\nplain\n```\n\nEnd.")
    first, second = page.locator(".code").all()
    expect(first.locator(".keyword").first).to_have_text("def")
    expect(first.locator(".function")).to_have_text("f")
    expect(first.locator(".string")).to_have_text('"""doc\n    more"""')
    expect(first.locator(".comment")).to_have_text("# one")
    expect(second.locator("code span")).to_have_count(0)
    assert "/web/highlight.js" in loaded
    first.get_by_role("button", name="Copy code").click()
    expect(page.locator("#announce")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == CODE


def test_long_code_is_copied_whole(fakes: FakeEdges, new_page: NewPage) -> None:
    page = new_page()
    code = "\n".join(f"line_{n} = {n}  # of many" for n in range(400))
    ask(page, fakes, "```py\n", *code.splitlines(keepends=True), "\n```\n")
    expect(page.locator(".code")).to_have_count(1)
    page.get_by_role("button", name="Copy code").click()
    expect(page.locator("#announce")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == code


def test_tasks_are_boxes_and_tables_are_tables(fakes: FakeEdges, new_page: NewPage) -> None:
    page = new_page()
    ask(page, fakes, "- [x] read\n- [ ] write\n\n| a | b |\n|---|---|\n| 1 | 2 |\n")
    expect(page.get_by_role("img", name="done:")).to_have_count(1)
    expect(page.get_by_role("img", name="to do:")).to_have_count(1)
    expect(page.locator("#text li")).to_have_text(["read", "write"])
    expect(page.get_by_role("cell")).to_have_text(["1", "2"])


def test_formulas_are_drawn_and_prices_are_not(fakes: FakeEdges, new_page: NewPage) -> None:
    page = new_page()
    tex = r"With $\frac{a}{b}$ and \(\sqrt{2}\): $$\begin{aligned} a &= b \\ c &= d \end{aligned}$$"
    loaded = ask(page, fakes, tex, "\n\nIt costs $5 or $6, in $HOME. No formula: $\\nonsense{$.")
    expect(page.locator("#text math")).to_have_count(3)
    expect(page.locator("#text mfrac")).to_have_count(1)
    expect(page.locator("#text msqrt")).to_have_count(1)
    expect(page.locator("#text")).to_contain_text("It costs $5 or $6, in $HOME.")
    expect(page.locator("#text")).to_contain_text("$\\nonsense{$")
    assert "/web/vendor/temml.js" in loaded


def test_what_an_answer_does_not_need_is_not_loaded(fakes: FakeEdges, new_page: NewPage) -> None:
    page = new_page()
    loaded = ask(page, fakes, "Just **text**, `code` and\n\n```\ncode of no language\n```\n")
    assert not set(LAZY) & set(loaded)

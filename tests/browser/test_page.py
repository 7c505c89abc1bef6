"""The page as a reader uses it, on the real stack."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.stack import LENGTH_TOKENS, Stack

pytestmark = pytest.mark.browser

NewPage = Callable[..., Page]


def ask(page: Page, lore: Stack, question: str) -> str:
    """Ask on the first edge, wait for the first words, and return the request's id."""
    page.goto(lore.urls[0])
    page.get_by_label("Your question").fill(question)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/#.+"))
    expect_text(page)
    return page.url.split("#")[1]


def expect_text(page: Page) -> None:
    expect(page.locator("#text")).to_have_text(re.compile(r"\w+ +\w+"))


def expect_ending(page: Page, kind: str) -> None:
    expect(page.locator("#status")).to_have_attribute("data-kind", kind, timeout=30_000)


def copied(page: Page) -> str:
    """The answer's text as the page holds it, by its own button."""
    page.get_by_role("button", name="Copy answer").click()
    expect(page.locator("#copy")).to_have_text("Copied")
    return page.evaluate("navigator.clipboard.readText()")


def received(page: Page) -> int:
    return int(page.locator('[data-fact="seq"]').inner_text())


def expect_more(page: Page, had: int) -> None:
    expect(page.locator('[data-fact="seq"]')).not_to_have_text(str(had))


def stop(page: Page) -> None:
    page.get_by_role("button", name="Stop").click()
    expect_ending(page, "cancelled")


@pytest.mark.rule("P1.2")
def test_the_answer_on_the_page_is_the_answer_in_the_log(lore: Stack, new_page: NewPage) -> None:
    request_id = ask(page := new_page(), lore, "What is a loop?")
    expect(page.locator("#asked h2")).to_have_text("What is a loop?")
    expect_ending(page, "done")
    view = lore.view(request_id)
    assert copied(page) == view["text"]
    assert view["status"] == "done"
    assert view["acked_seq"] == view["next_seq"] - 1
    assert view["generated_tokens"] == LENGTH_TOKENS


def test_a_cut_closes_the_window_and_the_other_edge_goes_on(
    writing: Stack, new_page: NewPage
) -> None:
    """P5, P7, P12"""
    request_id = ask(page := new_page(), writing, "What is a closure?")
    page.get_by_role("button", name="Under the hood").click()
    before = page.locator('[data-fact="edge"]').inner_text()
    page.get_by_role("button", name="Cut the connection").click()
    expect(page.locator("#window-closed")).to_be_visible()
    expect(page.locator("#log li").first).to_contain_text("Window full: decoding paused")
    had = received(page)
    view = writing.view(request_id)
    assert view["status"] == "paused"
    assert view["generated_tokens"] - view["acked_tokens"] <= view["window"]
    assert view["next_seq"] - 1 > had

    page.get_by_role("button", name="Switch edge").click()
    assert received(page) == had
    page.get_by_role("button", name="Reconnect").click()
    expect_more(page, had)
    assert page.locator('[data-fact="edge"]').inner_text() not in (before, "none")
    assert page.locator('[data-fact="reconnects"]').inner_text() == "1"
    stop(page)
    assert copied(page) == writing.view(request_id)["text"]


def test_switching_edges_while_it_writes_loses_nothing(writing: Stack, new_page: NewPage) -> None:
    """P12"""
    request_id = ask(page := new_page(), writing, "What is a pointer?")
    page.get_by_role("button", name="Under the hood").click()
    for reconnects in range(1, 4):
        page.get_by_role("button", name="Switch edge").click()
        expect(page.locator('[data-fact="reconnects"]')).to_have_text(str(reconnects))
    expect_more(page, received(page))
    stop(page)
    assert copied(page) == writing.view(request_id)["text"]


def test_a_network_that_comes_back_continues_the_answer(writing: Stack, new_page: NewPage) -> None:
    """P12"""
    request_id = ask(page := new_page(), writing, "What is a socket?")
    page.context.set_offline(True)
    page.get_by_role("button", name="Under the hood").click()
    page.get_by_role("button", name="Switch edge").click()  # the old connection still stands
    expect(page.locator("#status-text")).to_have_text("You are offline")
    expect(page.locator("#status-hint")).to_contain_text("once you are connected")
    had = received(page)
    page.context.set_offline(False)
    expect_more(page, had)
    stop(page)
    assert copied(page) == writing.view(request_id)["text"]


def test_a_reload_continues_the_answer(lore: Stack, new_page: NewPage) -> None:
    request_id = ask(page := new_page(), lore, "What is a stack?")
    page.reload()
    expect(page.locator("#asked h2")).to_have_text("What is a stack?")
    expect_text(page)
    expect_ending(page, "done")
    assert copied(page) == lore.view(request_id)["text"]


def test_a_second_device_reads_the_same_answer_by_its_link(lore: Stack, new_page: NewPage) -> None:
    """P9: with several readers the fastest one moves the window."""
    request_id = ask(first := new_page(), lore, "What is a queue?")
    second = new_page(390, 844)
    second.goto(f"{lore.urls[1]}/#{request_id}")
    expect(second.locator("#asked h2")).to_have_text("What is a queue?")
    expect_text(second)
    expect_ending(first, "done")
    expect_ending(second, "done")
    assert copied(first) == copied(second) == lore.view(request_id)["text"]


def test_stop_ends_the_answer_for_good(writing: Stack, new_page: NewPage) -> None:
    """P14"""
    request_id = ask(page := new_page(), writing, "What is a heap?")
    stop(page)
    view = writing.view(request_id)
    assert view["status"] == "cancelled"
    assert copied(page) == view["text"]
    page.reload()
    expect_ending(page, "cancelled")
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    assert copied(page) == view["text"]


def test_stop_reaches_an_answer_whose_reader_is_cut_off(writing: Stack, new_page: NewPage) -> None:
    """P14"""
    request_id = ask(page := new_page(), writing, "What is a tree?")
    page.get_by_role("button", name="Under the hood").click()
    page.get_by_role("button", name="Cut the connection").click()
    stop(page)
    assert copied(page) == writing.view(request_id)["text"]


@pytest.mark.rule("P7.1")
def test_a_page_left_behind_generates_at_most_a_window(writing: Stack, new_page: NewPage) -> None:
    request_id = ask(page := new_page(), writing, "What is recursion?")
    page.goto("about:blank")
    watcher = new_page()
    watcher.goto(writing.urls[1])
    # wait_for_function takes the promise of a null for an answer, so the page polls by itself.
    poll = f"""async () => {{
      for (let tries = 0; tries < 200; tries++) {{
        const view = await (await fetch("/v1/streams/{request_id}")).json();
        if (view.status === "paused") return view;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }}
      throw new Error("the window did not close");
    }}"""
    view = watcher.evaluate(poll)
    assert view["generated_tokens"] - view["acked_tokens"] <= view["window"]


def test_earlier_questions_are_listed_and_can_be_cleared(lore: Stack, new_page: NewPage) -> None:
    request_id = ask(page := new_page(), lore, "What is an array?")
    page.get_by_role("button", name="New question").click()
    expect(page.get_by_label("Your question")).to_be_focused()
    page.get_by_role("link", name="What is an array?").click()
    expect_ending(page, "done")
    assert copied(page) == lore.view(request_id)["text"]
    page.go_back()
    page.get_by_role("button", name="Clear this list").click()
    expect(page.locator("#history")).to_be_hidden()
    page.reload()
    expect(page.locator("#history")).to_be_hidden()


def test_the_keyboard_is_enough(writing: Stack, new_page: NewPage) -> None:
    page = new_page()
    page.goto(writing.urls[0])
    expect(page.get_by_label("Your question")).to_be_focused()
    page.keyboard.type("What is a set?")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("And a bag?")
    page.keyboard.press("Enter")
    expect_text(page)
    expect(page.locator("#asked h2")).to_be_focused()
    button = page.get_by_role("button", name="Stop")
    for _ in range(20):  # past the code blocks, which take the focus to be scrolled
        if button.evaluate("stop => stop === document.activeElement"):
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect_ending(page, "cancelled")


@pytest.mark.parametrize("width", [320, 390, 768, 1024, 1280])
def test_nothing_sticks_out_of_the_screen(lore: Stack, new_page: NewPage, width: int) -> None:
    page = new_page(width, 800)

    def overflow() -> int:
        return page.evaluate("document.documentElement.scrollWidth - innerWidth")

    page.goto(lore.urls[0])
    assert overflow() <= 0
    ask(page, lore, "Averyverylongwordthatnobodywouldeverwrite" * 3)
    assert overflow() <= 0
    page.get_by_role("button", name="Under the hood").click()
    expect(page.get_by_role("complementary")).to_be_visible()
    assert overflow() <= 0


def test_the_announcer_tells_how_it_goes_and_not_every_word(lore: Stack, new_page: NewPage) -> None:
    page = new_page()
    page.goto(lore.urls[0])
    page.evaluate("""() => {
      window.announced = [];
      new MutationObserver(() => announced.push(document.getElementById("announce").textContent))
        .observe(document.getElementById("announce"), { childList: true });
    }""")
    page.get_by_label("Your question").fill("What is a map?")
    page.keyboard.press("Enter")
    expect_ending(page, "done")
    announced = page.evaluate("announced")
    assert "The answer has started." in announced
    assert announced[-1].startswith("Finished")
    assert len(announced) < 10

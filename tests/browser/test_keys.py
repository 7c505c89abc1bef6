"""The page of a Lore that asks who is there."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from lore import apikeys
from tests.browser.stack import LONG, Stack, lore_up
from tests.services.auth_harness import KeyRing

pytestmark = pytest.mark.browser

NewPage = Callable[..., Page]


@pytest.fixture(scope="module")
def bob(ring: KeyRing) -> str:
    return ring.new("bob")


@pytest.fixture(scope="module")
def lore(
    ring: KeyRing, alice: str, bob: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    words = "--api-keys", str(ring.path)
    with lore_up(tmp_path_factory.mktemp("lore"), *words, **LONG) as stack:
        yield stack


def give(page: Page, key: str) -> None:
    field = page.get_by_label("API key")
    expect(field).to_be_focused()
    field.fill(key)
    page.keyboard.press("Enter")


def ask(page: Page, question: str) -> None:
    page.get_by_label("Your question").fill(question)
    page.keyboard.press("Enter")


def expect_text(page: Page) -> None:
    expect(page.locator("#text")).to_have_text(re.compile(r"\w+ +\w+"))


def stop(page: Page) -> None:
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#status")).to_have_attribute("data-kind", "cancelled")


def test_a_key_is_asked_for_once_and_a_wrong_one_again(
    lore: Stack, alice: str, new_page: NewPage
) -> None:
    page = new_page()
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    page.goto(lore.urls[0])
    ask(page, "What is a lock?")
    for wrong in (apikeys.new_key(), "clé"):  # no header can carry the second
        give(page, wrong)
        expect(page.locator("#key-problem")).to_have_text(re.compile("not valid"))
        expect(page.get_by_label("API key")).to_have_value("")
    give(page, alice)
    expect_text(page)
    stop(page)
    answer = page.locator("#text").inner_text()
    page.reload()
    expect(page.locator("#status")).to_have_attribute("data-kind", "cancelled")
    expect(page.get_by_label("API key")).to_be_hidden()
    assert page.locator("#text").inner_text() == answer
    assert not any(alice in address for address in addresses), "a key stands in no address"
    assert page.evaluate("Object.values(localStorage).join()").count(alice) == 0


def test_the_answer_goes_on_over_a_cut_and_on_the_other_edge(
    lore: Stack, alice: str, new_page: NewPage
) -> None:
    page = new_page()
    page.goto(lore.urls[0])
    ask(page, "What is a bridge?")
    give(page, alice)
    page.get_by_role("button", name="Under the hood").click()
    expect_text(page)
    page.get_by_role("button", name="Cut the connection").click()
    page.get_by_role("button", name="Reconnect").click()
    page.get_by_role("button", name="Switch edge").click()
    expect(page.locator('[data-fact="edge"]')).to_have_text("edge-2")
    had = page.locator('[data-fact="seq"]').inner_text()
    expect(page.locator('[data-fact="seq"]')).not_to_have_text(had)
    stop(page)


def test_somebody_else_s_answer_is_not_there(
    lore: Stack, alice: str, bob: str, new_page: NewPage
) -> None:
    page = new_page()
    page.goto(lore.urls[0])
    ask(page, "What is a secret?")
    give(page, alice)
    page.wait_for_url(re.compile("/#.+"))
    other = new_page()
    other.goto(page.url)
    give(other, bob)
    expect(other.locator("#answer-problem")).to_have_text(
        re.compile("no longer kept, or it was asked with another key")
    )


def test_who_has_no_key_keeps_the_question(lore: Stack, new_page: NewPage) -> None:
    page = new_page()
    page.goto(lore.urls[0])
    ask(page, "What is mine?")
    expect(page.get_by_label("API key")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#ask-problem")).to_have_text(re.compile("API key"))
    expect(page.get_by_label("Your question")).to_have_value("What is mine?")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_label("API key")).to_be_focused()
    page.get_by_role("button", name="Not now").click()
    expect(page.get_by_label("API key")).to_be_hidden()

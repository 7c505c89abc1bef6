"""What a reader is told, and where: what happened, what to do, and always in sight."""

import json
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.fake_edge import FakeEdges, Script
from tests.browser.stack import Stack

pytestmark = pytest.mark.browser

NewPage = Callable[..., Page]

SLOW = Script([f"word{n} " for n in range(400)], every_s=0.05)
LONG = Script([f"Paragraph {n}.\n\n" for n in range(120)], every_s=0.001)

# How the edge refuses a question, and what the page says: what happened, and what to do.
REFUSALS = [
    (401, "unauthorized", "send Authorization: Bearer", r"API key.*[Ee]nter yours"),
    (429, "queue_full", "Retry-After: 1", r"[Tt]oo many questions.*Try again"),
    (429, "too_many_streams", "no", r"same time.*Stop one"),
    (429, "too_many_requests", "no", r"limit for one minute.*Try again"),
    (429, "too_many_tokens", "no", r"limit for one minute.*Try again"),
    (400, "prompt_too_long", "no", r"longer than Lore accepts.*Shorten it"),
    (413, "body_too_large", "Content-Length", r"longer than Lore accepts.*Shorten it"),
    (503, "store_unavailable", "valkey", r"cannot answer at the moment.*Try again"),
    (500, "internal_error", "Traceback", r"cannot answer at the moment.*Try again"),
    (400, "invalid_request", "temperature: at most 2", r"temperature: at most 2"),
]
HEADERS = re.compile(r"Authorization|Bearer|Retry-After|X-|Content-|Idempotency|[Hh]eader")


def refuse(page: Page, status: int, code: str, message: str) -> None:
    def fulfill(route: Route) -> None:
        body = json.dumps({"error": {"code": code, "message": message}})
        route.fulfill(status=status, body=body, headers={"Access-Control-Allow-Origin": "*"})

    page.route("**/v1/streams*", fulfill)
    page.route("**/v1/streams/*", fulfill)


def hurry(page: Page) -> None:
    """The page's waits between its attempts end at once."""
    page.add_init_script("""
      const later = window.setTimeout;
      const sooner = (ms) => (ms >= 500 && ms <= 30000 ? 1 : ms);
      window.setTimeout = (act, ms, ...more) => later(act, sooner(ms), ...more);
    """)


def ask(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_label("Your question").fill("What is said?")
    page.keyboard.press("Enter")


def in_sight(page: Page, selector: str) -> bool:
    box = page.locator(selector).bounding_box()
    height = page.evaluate("innerHeight")
    return box is not None and box["y"] >= 0 and box["y"] + box["height"] <= height


@pytest.mark.parametrize(("status", "code", "message", "said"), REFUSALS)
def test_a_refused_question_comes_back_with_what_to_do(
    fakes: FakeEdges, new_page: NewPage, status: int, code: str, message: str, said: str
) -> None:
    page = new_page()
    hurry(page)
    refuse(page, status, code, message)
    ask(page, fakes.urls[0])
    expect(page.locator("#ask-problem")).to_have_text(re.compile(said))
    assert not HEADERS.search(page.locator("#ask-problem").inner_text())
    expect(page.get_by_label("Your question")).to_have_value("What is said?")


def test_a_question_asked_offline_comes_back_with_what_to_do(
    fakes: FakeEdges, new_page: NewPage
) -> None:
    page = new_page()
    hurry(page)
    page.goto(fakes.urls[0])
    page.context.set_offline(True)
    page.get_by_label("Your question").fill("Is anybody there?")
    page.keyboard.press("Enter")
    expect(page.locator("#ask-problem")).to_have_text(re.compile("You are offline. Try again once"))
    expect(page.get_by_label("Your question")).to_have_value("Is anybody there?")


def test_a_question_that_reaches_nobody_comes_back_with_what_to_do(
    fakes: FakeEdges, new_page: NewPage
) -> None:
    page = new_page()
    hurry(page)
    page.route("**/v1/streams", lambda route: route.abort())
    ask(page, fakes.urls[0])
    expect(page.locator("#ask-problem")).to_have_text(re.compile("cannot be reached. Check"))


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (404, "not_found", "no longer kept.*[Aa]sk the question again"),
        (410, "history_lost", "lost.*ask again"),
        (401, "unauthorized", "API key that it was asked with.*Reload"),
    ],
)
def test_a_link_to_an_answer_that_cannot_be_read_says_what_to_do(
    fakes: FakeEdges, new_page: NewPage, status: int, code: str, said: str
) -> None:
    page = new_page()
    refuse(page, status, code, "send Authorization: Bearer")
    page.goto(f"{fakes.urls[0]}/#{'a' * 22}")
    expect(page.locator("#answer-problem")).to_have_text(re.compile(said))
    expect(page.locator("#status-text")).to_have_text(
        "Failed" if status == 410 else "Not available"
    )
    assert in_sight(page, "#answer-problem")


@pytest.mark.parametrize("width", [390, 1280])
def test_while_it_writes_status_progress_and_buttons_are_in_sight(
    fakes: FakeEdges, new_page: NewPage, width: int
) -> None:
    """With the first text "Thinking" ends and Copy works."""
    page = new_page(width, 800)
    fakes.next_script = SLOW
    ask(page, fakes.urls[0])
    expect(page.locator("#text")).to_contain_text("word0")
    expect(page.locator("#status-text")).to_have_text("Writing")
    expect(page.locator("#progress")).to_have_text(re.compile(r"\d+ tokens"))
    expect(page.get_by_role("button", name="Copy answer")).to_be_enabled()
    assert in_sight(page, "#status")
    assert in_sight(page, "#stop")


@pytest.mark.parametrize("width", [390, 1280])
def test_what_goes_wrong_on_a_long_answer_is_said_in_sight(
    fakes: FakeEdges, new_page: NewPage, width: int
) -> None:
    page = new_page(width, 800)
    fakes.next_script = Script(LONG.chunks, every_s=0.01, reap_after=100)
    ask(page, fakes.urls[0])
    expect(page.locator("#status")).to_have_attribute("data-kind", "reaped")
    page.evaluate("scrollTo(0, 0)")
    assert in_sight(page, "#status-hint")
    page.route("**/revive", lambda route: route.abort())
    page.get_by_role("button", name="Continue the answer").click()
    problem = page.locator("#answer-problem")
    expect(problem).to_have_text(re.compile("not continued. Lore cannot be reached. Check"))
    assert page.evaluate("document.documentElement.scrollHeight > 2 * innerHeight")
    assert in_sight(page, "#answer-problem")


def test_offline_and_stopped_are_said_with_what_to_do(writing: Stack, new_page: NewPage) -> None:
    page = new_page()
    ask(page, writing.urls[0])
    expect(page.locator("#status-text")).to_have_text("Writing")
    page.get_by_role("button", name="Under the hood").click()
    page.context.set_offline(True)
    page.get_by_role("button", name="Cut the connection").click()
    expect(page.locator("#status-hint")).to_have_text(re.compile("The answer waits. Reconnect"))
    page.get_by_role("button", name="Reconnect").click()
    expect(page.locator("#status-text")).to_have_text("You are offline")
    expect(page.locator("#status-hint")).to_have_text(re.compile("goes on by itself once"))
    page.context.set_offline(False)
    expect(page.locator("#status-text")).to_have_text("Writing")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#status-text")).to_have_text(re.compile("Stopped"))
    expect(page.locator("#status-hint")).to_have_text(re.compile("ask again"))


def test_what_went_wrong_is_not_said_any_longer_once_it_works(
    writing: Stack, new_page: NewPage
) -> None:
    page = new_page()
    ask(page, writing.urls[0])
    expect(page.locator("#status-text")).to_have_text("Writing")
    page.route(
        "**/v1/streams/*",
        lambda route: route.abort() if route.request.method == "DELETE" else route.continue_(),
    )
    page.get_by_role("button", name="Stop").click()
    problem = page.locator("#answer-problem")
    expect(problem).to_have_text(re.compile("was not stopped"))
    page.unroute("**/v1/streams/*")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#status-text")).to_have_text(re.compile("Stopped"))
    expect(problem).to_be_hidden()


def test_one_token_is_no_tokens(fakes: FakeEdges, new_page: NewPage) -> None:
    page = new_page()
    fakes.next_script = Script(["word", "never"], every_s=0.01, reap_after=1)
    ask(page, fakes.urls[0])
    expect(page.locator("#progress")).to_have_text("1 token")

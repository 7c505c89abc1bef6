"""Follow-up questions, and asking again: each turn is a request of its own."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.fake_edge import Answer, FakeEdges, Script
from tests.browser.stack import Stack

pytestmark = pytest.mark.browser

NewPage = Callable[..., Page]


@pytest.fixture
def page(fakes: FakeEdges, new_page: NewPage) -> Page:
    """The page of the first edge."""
    page = new_page()
    page.goto(fakes.urls[0])
    return page


FIRST, SECOND = "The **first** answer.", "The second answer."
LONG = "Why does this fail?\n\n```\nfor i in x:\n    print(i)\n```\n\n" + "It says nothing. " * 42


def ask(page: Page, fakes: FakeEdges, question: str, *chunks: str) -> Answer:
    """Asks in the form or below the answer, and returns the ended answer."""
    fakes.next_script = Script(list(chunks))
    field = page.get_by_role("textbox", name=re.compile("Your (next )?question"))
    field.fill(question)
    field.press("Enter")
    return ended(page, fakes, chunks[-1])


def ended(page: Page, fakes: FakeEdges, text: str) -> Answer:
    expect(page.locator("#text")).to_contain_text(text.replace("*", ""))
    expect(page.locator("#status")).to_have_attribute("data-kind", "done")
    return list(fakes.answers.values())[-1]


def press(page: Page, fakes: FakeEdges, button: str, *chunks: str) -> Answer:
    """Asks by a button, and returns the ended answer."""
    fakes.next_script = Script(list(chunks))
    page.get_by_role("button", name=button, exact=True).click()
    return ended(page, fakes, chunks[-1])


def expect_questions(page: Page, *questions: str) -> None:
    expect(page.locator(".question h2")).to_have_text(list(questions))


def copied(page: Page) -> str:
    page.get_by_role("button", name="Copy answer").click()
    expect(page.locator("#copy")).to_have_text("Copied")
    return page.evaluate("navigator.clipboard.readText()")


def said(*turns: str) -> list[dict[str, str]]:
    """Questions and answers by turns, as messages."""
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]


def test_a_follow_up_is_asked_with_what_was_said_before(page: Page, fakes: FakeEdges) -> None:
    ask(page, fakes, "What is a loop?", FIRST)
    answer = ask(page, fakes, "And a while loop?", SECOND)
    assert answer.messages == said("What is a loop?", FIRST, "And a while loop?")
    expect_questions(page, "What is a loop?", "And a while loop?")
    expect(page.locator("#earlier .prose")).to_have_text("The first answer.")
    assert page.url.endswith(f"#{answer.request_id}")
    expect(page.locator("#asked h2")).to_be_focused()
    for one in ("#asked", "#text"):
        expect(page.locator(one)).to_be_in_viewport(ratio=1)
    foot = page.locator(".foot").bounding_box()
    text = page.locator("#text .part").bounding_box()
    assert foot
    assert text
    assert text["y"] + text["height"] <= foot["y"], "the answer is not behind the buttons"


def test_a_reload_in_the_middle_of_a_follow_up_shows_both_answers_whole(
    writing: Stack, new_page: NewPage
) -> None:
    page = new_page()
    page.goto(writing.urls[0])
    page.get_by_label("Your question").fill("What is a loop?")
    page.keyboard.press("Enter")
    expect(page.locator("#text")).to_have_text(re.compile(r"\w+ +\w+"))
    page.get_by_role("button", name="Stop").click()
    follow = page.get_by_label("Your next question")
    follow.fill("And a while loop?")
    follow.press("Enter")
    expect(page.locator("#earlier .turn")).to_have_count(1)
    first = page.locator("#earlier .prose").text_content()
    assert first
    expect(page.locator("#text")).to_have_text(re.compile(r"\w+ +\w+"))
    request_id = page.url.split("#")[1]
    page.reload()
    expect_questions(page, "What is a loop?", "And a while loop?")
    expect(page.locator("#earlier .prose")).to_have_text(first)
    expect(page.locator("#text")).to_have_text(re.compile(r"\w+ +\w+"))
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#status")).to_have_attribute("data-kind", "cancelled")
    assert copied(page) == writing.view(request_id)["text"]


def test_a_second_device_shows_the_conversation_and_asks_on(
    page: Page, fakes: FakeEdges, new_page: NewPage
) -> None:
    ask(page, fakes, "What is a loop?", FIRST)
    ask(page, fakes, "And a while loop?", SECOND)
    other = new_page(390, 844)
    other.goto(page.url.replace(fakes.urls[0], fakes.urls[1]))
    expect_questions(other, "What is a loop?", "And a while loop?")
    expect(other.locator("#earlier .prose")).to_have_text("The first answer.")
    ended(other, fakes, SECOND)
    answer = ask(other, fakes, "Why?", "Because.")
    assert answer.messages == said("What is a loop?", FIRST, "And a while loop?", SECOND, "Why?")


def test_an_answer_is_asked_for_again_and_back_shows_the_one_before(
    page: Page, fakes: FakeEdges
) -> None:
    ask(page, fakes, "What is a loop?", FIRST)
    before = page.url
    answer = press(page, fakes, "Ask again", SECOND)
    assert answer.messages == said("What is a loop?")
    expect_questions(page, "What is a loop?")
    page.go_back()
    assert page.url == before
    expect(page.locator("#text")).to_have_text("The first answer.")
    page.get_by_role("button", name="New question").click()
    expect(page.locator("#history-list li")).to_have_text(["What is a loop?"])


def test_a_question_is_edited_and_asked_again_without_what_followed(
    page: Page, fakes: FakeEdges
) -> None:
    ask(page, fakes, "What is a loop?", FIRST)
    ask(page, fakes, "And a while loop?", SECOND)
    edits = page.get_by_role("button", name="Edit this question")
    edits.first.click()
    page.get_by_label("Change the question").press("Escape")
    expect(edits.first).to_be_focused()
    edits.first.click()
    fakes.next_script = Script(["Another one."])
    page.get_by_label("Change the question").fill("What is a list?")
    page.keyboard.press("Enter")
    answer = ended(page, fakes, "Another one.")
    assert answer.messages == said("What is a list?")
    expect_questions(page, "What is a list?")


def test_a_double_click_asks_once_and_does_nothing_else(page: Page, fakes: FakeEdges) -> None:
    for field, answers in (("Your question", 1), ("Your next question", 2)):
        fakes.next_script = Script([FIRST])
        page.get_by_label(field).fill("What is a loop?")
        page.get_by_role("button", name="Ask", exact=True).dblclick()
        ended(page, fakes, FIRST)
        assert len(fakes.answers) == answers
    page.get_by_role("button", name="Ask again").dblclick()
    ended(page, fakes, FIRST)
    assert len(fakes.answers) == 3


def test_an_answer_that_ends_at_its_limit_is_continued(page: Page, fakes: FakeEdges) -> None:
    fakes.next_script = Script([FIRST], finish_reason="length")
    page.get_by_label("Your question").fill("What is a loop?")
    page.keyboard.press("Enter")
    ended(page, fakes, FIRST)
    expect(page.locator("#status-text")).to_have_text("Ended at its length limit")
    answer = press(page, fakes, "Continue", SECOND)
    assert answer.messages[:2] == said("What is a loop?", FIRST)
    assert "Continue where you stopped" in answer.messages[2]["content"]
    expect(page.get_by_role("button", name="Continue", exact=True)).to_be_hidden()


def test_a_follow_up_that_is_refused_stays_with_what_to_do(page: Page, fakes: FakeEdges) -> None:
    ask(page, fakes, "What is a loop?", FIRST)
    body = '{"error": {"code": "context_length_exceeded", "message": "4097 tokens"}}'
    page.route("**/v1/streams", lambda route: route.fulfill(status=400, body=body))
    page.get_by_label("Your next question").fill("And a while loop?")
    page.keyboard.press("Enter")
    problem = page.locator("#answer-problem")
    expect(problem).to_have_text(re.compile("longer than the model accepts.*in a new one"))
    expect(page.locator("#status-text")).to_have_text("Not asked")
    expect(page.locator("#earlier .prose")).to_have_text("The first answer.")
    page.unroute("**/v1/streams")
    answer = press(page, fakes, "Ask again", SECOND)
    assert answer.messages == said("What is a loop?", FIRST, "And a while loop?")
    expect(problem).to_be_hidden()


@pytest.mark.parametrize("width", [390, 1280])
def test_a_long_question_keeps_its_lines_and_is_no_heading(
    fakes: FakeEdges, new_page: NewPage, width: int
) -> None:
    page = new_page(width, 800)
    page.goto(fakes.urls[0])
    fakes.next_script = Script([FIRST])
    page.get_by_label("Your question").fill(LONG)
    page.get_by_role("button", name="Ask").click()
    ended(page, fakes, FIRST)
    assert len(LONG) > 750
    expect(page.locator(".said pre")).to_have_text("for i in x:\n    print(i)")
    lines = page.locator(".said pre").evaluate("pre => getComputedStyle(pre).whiteSpace")
    assert lines == "pre-wrap"
    height = "one => one.getBoundingClientRect().height"
    assert page.locator("#asked h2").evaluate(height) <= 1  # for those who hear the page
    short = page.locator("#asked").evaluate(height)
    assert short < 400
    page.get_by_role("button", name="Show all").click()
    assert page.locator("#asked").evaluate(height) > short or width > 390
    expect(page.get_by_role("button", name="Show less")).to_be_visible()


def test_history_says_what_is_no_longer_kept_and_asks_again(page: Page, fakes: FakeEdges) -> None:
    ask(page, fakes, "What is a loop?", FIRST)
    page.get_by_role("button", name="New question").click()
    ask(page, fakes, "What is a list?", SECOND)
    del fakes.answers[next(iter(fakes.answers))]
    page.get_by_role("button", name="New question").click()
    gone = page.locator("#history-list .gone")
    expect(gone).to_have_count(1)
    expect(gone).to_contain_text("no longer kept")
    expect(page.get_by_role("link", name="What is a list?")).to_be_visible()
    answer = press(page, fakes, "Ask again: What is a loop?", "Once more.")
    assert answer.messages == said("What is a loop?")


def test_a_link_to_an_answer_that_is_gone_asks_its_question_again(
    page: Page, fakes: FakeEdges
) -> None:
    ask(page, fakes, "What is a loop?", FIRST)
    fakes.answers.clear()
    page.reload()
    expect(page.locator("#answer-problem")).to_have_text(re.compile("no longer kept"))
    assert press(page, fakes, "Ask again", SECOND).messages == said("What is a loop?")


def test_a_link_is_offered_only_where_it_opens_the_answer(page: Page, fakes: FakeEdges) -> None:
    ask(page, fakes, "What is a loop?", FIRST)
    share = page.get_by_role("button", name="Share link")
    expect(share).to_be_hidden()  # 127.0.0.1 is another machine elsewhere
    url = fakes.urls[0].replace("127.0.0.1", "lore.example")
    page.goto(url)
    ask(page, fakes, "What is a list?", SECOND)
    share.click()
    expect(page.locator("#share")).to_have_text("Copied")


def test_thinking_is_folded_under_one_line(page: Page, fakes: FakeEdges) -> None:
    answer = ask(page, fakes, "Why?", "<thi", "nk>\nLet me", " see.\n</th", "ink>\n\n", "Because.")
    expect(page.locator("#text")).to_have_text("Because.")
    expect(page.locator("#thought")).to_be_hidden()
    page.get_by_text("What it thought first").click()
    expect(page.locator("#thought")).to_have_text("Let me see.")
    assert copied(page) == "Because."
    answer = ask(page, fakes, "Really?", "So it was.\n</think>\n", "Yes.")
    assert answer.messages == said("Why?", "Because.", "Really?")
    expect(page.locator("#text")).to_have_text("Yes.")
    expect(page.locator("#thought")).to_have_text("So it was.")

"""The page against edges that lose, double, swap and cut: see fake_edge.py."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.fake_edge import Answer, FakeEdges, Script

pytestmark = pytest.mark.browser

WORDS = [f"w{n} " for n in range(1, 61)]
WHOLE = "".join(WORDS).strip()


def ask(page: Page, fakes: FakeEdges, script: Script) -> Answer:
    """Ask on edge 0 and return the answer as the edges hold it, once it exists."""
    fakes.next_script = script
    page.goto(fakes.urls[0])
    page.get_by_label("Your question").fill("why?")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/#.+"))
    return fakes.answers[page.url.split("#")[1]]


def expect_finished(page: Page, text: str = WHOLE) -> None:
    expect(page.locator("#status")).to_have_attribute("data-kind", "done", timeout=20_000)
    expect(page.locator("#text")).to_have_text(text)


def fact(page: Page, name: str) -> int:
    return int(page.locator(f'[data-fact="{name}"]').inner_text())


@pytest.mark.rule("P1.1")
def test_lost_doubled_and_swapped_chunks_leave_the_text_whole(
    fakes: FakeEdges, new_page: Callable[..., Page]
) -> None:
    page = new_page()
    script = Script(WORDS, lose={5, 20, 60}, double={7, 30}, swap={11, 40})
    answer = ask(page, fakes, script)
    page.click("#panel-toggle")
    expect_finished(page)
    assert fact(page, "duplicates") >= 2
    assert answer.retransmits >= 3
    assert answer.acks[-1] == answer.acked == 60


def test_a_connection_that_breaks_is_resumed_from_the_last_event_id(
    fakes: FakeEdges, new_page: Callable[..., Page]
) -> None:
    """P12"""
    answer = ask(page := new_page(), fakes, Script(WORDS, cut_after={1, 17, 18, 42}))
    expect_finished(page)
    assert [after for _, after in answer.opened] == [0, 1, 17, 18, 42]


def test_a_break_behind_a_gap_resumes_before_the_gap(
    fakes: FakeEdges, new_page: Callable[..., Page]
) -> None:
    """P1: the browser's Last-Event-ID would skip what the gap still misses."""
    # At once, so that nothing is sent again before the break.
    script = Script(WORDS, every_s=0, lose={20}, cut_after={22})
    answer = ask(page := new_page(), fakes, script)
    expect_finished(page)
    assert [after for _, after in answer.opened] == [0, 19]


def test_the_other_edge_goes_on_when_one_is_unreachable(
    fakes: FakeEdges, new_page: Callable[..., Page]
) -> None:
    """P12"""
    page = new_page()

    def out_of_reach_once_it_is_read(route: Route) -> None:
        read = any(answer.opened for answer in fakes.answers.values())
        route.abort() if read else route.continue_()

    page.route(f"{fakes.urls[0]}/**", out_of_reach_once_it_is_read)
    answer = ask(page, fakes, Script(WORDS, cut_after={10}))
    expect_finished(page)
    assert answer.opened[-1][0] == "edge-1"
    assert answer.acked == 60


def test_an_edge_that_shuts_down_sends_the_reader_elsewhere_at_once(
    fakes: FakeEdges, new_page: Callable[..., Page]
) -> None:
    """P12"""
    answer = ask(page := new_page(), fakes, Script(WORDS, drain_after={10, 30}))
    expect_finished(page)
    assert answer.opened == [("edge-0", 0), ("edge-1", 10), ("edge-0", 30)]


def test_a_full_queue_is_asked_again_as_the_same_request(
    fakes: FakeEdges, new_page: Callable[..., Page]
) -> None:
    """P17"""
    keys: list[str] = []
    page = new_page()

    def refuse_once(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) > 1:
            route.continue_()
            return
        body = '{"error": {"code": "queue_full", "message": "Later."}}'
        headers = {"Retry-After": "1", "Access-Control-Expose-Headers": "Retry-After"}
        route.fulfill(status=429, body=body, headers=headers)

    page.route("**/v1/streams", refuse_once)
    ask(page, fakes, Script(WORDS))
    expect_finished(page)
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_a_question_goes_to_the_other_edge_when_one_is_unreachable(
    fakes: FakeEdges, new_page: Callable[..., Page]
) -> None:
    page = new_page()
    page.route(f"{fakes.urls[0]}/v1/**", lambda route: route.abort())
    answer = ask(page, fakes, Script(WORDS))
    expect_finished(page)
    assert answer.opened == [("edge-1", 0)]


def test_a_lost_history_ends_the_reading_with_a_word_and_keeps_the_text(
    fakes: FakeEdges, new_page: Callable[..., Page]
) -> None:
    """P4"""
    script = Script(WORDS, cut_after={12}, lose_history_after=5)
    answer = ask(page := new_page(), fakes, script)
    expect(page.locator("#answer-problem")).to_contain_text("The rest of this answer was lost")
    expect(page.locator("#status")).to_have_attribute("data-kind", "failed")
    expect(page.locator("#text")).to_have_text("".join(WORDS[:12]).strip())
    # The browser's own attempt, the one that asks why, and none after them.
    assert len(answer.opened) == 3


def test_a_reaped_answer_continues_on_request(
    fakes: FakeEdges, new_page: Callable[..., Page]
) -> None:
    """P16"""
    ask(page := new_page(), fakes, Script(WORDS, reap_after=25))
    page.get_by_role("button", name="Continue the answer").click()
    expect_finished(page)


def test_html_in_an_answer_stays_text(fakes: FakeEdges, new_page: Callable[..., Page]) -> None:
    page = new_page()
    hostile = [
        "<script>document.title='owned'</script> ",
        "<img src=x onerror=\"document.title='owned'\"> ",
        "[click](javascript:document.title='owned') ",
        "`<b>` **<i>bold</i>** ",
        "\n\n```<svg/onload=alert(1)>\n</code></pre><h1>out</h1>\n```",
    ]
    ask(page, fakes, Script(hostile))
    expect(page.locator("#status")).to_have_attribute("data-kind", "done")
    text = page.locator("#text")
    expect(text).to_contain_text("<script>document.title='owned'</script>")
    expect(text).to_contain_text("</code></pre><h1>out</h1>")
    assert text.locator("script, img, svg, h1, i, b, [onerror], a").count() == 0
    assert page.title() == "why? · Lore"


def test_a_question_for_nobody_there_comes_back_to_the_form(
    fakes: FakeEdges, new_page: Callable[..., Page]
) -> None:
    page = new_page()
    page.goto(fakes.urls[0])
    refusal = '{"error": {"code": "bad_request", "message": "No.", "field": "question"}}'
    page.route("**/v1/streams", lambda route: route.fulfill(status=400, body=refusal))
    page.get_by_label("Your question").fill("why?")
    page.keyboard.press("Enter")
    expect(page.locator("#ask-problem")).to_have_text("No.")
    expect(page.get_by_label("Your question")).to_have_value("why?")


def test_an_unknown_link_says_so(fakes: FakeEdges, new_page: Callable[..., Page]) -> None:
    page = new_page()
    page.goto(f"{fakes.urls[0]}/#AAAAAAAAAAAAAAAAAAAAAA")
    expect(page.locator("#answer-problem")).to_contain_text("no longer kept")

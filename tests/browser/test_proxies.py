"""The page behind every proxy that there is here (protocol P11, P18)."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.stack import Stack, lore_up
from tests.proxies.page import read
from tests.proxies.proxies import HELD_BACK, PROXIES
from tests.proxies.trials import RATE

pytestmark = pytest.mark.browser

NewPage = Callable[..., Page]


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with lore_up(tmp_path_factory.mktemp("lore"), "--edges", "1", **RATE) as stack:
        yield stack


def port_of(stack: Stack) -> int:
    return int(stack.urls[0].rpartition(":")[2])


@pytest.mark.rule("P18.1")
@pytest.mark.parametrize("name", PROXIES)
def test_the_page_shows_the_whole_answer(
    name: str, edge: Stack, new_page: NewPage, tmp_path: Path
) -> None:
    with PROXIES[name].start(tmp_path, port_of(edge)) as url:
        said = read(new_page(), url)
    assert said["text"] == edge.view(said["id"])["text"] != ""
    if name in ("none", HELD_BACK):
        assert (said["polls"] > 0) == (name == HELD_BACK)


def test_the_panel_says_that_the_stream_is_held_back(
    edge: Stack, new_page: NewPage, tmp_path: Path
) -> None:
    page = new_page()
    with PROXIES[HELD_BACK].start(tmp_path, port_of(edge)) as url:
        page.goto(url)
        page.get_by_label("Your question").fill("What is a proxy?")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Under the hood").click()
        expect(page.locator("#log")).to_contain_text("Something on the way holds the stream back")
        expect(page.locator('[data-fact="reading"]')).to_have_text("finished responses")
        expect(page.locator('[data-fact="status"]')).to_have_text("done")
        page.wait_for_function("document.querySelector('[data-fact=acked]').textContent > 0")
        page.goto("about:blank")  # or it complains of what the end of the proxy cuts off

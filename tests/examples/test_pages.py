"""The examples that are pages, in a real Chromium."""

import asyncio
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, Request, async_playwright, expect

from tests.examples.stack import NODE, Stack, serving
from tests.faults.proxy import Pair, Proxy

pytestmark = pytest.mark.browser

CUTS = 3
RESPONSE_BYTES = 6_500  # a response begins with more than an answer of our own does
WAIT_MS, START_MS = 30_000, 120_000
expect.set_options(timeout=WAIT_MS)


class Gate(Proxy):
    """In front of a page's server. While it is shut, an answer gets as far as its first words."""

    shut = False

    async def _pass_on(self, pair: Pair, data: bytes, writer: asyncio.StreamWriter) -> None:
        words = data.find(b"text-delta") if self.shut and writer is pair.near else -1
        if words >= 0:
            data = data[: data.index(b"\n\n", words) + 2]
        await super()._pass_on(pair, data, writer)
        if words >= 0:
            await pair.over.wait()


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """In a profile of its own; what its scripts did not catch fails the test."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed: the example pages are not tested")
    async with async_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = await playwright.chromium.launch(
            executable_path=chromium, args=flags, timeout=START_MS
        )
        page = await browser.new_page()
        page.set_default_timeout(WAIT_MS)
        thrown: list[str] = []
        page.on("pageerror", lambda error: thrown.append(str(error)))
        yield page
        await browser.close()
        assert not thrown


@pytest.mark.rule("E9")
@pytest.mark.parametrize(
    "most_bytes",
    [
        pytest.param(60, id="in its head"),  # without its CORS header, Chromium takes it as refused
        pytest.param(2_000, id="anywhere"),
    ],
)
async def test_an_event_source_goes_on_after_a_response_cut(
    stack: Stack, page: Page, most_bytes: int
) -> None:
    """P1, P12, with the stream token in the address and nothing else."""
    cuts: Counter[str] = Counter()
    async with (
        stack.balancer(cuts, CUTS, most_bytes) as balancer,
        serving(
            *(sys.executable, "eventsource/server.py"), env=stack.environment(balancer.url)
        ) as url,
    ):
        opened: list[Request] = []
        page.on("request", lambda request: opened.append(request))
        await page.goto(url)
        await page.get_by_role("button").click()
        await expect(page.locator("#state")).to_have_text("done")
        read = await page.locator("#answer").text_content()
    (name,) = cuts
    assert cuts == {name: CUTS}
    assert read == await stack.text(name) != ""
    streams = [request for request in opened if f"/v1/streams/{name}?" in request.url]
    assert len(streams) > CUTS
    assert all("authorization" not in request.headers for request in streams)
    assert len({request.url.partition("&after=")[0] for request in streams}) == 1


async def test_the_ai_sdk_goes_on_after_cuts_and_reloads(stack: Stack, page: Page) -> None:
    """P1, P12: cuts behind its server and in front of it, and a reload, each in mid-answer."""
    cuts: Counter[str] = Counter()
    async with (
        stack.balancer(cuts, 2, RESPONSE_BYTES) as balancer,
        serving(NODE, "ai-sdk/server.mjs", env=stack.environment(balancer.url)) as url,
        Gate(urlsplit(url).port or 0) as gate,
    ):
        await page.goto(gate.url)
        await ask(page, gate, "What is a loop?")
        gate.reset()
        await expect(page.locator("#status")).to_have_text("error")
        first = await said(page, stack, 1)
        await ask(page, gate, "And what is a list?")
        await page.reload()
        second = await said(page, stack, 2)
    assert cuts == {first: 2, second: 2}
    _, before, _ = (await stack.get(f"/v1/responses/{second}/input_items"))["data"]
    assert before["content"][0]["text"] == await stack.text(first), "it remembers what it said"


async def ask(page: Page, gate: Gate, question: str) -> None:
    """Returns in the middle of the answer, which this connection gets no more of."""
    gate.shut = True
    answers = page.locator("article.assistant")
    before = await answers.count()
    await page.get_by_label("Question").fill(question)
    await page.get_by_role("button", name="Ask").click()
    await expect(answers).to_have_count(before + 1)
    await expect(answers.last).not_to_be_empty()
    await expect(page.locator("#status")).to_have_text("streaming")
    gate.shut = False


async def said(page: Page, stack: Stack, count: int) -> str:
    """The id of the last answer, which the page has as Lore has it."""
    answers = page.locator("article.assistant")
    await expect(answers).to_have_count(count)  # before that a page is ready as well
    await expect(page.locator("#status")).to_have_text("ready")
    name = await answers.last.get_attribute("id") or ""
    assert await answers.last.text_content() == await stack.text(name) != ""
    return name

"""A real Chromium, and a fresh profile for every page.

Playwright's synchronous interface holds an event loop while it is open, so it is closed with its
module: the asynchronous tests of later modules need their own.
"""

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.browser.fake_edge import FakeEdges, fake_edges
from tests.browser.stack import LONG, Stack, lore_up
from tests.services.auth_harness import KeyRing

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP lore.example 127.0.0.1",
]
WAIT_MS = 20_000
START_MS = 120_000
expect.set_options(timeout=WAIT_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed: the page is not tested")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS, timeout=START_MS)
        yield browser
        browser.close()


@pytest.fixture
def new_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens pages, each in a profile of its own, and fails if a script or the CSP complained."""
    complaints: list[str] = []
    contexts = []

    def listen(message: ConsoleMessage) -> None:
        # Chromium reports every failed request as an error; those are tested by what follows.
        if message.type == "error" and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    def open_page(width: int = 1280, height: int = 800) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height})
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", listen)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    return KeyRing(tmp_path_factory.mktemp("keys") / "keys")


@pytest.fixture(scope="module")
def alice(ring: KeyRing) -> str:
    return ring.new("alice")


@pytest.fixture
def fakes() -> Iterator[FakeEdges]:
    with fake_edges() as edges:
        yield edges


@pytest.fixture(scope="module")
def lore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with lore_up(tmp_path_factory.mktemp("lore")) as stack:
        yield stack


@pytest.fixture(scope="module")
def writing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Still writes when a test does something to the answer; a test that wants an end stops it."""
    with lore_up(tmp_path_factory.mktemp("writing"), **LONG) as stack:
        yield stack

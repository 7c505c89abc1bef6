"""Part of ``make pictures``: the page for the README, from the real stack and the real model.

A reader asks, the connection is cut until the window is full, and another edge goes on.
"""

import re
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from tests.browser.conftest import FLAGS, START_MS
from tests.browser.stack import lore_up

OUT = Path(__file__).parents[2] / "docs/page.png"
QUESTION = "Explain recursion with a small example"
BEFORE, AFTER = re.compile(r"[3-9]\d|\d{3,}"), re.compile(r"9\d|\d{3,}")
"""Chunks before the cut, and when the picture is taken: 30 and 90, or more."""
WAIT_MS = 600_000


def expect_chunks(page: Page, number: re.Pattern[str]) -> None:
    expect(page.locator('[data-fact="seq"]')).to_have_text(number)


def draw(page: Page, url: str) -> None:
    expect.set_options(timeout=WAIT_MS)
    page.goto(url)
    page.get_by_label("Your question").fill(QUESTION)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/#.+"))
    page.get_by_role("button", name="Under the hood").click()
    expect_chunks(page, BEFORE)
    page.get_by_role("button", name="Cut the connection").click()
    expect(page.locator("#window-closed")).to_be_visible()
    page.get_by_role("button", name="Switch edge").click()
    page.get_by_role("button", name="Reconnect").click()
    expect_chunks(page, AFTER)
    page.screenshot(path=OUT)


def main() -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("chromium is not installed: apt-get install -y chromium")
    with (
        tempfile.TemporaryDirectory() as folder,
        lore_up(Path(folder), "--engine", "transformers") as stack,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS, timeout=START_MS)
        draw(browser.new_page(viewport={"width": 1280, "height": 800}), stack.urls[0])
        browser.close()
    print(OUT)


if __name__ == "__main__":
    main()

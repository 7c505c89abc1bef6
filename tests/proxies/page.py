"""The page behind a proxy, in a real browser."""

from typing import Any

from playwright.sync_api import Page, expect

from tests.proxies.trials import QUESTION

WATCH = """() => {
  const began = performance.now(), text = document.getElementById("text");
  window.first = null;
  new MutationObserver(() => {
    if (text.textContent) window.first ??= (performance.now() - began) / 1000;
  }).observe(text, { childList: true, subtree: true, characterData: true });
}"""


def read(page: Page, url: str) -> dict[str, Any]:
    """Ask, wait for the end, and say what the programs of ``trials`` say."""
    page.goto(url)
    page.get_by_label("Your question").fill(QUESTION)
    page.evaluate(WATCH)
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_attribute("data-kind", "done")
    page.get_by_role("button", name="Copy answer").click()
    expect(page.locator("#copy")).to_have_text("Copied")
    return {
        "id": page.url.rpartition("#")[2],
        "text": page.evaluate("navigator.clipboard.readText()"),
        "first": page.evaluate("window.first"),
        "polls": int(page.locator('[data-fact="polls"]').inner_text()),
    }

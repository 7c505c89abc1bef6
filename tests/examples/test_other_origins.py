"""The OpenAI SDK in a page of another origin, in a real Chromium: with what headers it likes."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from tests.clients.scripted import OUTCOMES, ScriptedStore
from tests.examples.stack import NODE, serving
from tests.examples.test_pages import page
from tests.services.edge_harness import running_edge
from tests.services.openai_harness import MODEL

__all__ = ["page"]
pytestmark = pytest.mark.browser

PROGRAM = str(Path(__file__).with_name("sdk_page.mjs"))
ASK = """
async ([url, model, question, credentials]) => {
  const options = { baseURL: `${url}/v1`, apiKey: "any", dangerouslyAllowBrowser: true };
  const client = new OpenAI({ ...options, maxRetries: 0, fetchOptions: { credentials } });
  try {
    let text = "";
    const messages = [{ role: "user", content: question }];
    const asked = { model, messages, stream: true };
    const headers = { "X-Of-My-Own": "1" };
    const { data, request_id } = await client.chat.completions
      .create(asked, { headers }).withResponse();
    for await (const chunk of data) text += chunk.choices[0].delta.content ?? "";
    return { text, request_id };
  } catch (error) {
    return { error: error.constructor.name, status: error.status ?? null, message: error.message };
  }
}
"""
CASES = [
    ("any origin", "*", "same-origin", True),
    ("any origin, with credentials", "*", "include", False),
    ("this origin", "{origin}", "same-origin", True),
    ("this origin, with credentials", "{origin}", "include", True),
    ("this one and another", "https://other.example, {origin}", "include", True),
    ("another origin", "https://other.example", "same-origin", False),
    ("another origin, with credentials", "https://other.example", "include", False),
    ("none", "", "same-origin", False),
]


@pytest.fixture
async def origin(page: Page) -> AsyncIterator[str]:
    async with serving(NODE, PROGRAM, env={}) as url:
        await page.goto(url)
        await page.wait_for_function("globalThis.isReady")
        yield url


@pytest.mark.rule("A9")
async def test_a_page_of_an_allowed_origin_asks_and_reads(page: Page, origin: str) -> None:
    wrong: list[str] = []
    for name, origins, credentials, allowed in CASES:
        allowed_origins = origins.format(origin=origin)
        async with running_edge(ScriptedStore(), model=MODEL, cors_origins=allowed_origins) as edge:
            asked = [edge.url, MODEL, "text of it", credentials]
            said: dict[str, Any] = await page.evaluate(ASK, asked)
            if allowed and (said.get("text") != OUTCOMES["text"].text or not said["request_id"]):
                wrong.append(f"{name}: {said}")
            if not allowed and said.get("error") != "APIConnectionError":
                wrong.append(f"{name}: let in: {said}")
            if allowed:  # what is refused can be read, too
                refused = await page.evaluate(ASK, [edge.url, "gpt-4", "text", credentials])
                if refused.get("status") != 404:
                    wrong.append(f"{name}: {refused}")
    assert not wrong, "\n".join(wrong)

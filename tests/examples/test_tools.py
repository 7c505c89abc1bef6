"""The example with tools, where a model of the test's own calls them."""

import os
import sys

import pytest

from tests.clients.tool_store import ToolStore
from tests.examples.stack import run
from tests.services.edge_harness import running_edge


@pytest.mark.rule("O1", "O22")
async def test_the_example_calls_its_tool_until_the_model_has_what_it_needs() -> None:
    store = ToolStore()
    await store.tell_model({"model": "synthetic", "parts": "hermes"}, keep_ms=600_000)
    async with running_edge(store, model="synthetic") as edge:
        openai = {"OPENAI_BASE_URL": f"{edge.url}/v1", "OPENAI_API_KEY": "unused"}
        out, _ = await run(sys.executable, "openai_tools.py", env=os.environ | openai)
    assert out.splitlines() == [
        "weather(Oslo)",
        "weather(Rome)",
        "Oslo is cold. Rome is cold.",
        "city='Oslo' degrees=3",
    ]
    assert [asked.tool_choice for asked in store.seen] == ["required", "auto", "auto", None]

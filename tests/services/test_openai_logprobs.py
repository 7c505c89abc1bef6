"""Log probabilities by the official SDK: streamed, whole, and resumed on another edge. A test plays
the generator, whose tokens are not cut where its chunks are.
"""

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest

from lore.protocol.chunk import Chunk
from lore.protocol.commands import Finish
from lore.protocol.lifecycle import INVALID_PROMPT, Status
from lore.protocol.logprobs import Scored, likely
from lore.store.base import Outcome
from lore_edge.openai.errors import OpenAIError
from tests.services.edge_harness import FaultyStore, Writer, running_edge
from tests.services.openai_harness import MODEL, sdk, strict, strict_event
from tests.services.test_openai_requests import chat, response
from tests.services.test_openai_tools import FLAT, OSLO, TOOL, writer_of

INCLUDE: Any = ["message.output_text.logprobs"]
WANTED: dict[str, Any] = {"model": MODEL, "stream": True}
SMILE = "🙂".encode()
PLAIN = [
    ("Two", [b"Two"]),
    (" words ", [b" wor", b"ds", b" "]),
    ("", [SMILE[:2]]),
    ("🙂.", [SMILE[2:], b"."]),
    ("", [b"<|im_end|>"]),
]
"""The text of each chunk, and its tokens: one is a part of a character, the last ends the answer.
"""
WITH_PARTS = [
    ("<think>", [b"<think>"]),
    ("Two cities.", [b"Two", b" cities."]),
    ("\n</think>", [b"\n", b"</think>"]),
    ("\n\nI", [b"\n\n", b"I"]),
    (" look.\n", [b" look", b".\n"]),
    ("<tool_call>", [b"<tool_call>"]),
    ('{"name": "weather", ', [b'{"name": "weather", ']),
    (f'"arguments": {OSLO}}}\n', [f'"arguments": {OSLO}}}\n'.encode()]),
    ("</tool_call>", [b"</tool_call>", b"<|im_end|>"]),
]
Played = list[tuple[str, list[bytes]]]


def scored(number: int, text: bytes) -> Scored:
    """Of the token with this number."""
    top = [likely(number, text, -number / 7), likely(900, b"other", -number / 3)]
    return Scored(top[0], tuple(top))


def all_of(played: Played) -> list[Scored]:
    tokens = [token for _, tokens in played for token in tokens]
    return [scored(number, token) for number, token in enumerate(tokens)]


def told(played: Played) -> list[dict[str, Any]]:
    return [one.as_json() for one in all_of(played)]


@pytest.fixture
async def store() -> FaultyStore:
    store = FaultyStore()
    await store.tell_model({"model": MODEL, "parts": "hermes+think"}, keep_ms=600_000)
    return store


async def play(store: FaultyStore, played: Played, number: int = 0) -> Writer:
    writer = await writer_of(store, number)
    done = 0
    for seq, (text, tokens) in enumerate(played, 1):
        more = tuple(scored(done + n, token) for n, token in enumerate(tokens))
        ids = tuple(range(done, done + len(tokens)))
        done += len(tokens)
        chunk = Chunk(seq, text, ids, done, more)
        await writer.append([chunk])
        writer.chunks.append(chunk)
    await writer.finish()
    return writer


def of_chunks(chunks: list[Any]) -> list[Any]:
    return [
        one
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["logprobs"] is not None
        for one in choice["logprobs"]["content"]
    ]


@pytest.mark.rule("O25", "H16")
@pytest.mark.parametrize("played", [PLAIN, WITH_PARTS], ids=["text", "parts"])
async def test_a_chat_has_each_token_of_its_answer(store: FaultyStore, played: Played) -> None:
    """Streamed, whole on another edge, and behind each event that a reader may be cut at."""
    asked: Any = WANTED | {"logprobs": True, "top_logprobs": 2}
    asked["messages"] = [{"role": "user", "content": "a"}]
    if played is WITH_PARTS:
        asked["tools"] = [TOOL]
    async with running_edge(store) as first, running_edge(store) as second:
        async with sdk(first.url) as client:
            asking = asyncio.create_task(client.chat.completions.create(**asked))
            writer = await play(store, played)
            chunks = [strict(chunk) async for chunk in await asking]
        assert of_chunks(chunks) == told(played)
        name = f"chatcmpl-{writer.request_id}"
        async with httpx.AsyncClient(base_url=second.url) as http:
            whole = (await http.get(f"/v1/chat/completions/{name}")).json()
            assert whole["choices"][0]["logprobs"] == {"content": told(played), "refusal": None}
            assert len(told(played)) == whole["usage"]["completion_tokens"]
            events = await events_of(http, name, None)
            assert [data for _, data in events] == chunks
            for number, (event_id, _) in enumerate(events):
                if event_id:
                    assert await events_of(http, name, event_id) == events[number + 1 :]


async def events_of(http: httpx.AsyncClient, name: str, after: str | None) -> list[tuple[str, Any]]:
    headers = {"Last-Event-ID": after} if after else {}
    url = f"/v1/chat/completions/{name}?stream=true"
    found: list[tuple[str, Any]] = []
    for block in (await http.get(url, headers=headers)).text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if (data := lines.get("data", "[DONE]")) != "[DONE]":
            found.append((lines.get("id", ""), json.loads(data)))
    return found


@pytest.mark.rule("O25")
@pytest.mark.parametrize("number", [None, 0, 5])
def test_the_generator_is_told_how_many_are_wanted(number: int | None) -> None:
    """By both APIs; None for no log probabilities at all."""
    assert chat(logprobs=number is not None, top_logprobs=number or 0).logprobs == number
    include = INCLUDE if number is not None else []
    assert response(include=include, top_logprobs=number or 0).logprobs == number


@pytest.mark.rule("O25", "O6")
@pytest.mark.parametrize(
    ("played", "message"),
    [(PLAIN, slice(0, None)), (WITH_PARTS, slice(6, 9))],
    ids=["text", "parts"],
)
async def test_a_response_has_the_tokens_of_its_text(
    store: FaultyStore, played: Played, message: slice
) -> None:
    """In deltas without their bytes, in the text's part with them, and the same on another edge
    after each event.
    """
    asked: Any = WANTED | {"include": INCLUDE, "top_logprobs": 2, "input": "a"}
    if played is WITH_PARTS:
        asked["tools"] = [FLAT]
    expected = told(played)[message]
    async with running_edge(store) as first, running_edge(store) as second:
        async with sdk(first.url) as client:
            asking = asyncio.create_task(client.responses.create(**asked))
            await play(store, played)
            parsed = [event async for event in await asking]
        events = [strict_event(event) for event in parsed]
        assert [one["sequence_number"] for one in events] == list(range(len(events)))
        deltas = [one for one in events if one["type"] == "response.output_text.delta"]
        done = next(one for one in events if one["type"] == "response.output_text.done")
        assert "".join(one["delta"] for one in deltas) == done["text"]
        joined = [token for one in deltas for token in one["logprobs"]]
        assert joined == done["logprobs"] == [without_bytes(one) for one in expected]
        final = events[-1]["response"]
        item = next(one for one in final["output"] if one["type"] == "message")
        assert item["content"][0]["logprobs"] == expected
        assert final["top_logprobs"] == 2
        async with sdk(second.url) as client:
            for number in range(len(events)):
                rest = await client.responses.retrieve(
                    final["id"], stream=True, starting_after=number
                )
                assert [event.to_dict() async for event in rest] == events[number + 1 :]
            whole = await client.responses.retrieve(final["id"], include=INCLUDE)
            assert strict(whole) == final


def without_bytes(one: dict[str, Any]) -> dict[str, Any]:
    top = [{"token": each["token"], "logprob": each["logprob"]} for each in one["top_logprobs"]]
    return {"token": one["token"], "logprob": one["logprob"], "top_logprobs": top}


@pytest.mark.rule("O25")
async def test_answers_without_a_stream_have_them(store: FaultyStore) -> None:
    async with running_edge(store) as edge, sdk(edge.url) as client:
        asked: Any = {"model": MODEL, "logprobs": True}
        waits = asyncio.create_task(
            client.chat.completions.create(messages=[{"role": "user", "content": "a"}], **asked)
        )
        await play(store, PLAIN)
        raw = strict(await waits)
        assert raw["choices"][0]["logprobs"]["content"] == told(PLAIN)
        again = asyncio.create_task(
            client.responses.create(model=MODEL, input="a", include=INCLUDE)
        )
        await play(store, PLAIN, number=1)
        raw = strict(await again)
        assert raw["output"][0]["content"][0]["logprobs"] == told(PLAIN)
        assert raw["output"][0]["content"][0]["text"] == "Two words 🙂."


@pytest.mark.rule("O25")
async def test_nobody_gets_what_was_not_asked_for(store: FaultyStore) -> None:
    async with running_edge(store) as edge, sdk(edge.url) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "a"}], stream=True
        )
        await play(store, [("a", []), ("b", [])])
        assert [chunk.choices[0].logprobs async for chunk in stream] == [None] * 4


@pytest.mark.rule("O25", "O17")
@pytest.mark.parametrize(
    ("parse", "wrong", "code"),
    [
        (chat, {"top_logprobs": 1}, "invalid_parameter_combination"),
        (chat, {"logprobs": False, "top_logprobs": 1}, "invalid_parameter_combination"),
        (chat, {"logprobs": True, "top_logprobs": 6}, "integer_above_max_value"),
        (chat, {"logprobs": True, "top_logprobs": -1}, "integer_below_min_value"),
        (response, {"top_logprobs": 1}, "invalid_parameter_combination"),
        (response, {"include": INCLUDE, "top_logprobs": 6}, "integer_above_max_value"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_what_cannot_be_had_is_refused_by_name(parse: Any, wrong: Any, code: str) -> None:
    with pytest.raises(OpenAIError) as refused:
        parse(**wrong)
    assert (refused.value.status, refused.value.code) == (400, code)
    assert refused.value.field == "top_logprobs"


@pytest.mark.rule("O25", "H15")
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_engine_that_has_none_is_named_before_an_answer_begins(
    store: FaultyStore, streamed: bool
) -> None:
    async with running_edge(store) as edge, sdk(edge.url, max_retries=0) as client:
        calls: list[tuple[str, Any]] = [
            (
                "logprobs",
                client.chat.completions.create(
                    model=MODEL,
                    messages=[{"role": "user", "content": "a"}],
                    logprobs=True,
                    stream=streamed,
                ),
            ),
            (
                "include",
                client.responses.create(model=MODEL, input="a", include=INCLUDE, stream=streamed),
            ),
        ]
        for number, (param, call) in enumerate(calls):
            asking = asyncio.create_task(call)
            writer = await writer_of(store, number)
            await refuse(store, writer)
            with pytest.raises(openai.BadRequestError) as refused:
                await asking
            assert (refused.value.param, refused.value.code) == (param, INVALID_PROMPT)


async def refuse(store: FaultyStore, writer: Writer) -> None:
    command = Finish(
        writer.request_id,
        "generator-1",
        writer.view.epoch,
        1,
        log_id=writer.view.log_id,
        status=Status.FAILED,
        finish_reason=INVALID_PROMPT,
        error="logprobs: the synthetic engine has none",
        prompt_tokens=0,
        retention_ms=60_000,
    )
    assert (await store.do(command)).outcome is Outcome.OK

"""Native readers get log probabilities with the text, live, from the log, and in polls."""

import asyncio
from typing import Any

import pytest

from lore.protocol.chunk import Chunk
from lore.protocol.logprobs import Scored, likely
from tests.services.edge_harness import FaultyStore, Writer, ask, running_edge, stream, text_of
from tests.services.poll_harness import poll

SCORED = [
    Scored(likely(n, f"t{n}".encode(), -n / 3), (likely(n, f"t{n}".encode(), -n / 3),))
    for n in range(1, 9)
]
CHUNKS = [Chunk(n, f"t{n}", (n,), n, (SCORED[n - 1],)) for n in range(1, 9)]
TOLD = [one.as_json() for one in SCORED]


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


def told(events: list[Any]) -> list[Any]:
    return [one for event in events if event.name == "message" for one in event.data["logprobs"]]


async def write(writer: Writer, chunks: list[Chunk]) -> None:
    for chunk in chunks:
        await writer.append([chunk])
        writer.chunks.append(chunk)


@pytest.mark.rule("H16")
async def test_a_stream_and_one_that_resumes_have_the_same(store: FaultyStore) -> None:
    async with running_edge(store) as edge, running_edge(store) as other:
        request_id = await ask(edge, logprobs=1)
        writer = Writer(store, request_id)
        await writer.claim()
        live = await stream(edge, request_id)
        assert await live.event()
        await write(writer, CHUNKS[:3])
        first = [event for event in [await live.event() for _ in range(3)] if event]
        await write(writer, CHUNKS[3:])
        await writer.finish()
        events = [*first, *await live.events()]
        assert text_of(events) == writer.text
        assert told(events) == TOLD
        resumed = await (await stream(other, request_id, after=5)).events()
        assert told(resumed) == TOLD[5:]


@pytest.mark.rule("H16")
async def test_a_poll_has_those_of_its_text(store: FaultyStore) -> None:
    async with running_edge(store) as edge:
        request_id = await ask(edge, logprobs=1)
        writer = Writer(store, request_id)
        await writer.claim()
        waits = asyncio.create_task(poll(edge, request_id, 0, 30))
        await write(writer, CHUNKS)
        await writer.finish()
        found = (await waits).json()
        after = found["seq"]
        rest = (await poll(edge, request_id, after, 30)).json() if found["end"] is None else {}
        assert found["logprobs"] + rest.get("logprobs", []) == TOLD


async def test_other_requests_say_nothing_of_them(store: FaultyStore) -> None:
    async with running_edge(store) as edge:
        request_id = await ask(edge)
        writer = Writer(store, request_id)
        await writer.claim()
        live = await stream(edge, request_id)
        await writer.write("a", "b")
        await writer.finish()
        events = [event for event in await live.events() if event.name == "message"]
        assert text_of(events) == "ab"
        assert not any("logprobs" in event.data for event in events)
        assert "logprobs" not in (await poll(edge, request_id, 0, 30)).json()

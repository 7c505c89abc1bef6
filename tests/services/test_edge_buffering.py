"""Proxies that hold back what they are sent: a window must not wait for them (P11, P18)."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from lore.protocol.delivery import PADS_BYTES
from lore.protocol.rtt import RttConfig
from lore.protocol.sender import SenderConfig
from lore_client import End, HeldBack, Reader, Text
from tests.services.edge_harness import (
    PATIENT,
    FaultyStore,
    Response,
    Writer,
    ask,
    running_edge,
    until,
)
from tests.services.generator_harness import Generator
from tests.services.holding_proxy import UNTIL_THE_END, holding_back

SOON = SenderConfig(rtt=RttConfig(initial_rto_s=0.1, min_rto_s=0.1, max_rto_s=0.4))
PUSHED = [0, 4_096, 8_192, 32_768, UNTIL_THE_END]
HELD_BACK = [0, 8_192, 65_536, UNTIL_THE_END]


@pytest.mark.rule("P11.7", "P11.8")
@pytest.mark.parametrize("size", PUSHED)
async def test_the_first_text_is_pushed_through_a_proxy_that_waits_for_more(size: int) -> None:
    """By padding, or by the response's end: for those who cannot poll."""
    store = FaultyStore()
    async with running_edge(store, SOON) as edge, holding_back(edge.port, size) as url:
        writer = Writer(store, await ask(edge))
        await writer.claim()
        response = await through(url, writer.request_id)
        await writer.write("a", reopen_tokens=1)
        assert await asyncio.wait_for(response, 20) == "a"


async def through(url: str, request_id: str) -> asyncio.Task[str]:
    """The first text that an EventSource would be given."""

    async def first() -> str:
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        path = f"/v1/streams/{request_id}"
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        (chunk,) = await Response(reader, writer).chunks(1)
        writer.close()
        return chunk.data["text"]

    return asyncio.create_task(first())


@pytest.mark.rule("P18.1")
@pytest.mark.parametrize("size", HELD_BACK)
@pytest.mark.parametrize("ack", ["client", "socket", "none"])
async def test_a_reader_behind_any_proxy_gets_the_whole_answer(size: int, ack: str) -> None:
    """Windows of 32 tokens have to open some ten times; nothing is padded here."""
    store = FaultyStore()
    async with (
        running_edge(store, PATIENT) as edge,
        Generator(store, "a-generator"),
        holding_back(edge.port, size) as url,
        Reader([url]) as reader,
        asyncio.timeout(60),
    ):
        asked = await reader.create("What is a proxy?", ack=ack, max_tokens=300, window=32)
        answer = reader.stream(asked.request_id, acks=ack == "client")
        events = [event async for event in answer]
        text, end = "".join(event.text for event in events if isinstance(event, Text)), events[-1]
        assert isinstance(end, End)
        assert text == (await reader.view(asked.request_id)).text
        held_back = any(isinstance(event, HeldBack) for event in events)
        assert held_back == (answer.counters.polls > 0)
        if size == UNTIL_THE_END and ack == "client":
            assert held_back
        if size == 0:
            assert not held_back
        if ack != "none":
            await until(
                lambda: store.state._records[asked.request_id].view.acked_seq == end.last_seq
            )


@pytest.mark.rule("P11.7")
async def test_a_reader_who_acknowledges_is_sent_no_padding() -> None:
    store = FaultyStore()
    async with running_edge(store, SOON) as edge:
        writer = Writer(store, await ask(edge))
        await writer.claim()
        async with Reader([edge.url]) as reader:
            answer = reader.stream(writer.request_id)
            for text in "abcdef":
                await writer.write(text)
                assert await _first_text(answer) == text
            (open_stream,) = edge.edge.streams
            assert open_stream.socket.exchange.written < PADS_BYTES[0]
            await answer.aclose()


async def _first_text(answer: AsyncIterator[object]) -> str:
    async for event in answer:
        if isinstance(event, Text):
            return event.text
    raise AssertionError("the stream has ended")

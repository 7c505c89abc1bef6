"""Proxies that hold back what they are sent: a window must not wait for them (protocol P11)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from lore.client import Reader, Text
from lore.protocol.delivery import PADS_BYTES
from lore.protocol.rtt import RttConfig
from lore.protocol.sender import SenderConfig
from tests.services.edge_harness import FaultyStore, Writer, ask, running_edge

SOON = SenderConfig(rtt=RttConfig(initial_rto_s=0.1, min_rto_s=0.1, max_rto_s=0.4))
HELD_BACK = [0, 4_096, 8_192, 32_768]


@contextlib.asynccontextmanager
async def holding_back(port: int, size: int) -> AsyncIterator[str]:
    """A proxy that keeps the last ``size`` bytes of an answer until more comes or it ends, and
    knows no directive of HTTP."""
    tasks: set[asyncio.Task[None]] = set()
    writers: set[asyncio.StreamWriter] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: int) -> None:
        held = b""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                held += data
                ready = len(held) - kept
                if ready > 0:
                    writer.write(held[:ready])
                    held = held[ready:]
                    await writer.drain()
            writer.write(held)
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        writers.update((writer, far_writer))
        streams = b"GET /v1/streams/" in (head := await reader.read(65_536))
        far_writer.write(head)
        for pumped in (
            pump(reader, far_writer, 0),
            pump(far_reader, writer, size if streams else 0),
        ):
            task = asyncio.create_task(pumped)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


@pytest.mark.parametrize("size", HELD_BACK)
async def test_the_first_text_comes_through_a_proxy_that_waits_for_more(size: int) -> None:
    store = FaultyStore()
    async with running_edge(store, SOON) as edge, holding_back(edge.port, size) as url:
        writer = Writer(store, await ask(edge))
        await writer.claim()
        async with Reader([url]) as reader, asyncio.timeout(20):
            answer = reader.stream(writer.request_id)
            first = asyncio.create_task(_first_text(answer))
            await writer.write("a", reopen_tokens=1)
            assert await first == "a"
            await answer.aclose()


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
            assert open_stream.socket._written < PADS_BYTES[0]
            await answer.aclose()


async def _first_text(answer: AsyncIterator[object]) -> str:
    async for event in answer:
        if isinstance(event, Text):
            return event.text
    raise AssertionError("the stream has ended")

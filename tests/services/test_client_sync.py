"""The Python reader for code without an event loop."""

import asyncio
import threading

import pytest

from lore_client import Failed, Reader, Refused, SyncReader, Text
from tests.services.scripted_edge import Connection, ScriptedEdge
from tests.services.test_client import ID, QUICK, silent, whole


async def test_an_answer_is_asked_for_and_read_without_an_event_loop() -> None:
    async def create(connection: Connection) -> None:
        await connection.answer(201, {"request_id": ID, "status": "queued"})

    def read(url: str) -> tuple[str, int]:
        with SyncReader([url], config=QUICK) as reader:
            asked = reader.create("Why?")
            stream = reader.stream(asked.request_id)
            text = "".join(event.text for event in stream if isinstance(event, Text))
            assert next(stream, None) is None
            return text, stream.position

    async with ScriptedEdge([whole], {"POST streams": [create]}) as edge:
        assert await asyncio.to_thread(read, edge.url) == ("<1><2><3>", 3)
    assert max(edge.acks) == 3


async def test_what_the_reader_raises_comes_to_the_caller() -> None:
    async def refuse(connection: Connection) -> None:
        await connection.answer(404, {"error": {"code": "not_found", "message": "no"}})

    async def fail(connection: Connection) -> None:
        await connection.open()
        await connection.end(0, "failed", "out of luck")

    def read(url: str) -> None:
        with SyncReader([url], config=QUICK) as reader:
            with pytest.raises(Failed, match="out of luck"):
                list(reader.stream(ID))
            with pytest.raises(Refused, match="no"):
                list(reader.stream(ID))

    async with ScriptedEdge([fail, refuse]) as edge:
        await asyncio.to_thread(read, edge.url)


async def test_closing_leaves_what_is_still_read_and_the_thread_ends() -> None:
    def read(url: str) -> None:
        reader = SyncReader([url], config=QUICK)
        stream = reader.stream(ID)
        started = threading.active_count()
        assert stream.edge == url
        reader.close()
        reader.close()
        assert threading.active_count() == started - 1

    async with ScriptedEdge([silent]) as edge:
        await asyncio.to_thread(read, edge.url)


def test_both_readers_have_the_same_words() -> None:
    def words(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")} - {"close", "aclose"}

    assert words(SyncReader) == words(Reader)

"""The Python reader where something on the way holds its stream back (protocol P18)."""

import asyncio
from typing import Any

import pytest

from lore_client import End, HeldBack, HistoryLost, Lost, Text
from lore_client.protocol import fallback
from tests.services.scripted_edge import Connection, Script, ScriptedEdge
from tests.services.test_client import ID, read, reading, silent, whole

ANSWER = ["<1>", "<2>", "<3>"]


def answering(told: int, **state: Any) -> Script:
    """Answers a poll with all up to chunk ``told``."""

    async def script(connection: Connection) -> None:
        after = int(connection.call.query["after"].partition(":")[0])
        seq = max(told, after)
        end = {"status": "done", "finish_reason": "stop", "error": None, "last_seq": 3}
        await connection.answer(
            200,
            {
                "log_id": "log",
                "after": after,
                "seq": seq,
                "text": "".join(ANSWER[after:seq]),
                "tokens": seq,
                "state": {"status": "generating", "reason": "open", "log_id": "log"} | state,
                "end": end if seq == 3 else None,
            },
        )

    return script


def polled(*streams: Script, polls: list[Script]) -> Any:
    """An edge with these streams and answers to polls, and a reader of it."""
    others: dict[str, Any] = {f"GET_{ID}": polls}
    return reading(*streams, **others)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, "OPENING_S", 0.05)


@pytest.mark.rule("P18.1", "P18.11")
async def test_a_stream_that_says_nothing_while_a_poll_does_is_left_for_polls() -> None:
    polls = [answering(1), answering(2), answering(3)]
    async with polled(silent, polls=polls) as (edge, reader):
        stream = reader.stream(ID)
        text, events = await read(stream)
        assert text == "<1><2><3>"
        assert [type(e) for e in events if isinstance(e, HeldBack | End)] == [HeldBack, End]
        assert not any(isinstance(event, Lost) for event in events)
        assert edge.acks[-1] == 3
        assert len(edge.opened) == 1
        assert [(call.query["after"], float(call.query["wait"])) for call in edge.polls] == [
            ("0", 0.0),
            ("1:log", fallback.WAIT_S),
            ("2:log", fallback.WAIT_S),
        ]
        assert stream.counters.polls == 3


@pytest.mark.rule("P18.11")
async def test_a_stream_that_catches_up_is_not_left() -> None:
    asked = asyncio.Event()

    async def late(connection: Connection) -> None:
        await asked.wait()
        await whole(connection)

    async def poll(connection: Connection) -> None:
        await answering(1)(connection)
        asked.set()

    async with polled(late, polls=[poll]) as (edge, reader):
        text, events = await read(reader.stream(ID))
    assert text == "<1><2><3>"
    assert not any(isinstance(event, HeldBack) for event in events)
    assert len(edge.opened) == 1


@pytest.mark.parametrize("status", [200, 204, 404, 503])
async def test_an_edge_that_cannot_answer_a_poll_is_the_streams_to_judge(status: int) -> None:
    """200: an older one, with the JSON view."""
    asked = asyncio.Event()

    async def late(connection: Connection) -> None:
        await asked.wait()
        await whole(connection)

    async def poll(connection: Connection) -> None:
        await connection.answer(status, {"request_id": ID, "status": "generating", "text": "<1>"})
        asked.set()

    async with polled(late, polls=[poll]) as (_, reader):
        text, events = await read(reader.stream(ID))
    assert text == "<1><2><3>"
    assert not any(isinstance(event, HeldBack) for event in events)


@pytest.mark.rule("P18.11")
async def test_a_stream_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, "STREAM_AGAIN_S", 0.01)
    async with polled(silent, whole, polls=[answering(1)]) as (edge, reader):
        text, events = await read(reader.stream(ID))
    assert text == "<1><2><3>"
    assert sum(isinstance(event, HeldBack) for event in events) == 1
    assert [call.query["after"] for call in edge.opened] == ["0", "1:log"]


async def test_the_time_that_the_caller_takes_is_no_silence() -> None:
    async def two_writes(connection: Connection) -> None:
        await connection.open()
        await connection.event(
            "state", status="generating", reason="open", log_id="log", silence_ms=60
        )
        await connection.chunk(1, "<1>")
        await caller_is_back.wait()
        await connection.chunk(2, "<2>")
        await connection.chunk(3, "<3>")
        await connection.end(3)

    caller_is_back = asyncio.Event()
    async with polled(two_writes, polls=[answering(2)]) as (edge, reader):
        stream = reader.stream(ID)
        async for event in stream:
            if isinstance(event, Text):
                break
        await asyncio.sleep(0.5)  # many times OPENING_S: a poll would have come by now
        assert edge.polls == []
        caller_is_back.set()
        text, events = await read(stream)
    assert text == "<2><3>"
    assert not any(isinstance(event, HeldBack) for event in events)


async def test_an_edge_that_sends_its_polls_away_is_left_for_another() -> None:
    polls = {f"GET {ID}": [answering(1), answering(1, reason="drain")]}
    async with ScriptedEdge([silent], polls) as edge:
        others = {f"GET {ID}": [answering(3)]}
        async with ScriptedEdge([silent], others) as other, reading(silent) as (_, reader):
            reader._urls = [edge.url, other.url]
            text, events = await read(reader.stream(ID))
            assert text == "<1><2><3>"
            assert [event.edge for event in events if isinstance(event, Lost)] == [edge.url]
            assert other.opened == []


async def test_lost_history_is_told_by_a_poll_as_by_a_stream() -> None:
    async def lost(connection: Connection) -> None:
        await connection.answer(410, {"error": {"code": "history_lost", "message": "gone"}})

    async with polled(silent, polls=[answering(1), lost]) as (_, reader):
        with pytest.raises(HistoryLost):
            await read(reader.stream(ID))

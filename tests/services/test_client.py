"""The Python reader against an edge that cuts, doubles, reorders, drops and lies."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lore_client import (
    Cancelled,
    End,
    Event,
    Failed,
    HistoryLost,
    Lost,
    Reader,
    ReaderConfig,
    Refused,
    State,
    Stream,
    Text,
    Unavailable,
)
from lore_client.protocol.receiver import ReceiverConfig
from tests.services.scripted_edge import Connection, Script, ScriptedEdge

QUICK = ReaderConfig(
    receiver=ReceiverConfig(gap_timeout_s=0.05, ack_delay_s=0.01),
    retry_s=0.05,
    backoff_max_s=0.05,
    patience_s=5.0,
)
ID = "abc"


async def read(stream: Stream) -> tuple[str, list[Event]]:
    """Everything up to the end; the text joined."""
    async with asyncio.timeout(20):
        events = [event async for event in stream]
    return "".join(event.text for event in events if isinstance(event, Text)), events


@asynccontextmanager
async def reading(
    *streams: Script, config: ReaderConfig = QUICK, **others: list[Script]
) -> AsyncIterator[tuple[ScriptedEdge, Reader]]:
    named = {name.replace("_", " "): scripts for name, scripts in others.items()}
    async with (
        ScriptedEdge(streams, named) as edge,
        Reader([edge.url], config=config) as reader,
    ):
        yield edge, reader


async def whole(connection: Connection) -> None:
    """Three chunks after the position asked for, and the end."""
    after = int(connection.call.query["after"].partition(":")[0])
    await connection.open()
    for seq in range(after + 1, 4):
        await connection.chunk(seq, f"<{seq}>")
    await connection.end(3)


async def silent(connection: Connection) -> None:
    await connection.open()
    await connection.until_the_reader_leaves()


async def test_an_answer_arrives_in_order_and_ends() -> None:
    async with reading(whole) as (_, reader):
        text, events = await read(reader.stream(ID))
    assert text == "<1><2><3>"
    assert isinstance(events[-1], End)


async def test_a_cut_stream_continues_on_the_other_edge_after_what_was_read() -> None:
    """P12"""

    async def cut(connection: Connection) -> None:
        await connection.open()
        await connection.chunk(1, "<1>")
        await connection.send(b'id: 2\ndata: {"seq": 2, "te')
        connection.writer.transport.abort()

    async with (
        ScriptedEdge([cut]) as first,
        ScriptedEdge([whole]) as second,
        Reader([first.url, second.url], config=QUICK) as reader,
    ):
        stream = reader.stream(ID)
        text, events = await read(stream)
    assert text == "<1><2><3>"
    assert second.opened[0].query["after"] == "1"
    assert stream.counters.reconnects == 1
    assert [event.edge for event in events if isinstance(event, Lost)] == [first.url]


@pytest.mark.rule("E14")
async def test_an_edge_that_is_not_there_is_passed_over() -> None:
    async with ScriptedEdge([whole]) as gone:
        pass
    async with (
        ScriptedEdge([whole]) as edge,
        Reader([gone.url, edge.url], config=QUICK) as reader,
    ):
        text, _ = await read(reader.stream(ID))
    assert text == "<1><2><3>"


@pytest.mark.rule("P11.3")
async def test_doubled_and_reordered_chunks_make_the_exact_text() -> None:

    async def shuffled(connection: Connection) -> None:
        await connection.open()
        for seq in (1, 3, 1, 3, 2, 2):
            await connection.chunk(seq, f"<{seq}>")
        await connection.end(3)

    async with reading(shuffled) as (edge, reader):
        stream = reader.stream(ID)
        text, _ = await read(stream)
    assert text == "<1><2><3>"
    assert stream.duplicates == 3
    assert edge.acks[-1] == 3


async def test_a_missing_chunk_that_does_not_come_again_is_fetched_by_reconnecting() -> None:
    async def gap(connection: Connection) -> None:
        await connection.open()
        await connection.chunk(1, "<1>")
        await connection.chunk(3, "<3>")
        await connection.until_the_reader_leaves()

    async with reading(gap, whole) as (edge, reader):
        text, _ = await read(reader.stream(ID))
    assert text == "<1><2><3>"
    assert [call.query["after"] for call in edge.opened] == ["0", "1"]


@pytest.mark.rule("P1.2")
async def test_an_end_before_the_last_chunk_is_no_end() -> None:

    async def early_end(connection: Connection) -> None:
        await connection.open()
        await connection.chunk(1, "<1>")
        await connection.end(3)

    async with reading(early_end, whole) as (_, reader):
        text, _ = await read(reader.stream(ID))
    assert text == "<1><2><3>"


@pytest.mark.rule("E6")
async def test_a_connection_without_even_a_heartbeat_is_given_up() -> None:
    config = ReaderConfig(silence_s=0.05, retry_s=0.05, backoff_max_s=0.05)
    async with reading(silent, whole, config=config) as (edge, reader):
        text, _ = await read(reader.stream(ID))
    assert text == "<1><2><3>"
    assert len(edge.opened) == 2


async def test_an_edge_that_speaks_nonsense_is_left() -> None:
    async def nonsense(connection: Connection) -> None:
        await connection.open()
        await connection.send(b"data: {\n\n")
        await connection.until_the_reader_leaves()

    async with reading(nonsense, whole) as (_, reader):
        text, _ = await read(reader.stream(ID))
    assert text == "<1><2><3>"


async def test_acks_are_few_and_the_last_one_names_everything() -> None:
    """P9"""

    async def long(connection: Connection) -> None:
        await connection.open()
        for seq in range(1, 101):
            await connection.chunk(seq, "x")
        await connection.end(100)

    async with reading(long) as (edge, reader):
        stream = reader.stream(ID)
        await read(stream)
    assert edge.acks[-1] == 100
    assert edge.acks == sorted(edge.acks)
    assert stream.counters.acks == len(edge.acks) <= 25


async def test_text_is_acknowledged_while_the_reader_waits_for_more() -> None:
    acked = asyncio.Event()

    async def slow(connection: Connection) -> None:
        await connection.open()
        await connection.chunk(1, "<1>")
        await acked.wait()
        await connection.chunk(2, "<2>")
        await connection.end(2)

    async def ack(connection: Connection) -> None:
        await connection.answer(204)
        acked.set()

    async with reading(slow, POST_ack=[ack]) as (edge, reader):
        text, _ = await read(reader.stream(ID))
    assert text == "<1><2>"
    assert edge.acks[0] == 1


async def test_an_ack_that_did_not_arrive_is_said_again() -> None:
    async def refuse(connection: Connection) -> None:
        await connection.answer(503)

    async def drop(connection: Connection) -> None:
        connection.writer.transport.abort()

    async def accept(connection: Connection) -> None:
        await connection.answer(204)

    async with reading(whole, POST_ack=[refuse, drop, accept]) as (edge, reader):
        stream = reader.stream(ID)
        await read(stream)
    assert edge.acks == [3, 3, 3]
    assert (stream.counters.acks, stream.counters.lost_acks) == (1, 2)


async def test_an_ack_is_said_again_soon_however_often_it_was_lost() -> None:
    """P6: a window may be closed until it arrives, although text has long come again."""
    refusals = 12

    async def refuse(connection: Connection) -> None:
        await connection.answer(503)

    async def accept(connection: Connection) -> None:
        await connection.answer(204)

    config = ReaderConfig(retry_s=0.01, backoff_max_s=1e6, ack_backoff_max_s=0.02, last_ack_s=5.0)
    answers: list[Script] = [*[refuse] * refusals, accept]
    async with reading(whole, config=config, POST_ack=answers) as (edge, reader):
        await read(reader.stream(ID))
    assert edge.acks == [3] * (refusals + 1)


async def test_a_reader_that_does_not_acknowledge_posts_nothing() -> None:
    """P8"""
    async with reading(whole) as (edge, reader):
        await read(reader.stream(ID, acks=False))
    assert edge.acks == []


async def test_nothing_left_to_read_ends_with_what_the_view_says() -> None:
    async def nothing(connection: Connection) -> None:
        await connection.answer(204)

    async def view(connection: Connection) -> None:
        await connection.answer(
            200, {"request_id": ID, "status": "done", "finish_reason": "length", "next_seq": 4}
        )

    async with reading(nothing, GET_abc=[view]) as (_, reader):
        text, events = await read(reader.stream(ID, after=3))
    assert text == ""
    assert events == [End(status="done", finish_reason="length", last_seq=3)]


@pytest.mark.parametrize("how", ["status", "event"])
async def test_a_lost_history_is_an_error_and_never_a_silent_skip(how: str) -> None:
    """P4"""

    async def forgot(connection: Connection) -> None:
        error = {"code": "history_lost", "message": "the log was forked"}
        if how == "status":
            await connection.answer(410, {"error": error})
        else:
            await connection.open()
            await connection.event("error", error=error)

    async with reading(forgot) as (edge, reader):
        with pytest.raises(HistoryLost, match="the log was forked"):
            await read(reader.stream(ID, after=9))
    assert len(edge.opened) == 1


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("message", "{"),
        ("message", "null"),
        ("message", '{"text": "no"}'),
        ("message", '{"seq": "2", "text": "no"}'),
        ("message", '{"seq": 2.5, "text": "no"}'),
        ("message", '{"seq": 2, "text": 5}'),
        ("message", '{"seq": 2, "text": null}'),
        ("state", "[]"),
        ("state", '{"reason": "open"}'),
        # An end that did not say where once ended the answer wherever the reader was.
        ("end", '{"status": "done"}'),
        ("end", '{"status": "done", "last_seq": -1}'),
        ("end", '{"status": "done", "last_seq": "1"}'),
        ("error", "{}"),
        ("error", '{"error": {"code": "history_lost"}}'),
    ],
)
async def test_what_is_not_the_protocol_is_neither_text_nor_an_end(name: str, data: str) -> None:
    """P1: the reader leaves and goes on elsewhere from what it has."""

    async def confused(connection: Connection) -> None:
        await connection.open()
        await connection.chunk(1, "<1>")
        await connection.send(f"event: {name}\ndata: {data}\n\n".encode())
        await connection.until_the_reader_leaves()

    async with reading(confused, whole) as (edge, reader):
        text, _ = await read(reader.stream(ID))
    assert text == "<1><2><3>"
    assert [call.query["after"] for call in edge.opened] == ["0", "1"]


async def test_a_reader_names_the_log_that_it_has_read() -> None:
    """P4"""

    async def forked(connection: Connection) -> None:
        await connection.open()
        await connection.event("state", status="generating", reason="open", log_id="one")
        await connection.chunk(1, "<1>")
        await connection.chunk(3, "<old>")
        await connection.event("state", status="generating", reason="failed_over", log_id="two")

    async with reading(forked, whole) as (edge, reader):
        stream = reader.stream(ID)
        text, _ = await read(stream)
    assert text == "<1><2><3>"
    assert [call.query["after"] for call in edge.opened] == ["0", "1:two"]


@pytest.mark.parametrize("how", ["state", "id"])
async def test_a_chunk_of_the_older_log_never_follows_one_of_the_newer(how: str) -> None:
    """P4"""

    async def forked(connection: Connection) -> None:
        await connection.open()
        await connection.event("state", status="generating", reason="open", log_id="one")
        await connection.chunk(1, "<1>")
        await connection.chunk(3, "<old>")
        if how == "state":
            await connection.event("state", status="generating", reason="failed_over", log_id="two")
        for seq in (2, 3):
            await connection.chunk(seq, f"<{seq}>", ":two" if how == "id" else "")
        await connection.end(3)

    async with reading(forked) as (_, reader):
        text, _ = await read(reader.stream(ID))
    assert text == "<1><2><3>"


@pytest.mark.parametrize(("status", "kind"), [("failed", Failed), ("cancelled", Cancelled)])
async def test_an_answer_that_is_not_complete_raises_after_its_text(
    status: str, kind: type[Exception]
) -> None:
    async def ended(connection: Connection) -> None:
        await connection.open()
        await connection.chunk(1, "<1>")
        await connection.end(1, status, "the engine stopped")

    async with reading(ended) as (edge, reader):
        stream = reader.stream(ID)
        assert await anext(stream) == Text(seq=1, text="<1>", tokens=1)
        with pytest.raises(kind) as caught:
            await anext(stream)
    assert edge.acks == [1]
    if kind is Failed:
        assert str(caught.value) == "the engine stopped"


async def test_a_draining_edge_is_left_for_the_next_one() -> None:
    async def drain(connection: Connection) -> None:
        await connection.open()
        await connection.chunk(1, "<1>")
        await connection.send(b"retry: 80\n")
        await connection.event("state", status="generating", reason="drain")
        await connection.until_the_reader_leaves()

    async with (
        ScriptedEdge([drain]) as first,
        ScriptedEdge([whole]) as second,
        Reader([first.url, second.url], config=QUICK) as reader,
    ):
        text, events = await read(reader.stream(ID))
    assert text == "<1><2><3>"
    assert [event.delay_s for event in events if isinstance(event, Lost)] == [0.08]


@pytest.mark.rule("E14")
@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_edge_is_asked_again_when_it_says(status: int) -> None:

    async def busy(connection: Connection) -> None:
        error = {"code": "busy", "message": "try later"}
        await connection.answer(status, {"error": error}, Retry_After="0")

    async with reading(busy, whole) as (_, reader):
        text, events = await read(reader.stream(ID))
    assert text == "<1><2><3>"
    assert [(lost.why, lost.delay_s) for lost in events if isinstance(lost, Lost)] == [
        ("try later", 0.0)
    ]


async def test_an_unknown_request_is_refused_at_once() -> None:
    async def unknown(connection: Connection) -> None:
        error = {"code": "not_found", "message": "no such request"}
        await connection.answer(404, {"error": error})

    async with reading(unknown) as (edge, reader):
        with pytest.raises(Refused, match="no such request") as caught:
            await read(reader.stream(ID))
    assert (caught.value.status, caught.value.code) == (404, "not_found")
    assert len(edge.opened) == 1


async def test_a_stream_that_no_edge_serves_ends_some_time() -> None:
    async with ScriptedEdge() as gone:
        pass
    config = ReaderConfig(stream_patience_s=0.1, retry_s=0.05, backoff_max_s=0.05)
    async with Reader([gone.url], config=config) as reader:
        with pytest.raises(Unavailable, match="no connection"):
            await read(reader.stream(ID))


async def test_a_reaped_answer_is_revived_when_asked_to() -> None:
    """P16"""

    async def reaped(connection: Connection) -> None:
        await connection.open()
        await connection.event("state", status="reaped", reason="reaped")
        await revived.wait()
        await connection.chunk(1, "<1>")
        await connection.end(1)

    async def revive(connection: Connection) -> None:
        await connection.answer(202, {"request_id": ID, "status": "queued"})
        revived.set()

    revived = asyncio.Event()
    async with reading(reaped, POST_revive=[revive]) as (_, reader):
        text, events = await read(reader.stream(ID, revive=True))
    assert text == "<1>"
    assert State(status="reaped", reason="reaped") in events


async def test_a_reaped_answer_is_left_alone_otherwise() -> None:
    async def reaped(connection: Connection) -> None:
        await connection.open()
        await connection.event("state", status="reaped", reason="reaped")
        await connection.chunk(1, "<1>")
        await connection.end(1)

    async with reading(reaped) as (edge, reader):
        await read(reader.stream(ID))
    assert edge.named("POST revive") == []


@pytest.mark.rule("P14.2")
async def test_leaving_closes_the_connection_and_stops_nothing() -> None:
    left = asyncio.Event()

    async def endless(connection: Connection) -> None:
        await connection.open()
        await connection.chunk(1, "<1>")
        await connection.until_the_reader_leaves()

    async def waiting(connection: Connection) -> None:
        try:
            await endless(connection)
        finally:
            left.set()

    async with reading(waiting) as (edge, reader):
        async with reader.stream(ID) as stream:
            assert await anext(stream) == Text(seq=1, text="<1>", tokens=1)
        async with asyncio.timeout(5):
            await left.wait()
    assert [call.method for call in edge.calls if call.method == "DELETE"] == []


async def test_stopping_deletes() -> None:
    """P14"""
    async with reading() as (edge, reader):
        await reader.stop(ID)
    assert len(edge.named(f"DELETE {ID}")) == 1


async def test_asking_again_after_a_lost_reply_asks_once() -> None:
    async def lose_the_reply(connection: Connection) -> None:
        connection.writer.transport.abort()

    async def created(connection: Connection) -> None:
        await connection.answer(201, {"request_id": ID, "status": "queued"})

    async with reading(POST_streams=[lose_the_reply, created]) as (edge, reader):
        view = await reader.create("Why?", max_tokens=5)
    assert view.request_id == ID
    keys = {call.headers["idempotency-key"] for call in edge.named("POST streams")}
    assert len(edge.named("POST streams")) == 2
    assert len(keys) == 1


async def test_a_refusal_names_the_field() -> None:
    async def refuse(connection: Connection) -> None:
        error = {"code": "out_of_range", "message": "at most 2", "field": "temperature"}
        await connection.answer(400, {"error": error})

    async with reading(POST_streams=[refuse]) as (_, reader):
        with pytest.raises(Refused) as caught:
            await reader.create("Why?", temperature=9)
    assert caught.value.field == "temperature"


@pytest.mark.rule("P1.1")
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_a_connection_does_the_text_is_exact(seed: int) -> None:
    rng = random.Random(seed)
    log = [f"{n}," for n in range(1, 31)]

    async def faulty(connection: Connection) -> None:
        after = int(connection.call.query["after"])
        await connection.open()
        sent = list(range(after + 1, len(log) + 1))[: rng.randint(0, 20)]
        sent = [seq for seq in sent if rng.random() > 0.1]
        sent += rng.sample(sent, len(sent) // 4)
        for index in range(len(sent) - 1):
            if rng.random() < 0.2:
                sent[index], sent[index + 1] = sent[index + 1], sent[index]
        for seq in sent:
            await connection.chunk(seq, log[seq - 1])
        if rng.random() < 0.5:
            await connection.end(len(log))
        elif rng.random() < 0.5:
            connection.writer.transport.abort()

    async def run() -> None:
        async with reading(faulty) as (edge, reader):
            stream = reader.stream(ID)
            text, _ = await read(stream)
        assert text == "".join(log)
        assert max(edge.acks) == len(log)

    asyncio.run(run())


async def test_patience_ends_with_a_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backoff that would end after it is cut short."""

    async def away(connection: Connection) -> None:
        await connection.answer(503, {"error": {"code": "store_unavailable", "message": "away"}})

    async def create(connection: Connection) -> None:
        await connection.answer(201, {"request_id": ID, "status": "queued"})

    def never(*_: object) -> float:
        return 1e9

    monkeypatch.setattr(ReaderConfig, "backoff_s", never)
    config = ReaderConfig(patience_s=0.3)
    async with reading(config=config, POST_streams=[away, create]) as (_, reader):
        view = await reader.create("Why?")
    assert view.request_id == ID

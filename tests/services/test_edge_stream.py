"""An edge's streams: order, events, ends, several readers, and what a stream leaves behind."""

import asyncio
import struct
from socket import SO_LINGER, SOL_SOCKET
from typing import cast

import pytest

from lore.protocol.lifecycle import Status
from lore.store.base import View
from lore.store.memory.state import StoreState
from lore_edge.http.connection import Connection
from tests.services.edge_harness import (
    WAIT_S,
    FaultyStore,
    Writer,
    acknowledge,
    ask,
    request,
    running_edge,
    stream,
    text_of,
    until,
)


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest.mark.rule("E1", "E7")
async def test_a_stream_opens_with_retry_and_state_and_ends_with_the_usage(store: FaultyStore):
    async with running_edge(store) as edge:
        request_id = await ask(edge)
        response = await stream(edge, request_id)
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-store, no-transform"
        assert response.headers["x-accel-buffering"] == "no"
        opened = await response.event()
        assert response.retry_ms == 1000
        assert opened is not None
        assert opened.name == "state"
        assert opened.data == {
            "status": "queued",
            "reason": "open",
            "log_id": opened.data["log_id"],
            "edge": "edge-1",
            "window": 32,
            "acked_seq": 0,
            "generated_tokens": 0,
            "rto_ms": 60_000,
            "retransmits": 0,
            "silence_ms": 3000,
        }
        writer = Writer(store, request_id)
        await writer.claim()
        await writer.write("A list ", "holds\n\rdata: \u2028", "“things”\U0001f600.")
        await writer.finish()
        events = await response.events()
        assert text_of(events) == writer.text
        assert [e.id for e in events if e.name == "message"] == ["1", "2", "3"]
        assert [e.data["seq"] for e in events if e.name == "message"] == [1, 2, 3]
        assert [e.data["reason"] for e in events if e.name == "state"] == ["claimed"]
        assert events[-1].name == "end"
        assert events[-1].data == {
            "status": "done",
            "finish_reason": "stop",
            "error": None,
            "last_seq": 3,
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        }


@pytest.mark.rule("P1.2", "P12.1")
async def test_a_reader_that_resumes_gets_what_follows_and_the_view_has_the_whole(
    store: FaultyStore,
):
    """P1, P12: history and live chunks in one pass, on another edge."""
    async with running_edge(store) as one, running_edge(store, edge_id="edge-2") as two:
        request_id = await ask(one)
        writer = Writer(store, request_id)
        await writer.claim()
        await writer.write("a", "b", "c", "d")
        first = await stream(one, request_id)
        assert text_of(await first.chunks(2)) == "ab"
        first.close()
        second = await stream(two, request_id, last_event_id="2")
        assert text_of(await second.chunks(2)) == "cd"
        assert (await acknowledge(one, request_id, 4)).status_code == 204
        await writer.write("e")
        await writer.finish()
        assert text_of(await second.events()) == "e"
        async with two.client() as client:
            view = (await client.get(f"/v1/streams/{request_id}")).json()
        assert (view["text"], view["status"], view["acked_seq"]) == ("abcde", "done", 4)


@pytest.mark.rule("P12.1")
@pytest.mark.parametrize("cut", [0, 1, 255, 256, 257, 999])
async def test_a_long_history_comes_whole_from_any_position(store: FaultyStore, cut: int):
    """P12: several pages of the log, then the live chunks."""
    async with running_edge(store, ring_chunks=8) as edge:
        request_id = await ask(edge)
        writer = Writer(store, request_id)
        await writer.claim()
        await writer.write(*(f"{n} " for n in range(1000)))
        response = await stream(edge, request_id, after=cut)
        assert (await response.chunks(1))[0].data["seq"] == cut + 1
        await writer.write("end")
        await writer.finish()
        events = await response.events("message")
        assert [e.data["seq"] for e in events] == list(range(cut + 2, 1002))


async def test_several_readers_share_one_subscription_and_all_get_the_same(store: FaultyStore):
    async with running_edge(store) as edge:
        request_id = await ask(edge)
        writer = Writer(store, request_id)
        await writer.claim()
        await writer.write("a", "b")
        readers = [await stream(edge, request_id, after=n) for n in (0, 1, 2)]
        assert store.following(request_id) == 1
        await writer.write("c", "d")
        await writer.finish()
        texts = [text_of(await reader.events()) for reader in readers]
        assert texts == ["abcd", "bcd", "cd"]


@pytest.mark.rule("P12.1")
async def test_the_last_event_id_is_newer_than_the_url(store: FaultyStore):
    """An EventSource reconnects with the URL that it began with."""
    async with running_edge(store) as edge:
        request_id = await ask(edge)
        writer = Writer(store, request_id)
        await writer.claim()
        await writer.write("a", "b", "c")
        response = await stream(edge, request_id, after=0, last_event_id="2")
        assert (await response.chunks(1))[0].data["seq"] == 3


@pytest.mark.rule("E8")
async def test_after_the_end_a_reader_with_everything_gets_204(store: FaultyStore):
    async with running_edge(store) as edge:
        request_id = await ask(edge)
        writer = Writer(store, request_id)
        await writer.claim()
        await writer.write("a", "b")
        await writer.finish()
        assert (await stream(edge, request_id, last_event_id="2")).status == 204
        behind = await stream(edge, request_id, last_event_id="1")
        assert [e.name for e in await behind.events()] == ["state", "message", "end"]
        unsaid = await stream(edge, request_id)
        assert text_of(await unsaid.events()) == "ab"


async def test_a_new_reader_of_an_empty_answer_hears_how_it_ended(store: FaultyStore):
    async with running_edge(store) as edge:
        request_id = await ask(edge)
        async with edge.client() as client:
            await client.delete(f"/v1/streams/{request_id}")
        events = await (await stream(edge, request_id)).events()
        assert [(e.name, e.data["status"]) for e in events] == [
            ("state", "cancelled"),
            ("end", "cancelled"),
        ]


@pytest.mark.rule("E1")
async def test_a_pause_and_its_end_are_told(store: FaultyStore):
    async with running_edge(store) as edge:
        request_id = await ask(edge)
        writer = Writer(store, request_id)
        await writer.claim()
        response = await stream(edge, request_id)
        await writer.write("a", "b", reopen_tokens=2)
        assert text_of(await response.chunks(2)) == "ab"
        paused = await response.until_event("state", reason="paused")
        assert (paused.data["status"], paused.data["generated_tokens"]) == ("paused", 2)
        assert (await acknowledge(edge, request_id, 2)).status_code == 204
        resumed = await response.until_event("state", reason="resumed")
        assert (resumed.data["status"], resumed.data["acked_seq"]) == ("generating", 2)


async def test_a_failure_is_told_with_its_reason_after_the_text(store: FaultyStore):
    async with running_edge(store) as edge:
        request_id = await ask(edge)
        response = await stream(edge, request_id)
        writer = Writer(store, request_id)
        await writer.claim()
        await writer.write("half")
        await writer.finish(Status.FAILED, "out of memory")
        events = await response.events("message", "end")
        assert text_of(events) == "half"
        assert events[-1].data["error"] == "out of memory"


async def test_a_silent_stream_gets_a_comment(store: FaultyStore):
    async with running_edge(store, heartbeat_s=0.02) as edge:
        response = await stream(edge, await ask(edge))
        await response.next_comment()
        await response.next_comment()


@pytest.mark.rule("E1")
async def test_a_stream_whose_request_is_no_longer_kept_ends_with_an_error(store: FaultyStore):
    async with running_edge(store, heartbeat_s=0.02) as edge:
        request_id = await ask(edge)
        response = await stream(edge, request_id)
        store.forget_since(StoreState().snapshot(), store.state.run_id)
        events = await response.events()
        assert events[-1].name == "error"
        assert events[-1].data["error"]["code"] == "not_found"


@pytest.mark.parametrize("resets", [False, True])
async def test_a_reader_that_leaves_before_its_stream_begins_is_no_error(
    store: FaultyStore,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    resets: bool,
):
    """Its socket was closed while its request was looked up, and setting the socket's options
    ended in a traceback for each such reader."""
    view, looked, goes_on = store.view, asyncio.Event(), asyncio.Event()

    async def slow_view(request_id: str) -> View | None:
        looked.set()
        await goes_on.wait()
        return await view(request_id)

    async with running_edge(store) as edge:
        request_id = await ask(edge)
        monkeypatch.setattr(store, "view", slow_view)
        _, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        head = f"GET /v1/streams/{request_id} HTTP/1.1", "host: a", "accept: text/event-stream"
        writer.write("\r\n".join([*head, "", ""]).encode())
        await asyncio.wait_for(looked.wait(), WAIT_S)
        if resets:  # else its end may be that of its own side alone
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, linger)
        writer.transport.abort()
        connections = cast("set[Connection]", edge.server.server_state.connections)
        await until(lambda: all(one.peer_ended for one in connections))
        assert bool(connections) != resets
        goes_on.set()
        await until(lambda: not edge.server.server_state.tasks)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.rule("P14.2")
async def test_a_reader_that_leaves_leaves_nothing_behind(store: FaultyStore):
    """P14: and its request goes on."""
    async with running_edge(store) as edge:
        request_id = await ask(edge)
        response = await stream(edge, request_id)
        await response.event()
        assert (len(edge.edge.streams), store.following(request_id)) == (1, 1)
        response.close()
        await until(lambda: len(edge.edge.streams) == 0)
        await until(lambda: store.following(request_id) == 0)
        assert len(edge.edge.feeds) == 0
        view = await store.view(request_id)
        assert view is not None
        assert view.status is Status.QUEUED


async def test_a_refused_stream_leaves_nothing_behind(store: FaultyStore):
    async with running_edge(store) as edge:
        assert (await stream(edge, "A" * 22)).status == 404
        assert len(edge.edge.feeds) == 0
        assert store.following("A" * 22) == 0


async def test_a_connection_may_be_used_again_after_a_stream_ended(store: FaultyStore):
    async with running_edge(store) as edge:
        request_id = await ask(edge)
        async with edge.client() as client:
            await client.delete(f"/v1/streams/{request_id}")
            path, headers = f"/v1/streams/{request_id}", {"accept": "text/event-stream"}
            first = await client.get(path, headers=headers)
            second = await client.get(path, headers=headers)
        assert first.text == second.text
        assert first.text.count("event: end") == 1


@pytest.mark.rule("W3")
async def test_a_head_request_gets_the_head_of_the_view(store: FaultyStore):
    async with running_edge(store) as edge, edge.client() as client:
        answer = await client.head(f"/v1/streams/{await ask(edge)}")
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-type"] == "application/json"


async def test_a_reader_that_leaves_is_noticed_whatever_it_sent_with_its_call(store: FaultyStore):
    """A body that nobody reads would keep its socket from being read, and so its end."""
    async with running_edge(store) as edge:
        path = f"/v1/streams/{await ask(edge)}"
        headers = {"accept": "text/event-stream"}
        response = await request(edge, "GET", path, headers, b"x" * 100_000)
        await response.event()
        response.close()
        await until(lambda: len(edge.edge.streams) == 0)


async def test_a_connection_serves_another_stream_after_one_that_ended(store: FaultyStore):
    """A reader that leaves then is noticed as on a new connection."""
    async with running_edge(store) as edge:
        ended, waiting = await ask(edge), await ask(edge)
        writer = Writer(store, ended)
        await writer.claim()
        await writer.finish()
        reader, connection = await asyncio.open_connection("127.0.0.1", edge.port)
        for request_id in (ended, waiting):
            head = f"GET /v1/streams/{request_id} HTTP/1.1", "host: a", "accept: text/event-stream"
            connection.write("\r\n".join([*head, "", ""]).encode())
            if request_id == ended:
                await asyncio.wait_for(reader.readuntil(b"\r\n0\r\n\r\n"), WAIT_S)
        await until(lambda: len(edge.edge.streams) == 1)
        connection.transport.abort()
        await until(lambda: len(edge.edge.streams) == 0)

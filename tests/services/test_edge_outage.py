"""An edge without the store sends its readers elsewhere; all are told how long it may be silent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from lore.protocol.lifecycle import Status
from lore_client import Reader, ReaderConfig, Text
from lore_edge.delivery import store_watch
from tests.services.edge_harness import (
    FaultyStore,
    Response,
    RunningEdge,
    Writer,
    ask,
    request,
    running_edge,
    stream,
    text_of,
    until,
)

LOST_S = 0.3
QUICK = ReaderConfig(retry_s=0.05, backoff_max_s=0.2, call_timeout_s=5.0)
OPENAI = "/v1/chat/completions"
HELLO = b'{"model": "default", "stream": true, "messages": [{"role": "user", "content": "hi"}]}'


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


class View(FaultyStore):
    """One edge's way to a store that it shares with others; the way can be cut."""

    def __init__(self, shared: FaultyStore) -> None:
        super().__init__()
        self.state = shared.state
        self._listeners = shared._listeners


@contextlib.asynccontextmanager
async def watched(
    store: FaultyStore, name: str, lost_s: float = LOST_S
) -> AsyncIterator[RunningEdge]:
    """An edge that has met its store."""
    changes = {"store_lost_s": lost_s, "edge_id": name, "drain_spread_s": 0.05}
    async with running_edge(store, **changes) as edge:
        await edge.edge.check_store()
        yield edge


async def started(store: FaultyStore, edge: RunningEdge, *texts: str) -> Writer:
    writer = Writer(store, await ask(edge))
    await writer.claim()
    await writer.write(*texts)
    return writer


async def lost(edge: RunningEdge) -> None:
    await until(lambda: edge.edge.streams.store_watch.is_lost)


@pytest.mark.rule("E11", "E12")
async def test_readers_are_told_to_go_and_whoever_comes_is_refused(store: FaultyStore) -> None:
    async with watched(store, "one") as edge:
        writer = await started(store, edge, "a")
        response = await stream(edge, writer.request_id)
        assert text_of(await response.chunks(1)) == "a"
        store.away = True
        farewell = await response.until_event("state", reason="store_lost")
        assert farewell.data["edge"] == "one"
        assert (response.retry_ms or 0) <= 250
        assert await response.event() is None
        refused = await stream(edge, writer.request_id, after=1)
        assert refused.status == 503
        assert (await refused.json())["error"]["code"] == "store_unavailable"
        assert edge.server.ready() == "the store is away"
        store.away = False
        await edge.edge.check_store()
        back = await stream(edge, writer.request_id, after=1)
        await writer.write("b")
        assert text_of(await back.chunks(1)) == "b"


@pytest.mark.rule("E17")
async def test_an_edge_without_its_store_keeps_no_connection(store: FaultyStore) -> None:
    """Behind a balancer its clients sent all their acks to it, and none of their connections
    would reach the other edge."""
    async with watched(store, "one") as edge:
        writer = await started(store, edge, "a")
        view = f"GET /v1/streams/{writer.request_id} HTTP/1.1\r\nHost: localhost\r\n".encode()
        (asking, to_ask), (reading, to_read) = [
            await asyncio.open_connection("127.0.0.1", edge.port) for _ in range(2)
        ]
        to_read.write(view + b"Accept: text/event-stream\r\n\r\n")
        to_ask.write(view + b"\r\n")
        kept = await asking.readuntil(b"\r\n\r\n")
        assert b"connection: close" not in kept
        store.away = True
        await lost(edge)
        await until(lambda: edge.server.ready() == "the store is away")
        assert (await reading.read()).endswith(b"\r\n0\r\n\r\n"), "and is closed behind its end"
        to_ask.write(view + b"\r\n")
        refused = await asking.read()
        assert b"HTTP/1.1 503 " in refused
        assert b"connection: close" in refused
        to_ask.close()
        to_read.close()


async def test_a_reader_whose_edge_is_cut_off_reads_on_at_another(store: FaultyStore) -> None:
    own = View(store)
    async with watched(own, "one") as one, watched(store, "two") as two:
        writer = await started(store, two, "a")
        async with Reader([one.url, two.url], config=QUICK) as reader:
            answer = reader.stream(writer.request_id)
            assert await _next_text(answer) == "a"
            own.away = True
            await until(lambda: not len(one.edge.streams))
            await writer.write("b")
            assert await _next_text(answer) == "b"
            assert answer.edge == two.url
            await answer.aclose()


@pytest.mark.rule("E11")
async def test_who_waits_for_the_store_is_sent_away_all_the_same(store: FaultyStore) -> None:
    """A call that was not answered once held its reader until it had timed out."""
    async with watched(store, "one") as edge:
        writer = await started(store, edge, "a")
        keeper = await stream(edge, writer.request_id, after=1)
        await keeper.until_event("state", reason="open")
        never = asyncio.Event()
        answer = store.view

        async def unanswered(*_: object, **__: object) -> None:
            await never.wait()

        store.read = unanswered  # pyright: ignore[reportAttributeAccessIssue]
        coming = asyncio.create_task(stream(edge, writer.request_id))
        await until(lambda: len(edge.edge.streams) == 2)
        store.view = unanswered  # pyright: ignore[reportAttributeAccessIssue]
        behind = await coming
        await behind.until_event("state", reason="store_lost")
        store.view = answer
        never.set()


@pytest.mark.rule("E13")
async def test_for_an_outage_that_all_share_a_reader_moves_once(store: FaultyStore) -> None:
    async with watched(store, "one") as one, watched(store, "two") as two:
        writer = await started(store, one, "a")
        responses = [await stream(edge, writer.request_id) for edge in (one, two)]
        for response in responses:
            await response.chunks(1)
        store.away = True
        await lost(one)
        await lost(two)
        for response in responses:
            await response.until_event("state", reason="store_lost")
        store.away = False
        for edge in (one, two):
            await edge.edge.check_store()
        back = [await stream(edge, writer.request_id, after=1) for edge in (one, two)]
        await writer.write("b")
        await writer.finish(Status.DONE)
        for response in back:
            assert [e.name for e in await response.events("message", "end")] == ["message", "end"]


@pytest.mark.rule("E13")
@pytest.mark.parametrize("trouble", ["away", "silent"])
async def test_who_came_since_the_store_fell_silent_stays(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """It has been sent here by another edge that is without the store as well."""
    monkeypatch.setattr(store_watch, "CHECK_S", 2.0)  # one unanswered call within ``lost_s``
    async with watched(store, "one", lost_s=3.5) as edge:  # for the second one to come
        writer = await started(store, edge, "a")
        first = await stream(edge, writer.request_id)
        await first.chunks(1)
        setattr(store, trouble, True)
        began_s, clock = asyncio.get_running_loop().time(), asyncio.get_running_loop().time
        checking = asyncio.create_task(edge.edge.check_store())
        await until(lambda: clock() > began_s + 0.01)  # uvloop's clock counts milliseconds
        second = await stream(edge, writer.request_id, after=1)
        await second.until_event("state", reason="open")
        await first.until_event("state", reason="store_lost")
        setattr(store, trouble, False)
        await checking
        await edge.edge.check_store()
        await writer.write("b")
        assert text_of(await second.chunks(1)) == "b"


async def test_a_blink_of_the_store_moves_nobody(store: FaultyStore) -> None:
    async with watched(store, "one") as edge:
        writer = await started(store, edge, "a")
        response = await stream(edge, writer.request_id)
        await response.chunks(1)
        store.away = True
        await edge.edge.check_store()
        store.away = False
        await edge.edge.check_store()
        await writer.write("b")
        await writer.finish()
        events = await response.events()
        assert [e.name for e in events if e.name != "state"] == ["message", "end"]
        assert "store_lost" not in [e.data.get("reason") for e in events]


@pytest.mark.rule("E11")
async def test_a_stream_of_openai_ends_by_a_broken_connection(store: FaultyStore) -> None:
    """A response that ends would be taken for an answer that has ended."""
    async with watched(store, "one") as edge:
        headers = {"content-type": "application/json"}
        response: Response = await request(edge, "POST", OPENAI, headers, HELLO)
        assert response.status == 200
        store.away = True
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await response.events()


@pytest.mark.rule("E5")
async def test_the_opening_says_how_long_a_silence_may_last(store: FaultyStore) -> None:
    async with running_edge(store, silence_s=0.1, heartbeat_s=60) as edge:
        writer = await started(store, edge)
        response = await stream(edge, writer.request_id)
        opening = await response.until_event("state", reason="open")
        assert opening.data["silence_ms"] == 100
        await response.next_comment()
        await response.next_comment()


@pytest.mark.rule("E5")
async def test_a_page_hears_heartbeats_as_events(store: FaultyStore) -> None:
    async with running_edge(store, silence_s=0.1) as edge:
        writer = await started(store, edge)
        headers = {"accept": "text/event-stream"}
        path = f"/v1/streams/{writer.request_id}?after=0&heartbeat="
        response = await request(edge, "GET", path + "event", headers)
        assert (await response.until_event("heartbeat")).data == {}
        refused = await request(edge, "GET", path + "loud", headers)
        assert refused.status == 400
        assert (await refused.json())["error"]["field"] == "heartbeat"


async def _next_text(answer: AsyncIterator[object]) -> str:
    async for event in answer:
        if isinstance(event, Text):
            return event.text
    raise AssertionError("the stream has ended")

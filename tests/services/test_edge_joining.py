"""What happens while an edge begins to follow a request: it looks and subscribes at once, so that
the look may be older than the subscription, or the subscription older than the look (P12)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from lore.protocol.commands import Ack
from lore.store.base import ChunkMessage, Listener, View
from lore.store.memory.state import StoreState
from lore_edge.delivery.feed import Feed
from lore_edge.delivery.reader import FIRST_PAGE_CHUNKS, PAGE_CHUNKS
from lore_edge.wire.errors import UnknownRequest
from lore_edge.wire.subject import ANONYMOUS
from tests.services.edge_harness import (
    WAIT_S,
    FaultyStore,
    Response,
    RunningEdge,
    Writer,
    ask,
    fork,
    running_edge,
    stream,
    text_of,
    until,
)

BOB = "key:bob"


class HeldStore(FaultyStore):
    """A store whose answer to the first look, to the subscription or to the first read of the log
    is long on its way, and those to later looks until ``is_open``."""

    def __init__(self) -> None:
        super().__init__()
        self.holds = ""
        self.held = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.is_open = asyncio.Event()

    async def view(self, request_id: str) -> View | None:
        is_later = self.held.is_set()
        view = await super().view(request_id)
        if request_id:  # else: is the store there?
            await self._on_its_way("view")
            if is_later:
                await self.is_open.wait()
        return view

    async def follow(self, request_id: str, listener: Listener) -> None:
        await self._on_its_way("follow")
        await super().follow(request_id, listener)

    async def read(self, request_id: str, **kwargs: Any) -> list[ChunkMessage]:
        page = await super().read(request_id, **kwargs)
        await self._on_its_way("read")
        return page

    async def _on_its_way(self, name: str) -> None:
        if self.holds == name:
            self.holds = ""
            self.held.set()
            await self.goes_on.wait()


@pytest.fixture
def store() -> HeldStore:
    return HeldStore()


@pytest.fixture
async def edge(store: HeldStore) -> AsyncIterator[RunningEdge]:
    async with running_edge(store) as edge:
        yield edge


async def joining(
    store: HeldStore, edge: RunningEdge, held: str, meanwhile: Callable[[Writer], Any]
) -> tuple[Writer, Response]:
    """A reader that has acknowledged all there was, and what happened before it was let in."""
    writer = Writer(store, await ask(edge))
    await writer.claim()
    await writer.write("a", "b", "c")
    await store.do(Ack(writer.request_id, 3))
    store.holds = held
    arriving = asyncio.create_task(stream(edge, writer.request_id, after=3, log=writer.view.log_id))
    await asyncio.wait_for(store.held.wait(), WAIT_S)
    if held == "view":  # the subscription is there first
        await until(lambda: store.following(writer.request_id))
    writer = await meanwhile(writer) or writer
    store.goes_on.set()
    response = await asyncio.wait_for(arriving, WAIT_S)
    store.is_open.set()
    return writer, response


@pytest.mark.rule("P12.2")
@pytest.mark.parametrize("held", ["view", "follow"])
async def test_a_chunk_that_comes_while_an_edge_joins_goes_out_once(
    store: HeldStore, edge: RunningEdge, held: str
):
    writer, response = await joining(store, edge, held, lambda writer: writer.write("d"))
    assert text_of(await response.chunks(1)) == "d", "with no other news after it"
    await writer.write("e")
    await writer.finish()
    assert [e.data["seq"] for e in await response.events("message")] == [5]


@pytest.mark.rule("P12.2")
@pytest.mark.parametrize("held", ["view", "follow"])
async def test_an_end_that_comes_while_an_edge_joins_is_told(
    store: HeldStore, edge: RunningEdge, held: str
):
    _, response = await joining(store, edge, held, lambda writer: writer.finish())
    assert [e.name for e in await response.events()] == ["state", "end"]


@pytest.mark.rule("P4.5", "P12.2")
@pytest.mark.parametrize("held", ["view", "follow"])
async def test_a_fork_that_comes_while_an_edge_joins_is_told(
    store: HeldStore, edge: RunningEdge, held: str
):
    """P4: the reader is beyond it."""

    async def forked(writer: Writer) -> Writer:
        return await fork(store, writer, 2, "X", "Y")

    _, response = await joining(store, edge, held, forked)
    error = (await response.events("error", "message"))[0]
    assert error.data["error"]["code"] == "history_lost"


async def begun(store: HeldStore, edge: RunningEdge) -> tuple[Writer, asyncio.Task[Response]]:
    """A reader that lacks two of three chunks, and for whom the log is being read."""
    writer = Writer(store, await ask(edge))
    await writer.claim()
    await writer.write("a", "b", "c")
    store.is_open.set()
    store.holds = "read"
    log_id = writer.view.log_id
    arriving = asyncio.create_task(stream(edge, writer.request_id, after=1, log=log_id))
    await asyncio.wait_for(store.held.wait(), WAIT_S)
    return writer, arriving


def feed_of(edge: RunningEdge, writer: Writer) -> Feed:
    feed = edge.edge.feeds.find(writer.request_id, ANONYMOUS)
    assert feed is not None
    return feed


@pytest.fixture
async def reading(store: HeldStore, edge: RunningEdge) -> tuple[Writer, asyncio.Task[Response]]:
    return await begun(store, edge)


@pytest.mark.rule("P12.2")
async def test_a_chunk_that_comes_while_the_first_page_is_read_follows_it(
    store: HeldStore, reading: tuple[Writer, asyncio.Task[Response]]
):
    writer, arriving = reading
    await writer.write("d")
    store.goes_on.set()
    response = await asyncio.wait_for(arriving, WAIT_S)
    assert text_of(await response.chunks(3)) == "bcd", "with no other news after it"
    await writer.finish()
    assert [e.name for e in await response.events()] == ["end"]


@pytest.mark.rule("P4.4")
async def test_a_fork_that_comes_while_the_first_page_is_read_replaces_it(
    store: HeldStore, edge: RunningEdge, reading: tuple[Writer, asyncio.Task[Response]]
):
    writer, arriving = reading
    feed = feed_of(edge, writer)
    writer = await fork(store, writer, 2, "X", "Y")
    await until(lambda: feed.log_id == writer.view.log_id)
    store.goes_on.set()
    response = await asyncio.wait_for(arriving, WAIT_S)
    assert text_of(await response.chunks(3)) == "bXY", "and nothing of the log that was read"


@pytest.mark.rule("E1")
async def test_a_request_that_is_lost_while_the_first_page_is_read_is_told(
    store: HeldStore, edge: RunningEdge, reading: tuple[Writer, asyncio.Task[Response]]
):
    writer, arriving = reading
    feed = feed_of(edge, writer)
    store.forget_since(StoreState().snapshot(), store.state.run_id)  # its retention is over
    await feed.look()
    store.goes_on.set()
    response = await asyncio.wait_for(arriving, WAIT_S)
    assert [e.name for e in await response.events()] == ["state", "error"]


@pytest.mark.rule("E10", "E11")
async def test_a_reader_with_two_reasons_to_leave_during_the_first_read_is_told_one(
    edge: RunningEdge, reading: tuple[Writer, asyncio.Task[Response]]
):
    _, arriving = reading
    await until(lambda: len(edge.edge.streams) == 1)
    for one in edge.edge.streams:
        one.leave()
        one.leave("store_lost")
    response = await asyncio.wait_for(arriving, WAIT_S)
    reasons = [e.data["reason"] for e in await response.events("state")]
    assert reasons == ["open", "store_lost"]


@pytest.mark.rule("E5")
async def test_a_reader_hears_something_while_the_first_page_is_long_on_its_way(store: HeldStore):
    async with running_edge(store, heartbeat_s=0.05) as edge:
        writer, arriving = await begun(store, edge)
        response = await asyncio.wait_for(arriving, WAIT_S)
        await response.until_event("state", reason="open")
        await response.next_comment()
        await response.next_comment()
        store.goes_on.set()
        assert text_of(await response.chunks(2)) == "bc"
        await writer.finish()
        assert [e.name for e in await response.events()] == ["end"]


@pytest.mark.rule("A12")
async def test_a_stranger_at_the_door_does_not_keep_the_owner_out(
    store: HeldStore, edge: RunningEdge
):
    """PROTOCOL.md, Authentication: their ways part where the request is looked up."""
    request_id = await ask(edge)
    feeds = edge.edge.feeds
    store.holds = "view"
    strange = asyncio.create_task(_opened(edge, request_id, BOB))
    await asyncio.wait_for(store.held.wait(), WAIT_S)
    store.is_open.set()
    assert await asyncio.wait_for(_opened(edge, request_id, ANONYMOUS), WAIT_S)
    assert feeds.find(request_id, ANONYMOUS) is not None
    store.goes_on.set()
    assert not await strange
    assert feeds.find(request_id, BOB) is None


async def _opened(edge: RunningEdge, request_id: str, subject: str) -> bool:
    try:
        async with edge.edge.feeds.use(request_id, subject):
            return True
    except UnknownRequest:
        return False


async def test_the_first_page_of_a_history_is_short(
    store: HeldStore, edge: RunningEdge, monkeypatch: pytest.MonkeyPatch
):
    """So that the first chunks are on their way while the others are read."""
    limits: list[int] = []
    read = store.read

    async def noted(*args: Any, limit: int, **kwargs: Any) -> Any:
        limits.append(limit)
        return await read(*args, limit=limit, **kwargs)

    writer = Writer(store, await ask(edge))
    await writer.claim()
    await writer.write(*("a" * 400))
    await writer.finish()
    monkeypatch.setattr(store, "read", noted)
    response = await stream(edge, writer.request_id)
    assert text_of(await response.events()) == writer.text
    assert limits == [FIRST_PAGE_CHUNKS, PAGE_CHUNKS, PAGE_CHUNKS]

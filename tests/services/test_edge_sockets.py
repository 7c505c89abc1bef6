"""Real sockets: slow readers, dead ones, and what TCP acknowledged (protocol P8)."""

import asyncio
import fcntl
import struct
import termios
from typing import Any

import pytest

from lore.protocol.commands import Ack
from lore.protocol.lifecycle import Status
from lore.protocol.rtt import RttConfig
from lore.protocol.sender import SenderConfig
from lore.store.base import Outcome, Position, View
from lore_edge.wire import sockets
from lore_edge.wire.sockets import StreamSocket
from tests.services.detours import detour
from tests.services.edge_harness import (
    WAIT_S,
    FaultyStore,
    Response,
    RunningEdge,
    Writer,
    ask,
    running_edge,
    stream,
    text_of,
    until,
)

SMALL_BUFFER = 4096
TEXT = "x" * 1000


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


async def view_of(store: FaultyStore, request_id: str) -> View:
    view = await store.view(request_id)
    assert view is not None
    return view


async def acked(store: FaultyStore, request_id: str, seq: int) -> None:
    """Wait until the store knows of an ack up to ``seq``."""

    def is_acked() -> bool:
        view = store.state.view(request_id, now_ms=0)
        return view is not None and view.acked_seq == seq

    await until(is_acked)


async def blocked(edge: RunningEdge) -> None:
    """Wait until the one stream here cannot write on."""
    (open_stream,) = edge.edge.streams
    await until(lambda: open_stream.socket.is_blocked)


@pytest.mark.rule("P8.2")
async def test_the_edge_acknowledges_what_the_peers_tcp_has(store: FaultyStore):
    async with running_edge(store) as edge:
        writer = Writer(store, await ask(edge, ack="socket"))
        await writer.claim()
        response = await stream(edge, writer.request_id)
        await writer.write("a", "b", "c")
        await response.chunks(3)
        await acked(store, writer.request_id, 3)
        await writer.write("d")
        await writer.finish()
        await response.events()
        assert (await view_of(store, writer.request_id)).acked_seq == 4, "the end is settled"


@pytest.mark.rule("P8.2")
@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(Position(Outcome.AHEAD, Status.GENERATING, 2), id="the tail forgotten"),
        pytest.param(Position(Outcome.UNKNOWN, None), id="all forgotten"),
    ],
)
async def test_an_ack_that_the_log_is_not_ready_for_is_repeated(
    store: FaultyStore, refusal: Position
):
    """P3, P8: the store forgot, and its generator has not sent or given it back yet. An ack that
    found no request once counted as taken: the window stayed closed for a reader who had all."""
    refusals = [refusal] * 2

    async def ack(command: Ack, do: Any) -> Position:
        return refusals.pop() if refusals else await do(command)

    detour(store, Ack, ack)
    async with running_edge(store) as edge:
        writer = Writer(store, await ask(edge, ack="socket"))
        await writer.claim()
        await stream(edge, writer.request_id)
        await writer.write("a", "b", "c")
        await acked(store, writer.request_id, 3)
        assert not refusals


def received_bytes(response: Response) -> int:
    """What the peer's TCP has acknowledged to this edge: read by this side, or not yet."""
    sock = response.writer.get_extra_info("socket")
    (waiting,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)))
    return waiting + len(response.reader._buffer)  # pyright: ignore[reportAttributeAccessIssue]


async def acked_beyond_what_was_received(store: FaultyStore, patch: pytest.MonkeyPatch) -> bool:
    """What comes of a peer that reads nothing, while the kernel here takes all for it."""
    polls = 0
    arrived = StreamSocket.arrived

    def counted(self: StreamSocket) -> int:
        nonlocal polls
        polls += 1
        return arrived(self)

    patch.setattr(StreamSocket, "arrived", counted)
    async with running_edge(store) as edge:
        writer = Writer(store, await ask(edge, ack="socket"))
        await writer.claim()
        response = await stream(edge, writer.request_id, receive_buffer=SMALL_BUFFER)
        await writer.write(*[TEXT] * 400)
        await blocked(edge)
        before = polls
        await until(lambda: polls > before + 2)
        acked_seq = (await view_of(store, writer.request_id)).acked_seq
        return acked_seq * len(TEXT) > received_bytes(response) > 0


@pytest.mark.rule("P8.2")
async def test_what_lies_in_the_kernels_send_queue_is_not_acknowledged(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch
):
    assert not await acked_beyond_what_was_received(store, monkeypatch)


async def test_an_edge_that_takes_the_send_queue_for_acknowledged_is_found(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch
):
    """P8: the test above can fail."""
    monkeypatch.setattr(sockets, "_unacknowledged", lambda fd: 0)
    assert await acked_beyond_what_was_received(store, monkeypatch)


@pytest.mark.rule("P8.2")
async def test_a_socket_that_stops_reading_stops_the_acks(store: FaultyStore):
    """P7, P8: what the kernel took for a peer that does not read is not acknowledged."""
    async with running_edge(store) as edge:
        writer = Writer(store, await ask(edge, ack="socket"))
        await writer.claim()
        response = await stream(edge, writer.request_id, receive_buffer=SMALL_BUFFER)
        await writer.write(*[TEXT] * 400)
        await blocked(edge)
        (open_stream,) = edge.edge.streams
        arrived = open_stream.socket.arrived()
        assert arrived < open_stream.reader.position < 400
        assert (await view_of(store, writer.request_id)).acked_seq <= arrived
        assert text_of(await response.chunks(400)) == TEXT * 400
        await acked(store, writer.request_id, 400)


async def test_a_slow_reader_costs_bounded_memory_and_loses_nothing(store: FaultyStore):
    """A reader that stops for 2 MB of text: they wait in the log, not here."""
    async with running_edge(store, ring_chunks=16, ring_bytes=32_768) as edge:
        writer = Writer(store, await ask(edge, ack="none"))
        await writer.claim()
        response = await stream(edge, writer.request_id, receive_buffer=SMALL_BUFFER)
        for _ in range(20):
            await writer.write(*[TEXT] * 100)
        await blocked(edge)
        (open_stream,) = edge.edge.streams
        reader = open_stream.reader
        await until(lambda: reader.feed.head == 2000)
        transport = open_stream.socket._transport
        assert transport.get_write_buffer_size() < 2 * 32_768
        assert reader.waiting_bytes() < 300 * 1100, "no more than a page"
        assert reader.position < 1000
        await writer.finish()
        events = await response.events("message", "end")
        assert [e.data["seq"] for e in events[:-1]] == list(range(1, 2001))


async def test_a_slow_reader_holds_no_other_back(store: FaultyStore):
    async with running_edge(store, ring_chunks=16) as edge:
        writer = Writer(store, await ask(edge, ack="none"))
        await writer.claim()
        await stream(edge, writer.request_id, receive_buffer=SMALL_BUFFER)
        quick = await stream(edge, writer.request_id)
        await writer.write(*[TEXT] * 400)
        assert len(await quick.chunks(400)) == 400
        await writer.write("on")
        assert text_of(await quick.chunks(1)) == "on"


async def test_a_reader_that_vanishes_while_it_is_blocked_is_forgotten(store: FaultyStore):
    async with running_edge(store) as edge:
        writer = Writer(store, await ask(edge, ack="socket"))
        await writer.claim()
        response = await stream(edge, writer.request_id, receive_buffer=SMALL_BUFFER)
        await writer.write(*[TEXT] * 400)
        await blocked(edge)
        (open_stream,) = edge.edge.streams
        arrived = open_stream.socket.arrived()
        response.close()
        await until(lambda: len(edge.edge.streams) == 0)
        await until(lambda: store.following(writer.request_id) == 0)
        assert open_stream.socket.arrived() == arrived, "what was thrown away did not arrive"
        assert (await view_of(store, writer.request_id)).acked_seq <= arrived


@pytest.mark.rule("P8.3")
async def test_a_peer_that_takes_nothing_is_given_up(store: FaultyStore):
    """P8: TCP_USER_TIMEOUT."""
    async with running_edge(store, tcp_user_timeout_s=0.5) as edge:
        writer = Writer(store, await ask(edge, ack="socket"))
        await writer.claim()
        response = await stream(edge, writer.request_id, receive_buffer=SMALL_BUFFER)
        await writer.write(*[TEXT] * 400)
        await until(lambda: len(edge.edge.streams) == 0)
        assert isinstance(response, Response)


@pytest.mark.rule("P11.5")
async def test_bytes_that_wait_in_the_socket_are_not_sent_again(store: FaultyStore):
    """P11. Much longer than the peer's TCP (40 ms) and this reader take to acknowledge what came:
    a chunk that has arrived and is not acknowledged in time is sent again, and rightly."""
    config = SenderConfig(rtt=RttConfig(initial_rto_s=0.3, min_rto_s=0.3, max_rto_s=0.3))
    async with running_edge(store, config) as edge:
        writer = Writer(store, await ask(edge))
        await writer.claim()
        response = await stream(edge, writer.request_id, receive_buffer=SMALL_BUFFER)
        await writer.write(*[TEXT] * 30)
        (open_stream,) = edge.edge.streams
        sender = open_stream.reader.sender
        assert sender is not None
        views = store.views
        async with asyncio.timeout(WAIT_S):
            while store.views <= views + 2:  # it looks, and finds bytes on their way
                await store.do(Ack(writer.request_id, open_stream.socket.arrived()))
                await asyncio.sleep(0.01)
        assert sender.retransmits == 0
        assert len(edge.edge.streams) == 1
        response.close()


async def test_a_reader_that_takes_no_farewell_does_not_keep_the_edge_from_stopping(
    store: FaultyStore,
):
    async with running_edge(store, grace_s=100 * WAIT_S) as edge:
        writer = Writer(store, await ask(edge, ack="none"))
        await writer.claim()
        await stream(edge, writer.request_id, receive_buffer=SMALL_BUFFER)
        await writer.write(*[TEXT] * 400)
        await blocked(edge)
        edge.server.should_exit = True
        await asyncio.wait_for(asyncio.shield(edge.serving), WAIT_S)

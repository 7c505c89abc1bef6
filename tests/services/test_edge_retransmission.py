"""Sending again what a reader did not acknowledge (protocol P11)."""

import pytest

from lore.protocol.commands import Ack
from lore.protocol.rtt import RttConfig
from lore.protocol.sender import SenderConfig
from lore.store.base import AckMessage
from tests.services.edge_harness import (
    FaultyStore,
    Writer,
    acknowledge,
    ask,
    running_edge,
    stream,
    until,
)

QUICK = SenderConfig(
    rtt=RttConfig(initial_rto_s=0.03, min_rto_s=0.03, max_rto_s=0.1), max_retransmits=3
)
ENDLESS = SenderConfig(rtt=QUICK.rtt, max_retransmits=1_000_000)


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest.mark.rule("P8.1", "P11.2", "P11.6")
async def test_the_oldest_unacknowledged_chunk_comes_again_and_after_the_cap_the_end(
    store: FaultyStore,
):
    """P11: a reader that does not acknowledge; it is to come back, so its stream has no end
    event, and nobody else's text is touched."""
    async with running_edge(store, QUICK) as edge:
        writer = Writer(store, await ask(edge))
        await writer.claim()
        response = await stream(edge, writer.request_id)
        await writer.write("a", "b")
        events = await response.events("message", "end")
        assert [e.data["seq"] for e in events] == [1, 2, 1, 1, 1]
        assert {e.data["text"] for e in events if e.data["seq"] == 1} == {"a"}
        again = await stream(edge, writer.request_id, last_event_id="2")
        assert again.status == 200


@pytest.mark.rule("P11.4")
async def test_a_late_ack_moves_the_retransmission_on_to_the_next_chunk(store: FaultyStore):
    async with running_edge(store, ENDLESS) as edge:
        writer = Writer(store, await ask(edge))
        await writer.claim()
        response = await stream(edge, writer.request_id)
        await writer.write("a", "b")
        assert [e.data["seq"] for e in await response.chunks(3)] == [1, 2, 1]
        assert (await acknowledge(edge, writer.request_id, 1)).status_code == 204
        while (await response.chunks(1))[0].data["seq"] == 1:
            pass  # sent before the ack came
        assert (await response.chunks(1))[0].data["seq"] == 2


@pytest.mark.rule("P9.1")
async def test_an_acknowledged_reader_is_sent_nothing_twice(store: FaultyStore):
    """P11: the ack comes at another edge than the stream."""
    async with (
        running_edge(store, ENDLESS, heartbeat_s=0.3) as edge,
        running_edge(store, edge_id="edge-2") as other,
    ):
        writer = Writer(store, await ask(edge))
        await writer.claim()
        response = await stream(edge, writer.request_id)
        await writer.write("a", "b")
        await response.chunks(2)
        assert (await acknowledge(other, writer.request_id, 2)).status_code == 204
        await response.next_comment()  # comes of a silence three times the longest timeout
        await writer.finish()
        assert [e.name for e in await response.events()] == ["end"]


async def test_an_ack_whose_news_was_lost_is_found_before_anything_is_sent_again(
    store: FaultyStore,
):
    """Acks are published once: without a look at the view this reader would be cut off."""
    store.loses = lambda message: isinstance(message, AckMessage)
    async with running_edge(store, QUICK, heartbeat_s=0.3) as edge:
        writer = Writer(store, await ask(edge))
        await writer.claim()
        response = await stream(edge, writer.request_id)
        await writer.write("a", "b")
        await store.do(Ack(writer.request_id, 2))
        assert [e.data["seq"] for e in await response.chunks(2)] == [1, 2]
        await response.next_comment()
        await writer.finish()
        assert [e.name for e in await response.events()] == ["end"]


async def test_without_a_store_nothing_is_sent_again_and_nobody_is_cut_off(store: FaultyStore):
    """No ack can get through then: its absence says nothing."""
    async with running_edge(store, QUICK, heartbeat_s=0.5) as edge:
        writer = Writer(store, await ask(edge))
        await writer.claim()
        response = await stream(edge, writer.request_id)
        await writer.write("a")
        store.away = True
        await response.chunks(1)
        await response.next_comment()
        store.away = False
        await store.do(Ack(writer.request_id, 1))
        await writer.finish()
        assert [e.name for e in await response.events()] == ["end"]


@pytest.mark.rule("P11.2")
async def test_a_chunk_that_left_the_ring_is_sent_again_from_the_log(store: FaultyStore):
    async with running_edge(store, QUICK, ring_chunks=1) as edge:
        writer = Writer(store, await ask(edge))
        await writer.claim()
        response = await stream(edge, writer.request_id)
        await writer.write("a", "b", "c")
        assert [e.data["seq"] for e in await response.chunks(4)] == [1, 2, 3, 1]


@pytest.mark.rule("P11.1")
async def test_the_round_trip_of_an_ack_is_measured(store: FaultyStore):
    """P11: an ack that comes at the stream's own edge needs no news from the store."""
    store.loses = lambda message: isinstance(message, AckMessage)
    async with running_edge(store) as edge:
        writer = Writer(store, await ask(edge))
        await writer.claim()
        response = await stream(edge, writer.request_id)
        await writer.write("a")
        await response.chunks(1)
        (sender,) = [s.reader.sender for s in edge.edge.streams]
        assert sender is not None
        await acknowledge(edge, writer.request_id, 1)
        await until(lambda: sender.round_trip.srtt_s is not None)


@pytest.mark.parametrize("ack", ["socket", "none"])
async def test_readers_that_do_not_acknowledge_by_themselves_get_nothing_twice(
    store: FaultyStore, ack: str
):
    """P8."""
    async with running_edge(store, QUICK, heartbeat_s=0.3) as edge:
        writer = Writer(store, await ask(edge, ack=ack))
        await writer.claim()
        response = await stream(edge, writer.request_id)
        await writer.write("a", "b")
        assert len(await response.chunks(2)) == 2
        await response.next_comment()
        await writer.finish()
        assert [e.name for e in await response.events()] == ["end"]

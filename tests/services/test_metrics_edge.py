"""What an edge's metrics say when their cause is there: of chunks, acks and ends of answers."""

import asyncio
import re
from functools import partial
from typing import Any

import pytest

from lore.metrics import SERVICES, exported_by, rows
from lore.protocol.commands import Ack, Cancel
from lore.protocol.lifecycle import Status
from lore.protocol.rtt import RttConfig
from lore.protocol.sender import SenderConfig
from lore.store.base import ChunkMessage
from lore.store.memory.state import StoreState
from lore_edge.delivery import streams
from lore_edge.delivery.stream import Stream
from tests.services.detours import detour
from tests.services.edge_harness import (
    WAIT_S,
    FaultyStore,
    RunningEdge,
    Writer,
    acknowledge,
    ask,
    fork,
    request,
    running_edge,
    stream,
    until,
)
from tests.services.generator_harness import Generator
from tests.services.meters import grows, meter, shows

QUICK = SenderConfig(
    rtt=RttConfig(initial_rto_s=0.03, min_rto_s=0.03, max_rto_s=0.1), max_retransmits=3
)
HELLO = {"role": "user", "content": "Hello"}
ENDLESS = SenderConfig(rtt=QUICK.rtt, max_retransmits=1_000_000)


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


async def generating(store: FaultyStore, edge: RunningEdge, *texts: str, **body: Any) -> Writer:
    writer = Writer(store, await ask(edge, **body))
    await writer.claim()
    await writer.write(*texts)
    return writer


def measured(edge: RunningEdge, name: str, **labels: str) -> float:
    edge.edge.streams.measure()
    return meter(name, **labels)


# an edge that is slow, and a reader that is


@shows("lore_edge_buffer_utilization_ratio")
@shows("lore_edge_delivery_lag_seconds")
async def test_a_slow_edge_fills_its_buffer_and_lags_behind(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch
):
    """Its streams do not get their turn."""
    step, turn = Stream._step, asyncio.Event()

    async def late(self: Stream, send: Any) -> bool:
        await turn.wait()
        return await step(self, send)

    monkeypatch.setattr(Stream, "_step", late)
    async with running_edge(store, ring_bytes=2048) as edge:
        writer = await generating(store, edge)
        response = await stream(edge, writer.request_id)
        await writer.write("a" * 600)
        assert 0.2 < measured(edge, "lore_edge_buffer_utilization_ratio") < 0.5
        await until(lambda: measured(edge, "lore_edge_delivery_lag_seconds") > 0.02)
        turn.set()
        await response.chunks(1)
        assert measured(edge, "lore_edge_buffer_utilization_ratio") == 0
        assert measured(edge, "lore_edge_delivery_lag_seconds") == 0


@shows("lore_edge_blocked_connections")
@grows("lore_slow_readers_total", by=1)
async def test_a_slow_reader_is_blocked_and_fills_no_buffer(store: FaultyStore):
    """More edges would not help it, and the metric that adds them stays where it is."""
    async with running_edge(store, ring_chunks=2, socket_buffer_bytes=4096) as edge:
        writer = await generating(store, edge)
        response = await stream(edge, writer.request_id, receive_buffer=4096)
        await response.event()
        for _ in range(60):
            await writer.write("a" * 50_000)
        await until(lambda: measured(edge, "lore_edge_blocked_connections") == 1)
        assert measured(edge, "lore_edge_buffer_utilization_ratio") == 0
        assert measured(edge, "lore_edge_delivery_lag_seconds") == 0
        assert len(await response.chunks(60)) == 60
        await until(lambda: measured(edge, "lore_edge_blocked_connections") == 0)


@shows("lore_edge_connections")
@shows("lore_edge_feeds")
@grows("lore_edge_streams_ended_total", "disconnect", by=2)
async def test_readers_are_counted_while_they_are_there(store: FaultyStore):
    async with running_edge(store, linger_s=0.01) as edge:
        kept = await ask(edge, ack="none")
        for response in (await stream(edge, kept), await stream(edge, kept)):
            await response.event()
        assert meter("lore_edge_connections", ack="none") == 2
        assert meter("lore_edge_connections", ack="client") == 0
        assert measured(edge, "lore_edge_feeds") == 1
        for response in edge.responses:
            response.close()
        await until(lambda: meter("lore_edge_connections", ack="none") == 0)
        await until(lambda: measured(edge, "lore_edge_feeds") == 0)


# chunks on their way


@grows("lore_chunks_sent_total", by=6)
@grows("lore_tokens_delivered_total", by=6)
@grows("lore_chunk_transmission_seconds", by=1)
async def test_what_is_written_to_readers_is_counted_for_each_and_only_news_is_timed(
    store: FaultyStore,
):
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a", "b")
        reader = await stream(edge, writer.request_id)
        await reader.chunks(2)
        await asyncio.sleep(0.002)  # so that the next chunk is later by the store's clock
        await writer.write("c")
        await reader.chunks(1)
        late = await stream(edge, writer.request_id)
        await late.chunks(3)


@grows("lore_tokens_delivered_total", by=3)
async def test_tokens_of_a_resumed_stream_are_counted_from_where_it_goes_on(store: FaultyStore):
    async with running_edge(store) as edge, running_edge(store) as other:
        writer = await generating(store, edge, "a", "b")
        first = await stream(edge, writer.request_id)
        await first.chunks(2)
        first.close()
        await until(lambda: len(edge.edge.streams) == 0)
        again = await stream(other, writer.request_id, after=2)
        await writer.write("c")
        await again.chunks(1)


@grows("lore_chunk_transmission_seconds", at_least=0.05)
async def test_a_chunk_that_waits_in_a_slow_edge_is_transmitted_late(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch
):
    hear = Stream._on_chunk
    loop = asyncio.get_running_loop()
    late = partial(loop.call_later, 0.06, hear)
    monkeypatch.setattr(Stream, "_on_chunk", lambda self, piece, now: late(self, piece, now))
    async with running_edge(store) as edge:
        writer = await generating(store, edge)
        response = await stream(edge, writer.request_id)
        await response.event()
        await asyncio.sleep(0.002)
        await writer.write("a", "b")
        await response.chunks(2)


@grows("lore_retransmissions_total", "timeout")
@grows("lore_edge_streams_ended_total", "unresponsive", by=1)
async def test_a_reader_that_gives_no_sign_is_sent_to_again_and_then_no_more(store: FaultyStore):
    """P11"""
    async with running_edge(store, QUICK) as edge:
        writer = await generating(store, edge, "a")
        await (await stream(edge, writer.request_id)).events()


@grows("lore_retransmissions_total", "partial_ack")
async def test_an_ack_that_shows_a_loss_is_answered_with_what_was_lost(store: FaultyStore):
    """P11, RFC 6582."""
    async with running_edge(store, ENDLESS) as edge:
        writer = await generating(store, edge, "a", "b")
        response = await stream(edge, writer.request_id)
        assert [e.data["seq"] for e in await response.chunks(3)] == [1, 2, 1]
        await acknowledge(edge, writer.request_id, 1)
        while (await response.chunks(1))[0].data["seq"] != 2:
            pass  # sent before the ack came


@grows("lore_gap_fills_total", by=1)
async def test_lost_news_is_read_from_the_log(store: FaultyStore):
    """P10"""
    async with running_edge(store) as edge:
        writer = await generating(store, edge)
        response = await stream(edge, writer.request_id)
        store.loses = lambda message: isinstance(message, ChunkMessage) and message.seq == 1
        await writer.write("a")
        await writer.write("b")
        await response.chunks(2)


# acks


@grows("lore_acks_total", "ok", by=1)
@grows("lore_ack_round_trip_seconds", by=1, at_least=0.03)
@grows("lore_ack_processing_seconds", by=1, at_least=0.02)
async def test_an_ack_is_timed_from_the_write_and_from_its_arrival(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch
):
    """By a reader that takes a while, and a store that does."""

    async def slow_ack(command: Ack, do: Any) -> Any:
        await asyncio.sleep(0.025)
        return await do(command)

    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a")
        await (await stream(edge, writer.request_id)).chunks(1)
        await asyncio.sleep(0.01)
        detour(store, Ack, slow_ack)
        await acknowledge(edge, writer.request_id, 1)


@grows("lore_acks_total", "ahead", by=1)
@grows("lore_acks_total", "unknown", by=1)
async def test_acks_that_change_nothing_are_counted_apart(store: FaultyStore):
    """P9"""
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a")
        await acknowledge(edge, writer.request_id, 2)
        await acknowledge(edge, "A" * 22, 1)


# readers that come back


@grows("lore_resumes_total", "last_event_id", by=1)
@grows("lore_resumes_total", "after", by=1)
@grows("lore_resumes_total", "starting_after", by=1)
async def test_a_reader_that_comes_back_is_counted_by_how_it_says_so(store: FaultyStore):
    """P12"""
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a")
        await (await stream(edge, writer.request_id, last_event_id="1")).event()
        await (await stream(edge, writer.request_id, after=1)).event()
        await (await stream(edge, writer.request_id)).event()
        async with edge.client() as client:
            body = {"model": "default", "input": "a", "background": True}
            asked = (await client.post("/v1/responses", json=body)).json()
        writer = Writer(store, asked["id"].removeprefix("resp_"))
        await writer.claim()
        await writer.write("a")
        path = f"/v1/responses/{asked['id']}?stream=true&starting_after=4"
        assert (await request(edge, "GET", path)).status == 200


# ends of streams, and of answers


@grows("lore_edge_streams_ended_total", "end", by=3)
@grows("lore_answers_total", "done", by=1)
@grows("lore_answers_total", "failed", by=1)
@grows("lore_answers_total", "cancelled", by=1)
async def test_an_end_that_is_told_counts_by_what_it_says(store: FaultyStore):
    async with running_edge(store) as edge:
        for status in (Status.DONE, Status.FAILED, Status.CANCELLED):
            writer = await generating(store, edge, "a")
            response = await stream(edge, writer.request_id)
            if status is Status.CANCELLED:
                await store.do(Cancel(writer.request_id, retention_ms=60_000))
            else:
                await writer.finish(status)
            assert (await response.events("end"))[0].data["status"] == status


@grows("lore_answers_total", "done", by=1)
async def test_an_answer_that_is_given_whole_counts_as_well(store: FaultyStore):
    async with running_edge(store) as edge, edge.client() as client:
        body = {"model": "default", "messages": [HELLO]}
        asked = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        await until(lambda: store.state.queue_depth(now_ms=0) == 1)
        (request_id,) = store.state._records
        writer = Writer(store, request_id)
        await writer.claim()
        await writer.write("a")
        await writer.finish()
        assert (await asked).status_code == 200


@grows("lore_edge_streams_ended_total", "error", by=2)
@grows("lore_answers_total", "gone", by=1)
@grows("lore_answers_total", "history_lost", by=2)
async def test_an_answer_that_was_lost_on_the_way_is_told_as_such(store: FaultyStore):
    """P4: to one who is there, and to one who comes back."""
    async with running_edge(store, heartbeat_s=0.02) as edge:
        writer = await generating(store, edge, "a", "b", "c")
        response = await stream(edge, writer.request_id)
        await response.chunks(3)
        await fork(store, writer, 1, "X")
        assert len(await response.events("error")) == 1
        assert (await stream(edge, writer.request_id, last_event_id="3")).status == 410
        request_id = await ask(edge)
        response = await stream(edge, request_id)
        store.forget_since(StoreState().snapshot(), store.state.run_id)
        assert len(await response.events("error")) == 1


@grows("lore_edge_streams_ended_total", "sent_away", by=1)
@grows("lore_answers_total", "cut", by=1)
async def test_an_edge_that_stops_sends_readers_away_and_cuts_those_who_cannot_come_back(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(streams, "BLOCKED_S", 0.0)
    async with running_edge(store, grace_s=0.1) as edge:
        native = await stream(edge, await ask(edge))
        body = (
            b'{"model": "default", "stream": true, "messages": [{"role": "user", "content": "a"}]}'
        )
        headers = {"content-type": "application/json"}
        await request(edge, "POST", "/v1/chat/completions", headers, body)
        await until(lambda: len(edge.edge.streams) == 2)
        await edge.edge.streams.drain(0.0)
        async with asyncio.timeout(WAIT_S):
            await native.events()
        await until(lambda: len(edge.edge.streams) == 0)


async def test_traffic_makes_no_series_that_was_not_there(store: FaultyStore):
    """No label holds an id, or anything else of a request, a reader or a generator."""

    def series() -> set[str]:
        samples = (
            sample
            for service in SERVICES
            for family in exported_by(service).collect()
            for sample in family.samples
        )
        return {f"{sample.name} {sorted(sample.labels.items())}" for sample in samples}

    before = series()
    async with running_edge(store) as edge, Generator(store, "a-generator"):
        for ack in ("client", "socket", "none"):
            response = await stream(edge, await ask(edge, ack=ack, max_tokens=20))
            assert (await response.events("end"))[0].data["status"] == "done"
        await acknowledge(edge, "A" * 22, 1)
    assert series() == before
    declared = {value for _, row in rows() for value in row.cells}
    limit = re.compile(r"[0-9.e+-]+|\+Inf|")
    for _, row in rows():
        for sample in row.collect().samples:
            for name, value in sample.labels.items():
                assert limit.fullmatch(value) if name == "le" else value in declared

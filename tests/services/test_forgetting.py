"""A request that is deleted while it is worked on, kept, or read (P3, P14)."""

import asyncio

import pytest

from lore.protocol.commands import Forget
from lore.store import MemoryStore
from lore.store.base import Outcome
from lore_generator.engines.options import SyntheticOptions
from tests.services.edge_harness import FaultyStore, Writer, running_edge, stream
from tests.services.edge_harness import ask as ask_edge
from tests.services.generator_harness import (
    WAIT_S,
    CountingEngine,
    Generator,
    ask,
    reader_of,
)

SLOW = SyntheticOptions(rate_tokens_per_s=20)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.mark.parametrize("deaf", [False, True])
async def test_its_generator_stops_also_when_the_news_is_lost(store: MemoryStore, deaf: bool):
    engine = CountingEngine(SLOW)
    async with Generator(store, "g1", engine) as generator:
        generator.line.deaf = deaf
        reader = await reader_of(store, "a", ask(ack="none"))
        await reader.until(lambda view: view.next_seq > 2)
        assert (await store.do(Forget("a"))).outcome is Outcome.OK
        await asyncio.wait_for(engine.cancelled.wait(), WAIT_S)
        assert generator.line.calls["reinstate"] == 0
        assert await store.view("a") is None


@pytest.mark.rule("P3.5")
async def test_it_is_not_given_back_to_a_store_that_was_restarted_since(store: MemoryStore):
    """The owner cannot tell it from one that was lost: the store remembers that it was deleted."""
    engine = CountingEngine(SLOW)
    async with Generator(store, "g1", engine, return_grace_s=1.0) as generator:
        done = await reader_of(store, "done", ask(max_tokens=2, ack="none"))
        await done.until(lambda view: view.finished_ms > 0)
        live = await reader_of(store, "live", ask(ack="none"))
        await live.until(lambda view: view.next_seq > 2)
        generator.line.deaf = True
        generator.line.cut()
        for request_id in ("done", "live"):
            assert (await store.do(Forget(request_id))).outcome is Outcome.OK
        store.state.restore(store.state.snapshot(), "run-2")
        generator.line.mend()
        await generator.line.until_called("reinstate", 2)
        await asyncio.wait_for(engine.cancelled.wait(), WAIT_S)
    assert await store.view("done") is None
    assert await store.view("live") is None


async def test_its_readers_are_told_that_it_is_gone_and_not_that_it_was_lost():
    store = FaultyStore()
    async with running_edge(store) as edge:
        writer = Writer(store, await ask_edge(edge))
        await writer.claim()
        response = await stream(edge, writer.request_id)
        await writer.write("a")
        await response.chunks(1)
        await store.do(Forget(writer.request_id))
        told = await response.until_event("error")
        assert told.data["error"]["code"] == "not_found"
        async with edge.client() as client:
            again = await client.get(f"/v1/streams/{writer.request_id}?after=1")
        assert again.status_code == 404

"""P7: a prompt whose readers have all left is not read further until one is back."""

import asyncio
from typing import Any

import pytest

from lore.protocol.commands import Readers
from lore.protocol.lifecycle import Status
from lore.store import MemoryStore
from lore_generator.engine import Piece
from tests.services.edge_harness import (
    FaultyStore,
    Writer,
    ask,
    running_edge,
    stream,
    until,
)
from tests.services.generator_harness import (
    Generator,
    PuppetEngine,
    Reader,
    open_request,
    reader_of,
)
from tests.services.generator_harness import ask as request

LINGER_S = 0.02


def status_of(store: MemoryStore, request_id: str) -> Status:
    return store.state._records[request_id].view.status


# the edge


@pytest.mark.rule("P7.2")
@pytest.mark.parametrize(
    ("asked", "waits"),
    [({}, True), ({"ack": "socket"}, True), ({"ack": "none"}, False)],
    ids=str,
)
async def test_the_last_reader_that_leaves_before_the_text_pauses_it(
    asked: dict[str, Any], waits: bool
) -> None:
    store = FaultyStore()
    async with running_edge(store, linger_s=LINGER_S) as edge:
        request_id = await ask(edge, **asked)
        writer = Writer(store, request_id)
        await writer.claim()
        first, second = await stream(edge, request_id), await stream(edge, request_id)
        first.close()
        await until(lambda: len(edge.edge.streams) == 1)
        await asyncio.sleep(2 * LINGER_S)
        assert status_of(store, request_id) is Status.GENERATING
        second.close()
        await until(lambda: not store.following(request_id))
        assert status_of(store, request_id) is (Status.PAUSED if waits else Status.GENERATING)
        again = await stream(edge, request_id)
        await until(lambda: status_of(store, request_id) is Status.GENERATING)
        again.close()


async def test_readers_of_an_answer_that_has_begun_are_the_windows_business() -> None:
    store = FaultyStore()
    async with running_edge(store, linger_s=LINGER_S) as edge:
        request_id = await ask(edge)
        writer = Writer(store, request_id)
        await writer.claim()
        reader = await stream(edge, request_id)
        await writer.write("text")
        reader.close()
        await until(lambda: not store.following(request_id))
        assert status_of(store, request_id) is Status.GENERATING


@pytest.mark.rule("P7.5")
async def test_a_reader_elsewhere_has_the_last_word() -> None:
    """Whichever edge speaks last, and whatever news is lost."""
    store = FaultyStore()
    quick: dict[str, Any] = {"linger_s": LINGER_S, "heartbeat_s": 0.1}
    async with running_edge(store, **quick) as one, running_edge(store, **quick) as other:
        request_id = await ask(one)
        await Writer(store, request_id).claim()
        leaving, staying = await stream(one, request_id), await stream(other, request_id)
        leaving.close()
        await until(lambda: store.following(request_id) == 1)
        await until(lambda: status_of(store, request_id) is Status.GENERATING)
        store.loses = lambda _: True
        await store.do(Readers(request_id, "left"))
        await until(lambda: status_of(store, request_id) is Status.GENERATING)
        staying.close()


async def test_an_edge_whose_store_is_away_leaves_the_prompt_to_be_read() -> None:
    store = FaultyStore()
    async with running_edge(store, linger_s=LINGER_S) as edge:
        request_id = await ask(edge)
        await Writer(store, request_id).claim()
        reader = await stream(edge, request_id)
        store.away = True
        reader.close()
        await until(lambda: not len(edge.edge.streams))
        await asyncio.sleep(2 * LINGER_S)
        store.away = False
        assert status_of(store, request_id) is Status.GENERATING


# the generator


@pytest.mark.rule("P7.3")
@pytest.mark.parametrize("deaf", [False, True], ids=["by news", "by its renewal"])
async def test_an_engine_is_told_to_hold_a_prompt_and_to_go_on_with_it(deaf: bool) -> None:
    store, engine = MemoryStore(), PuppetEngine()
    async with Generator(store, engine=engine, lease_s=0.4) as generator:
        generator.line.deaf = deaf
        reader = await reader_of(store, "a", request())
        await engine.until_jobs(1)
        await store.do(Readers("a", "left"))
        await until(lambda: engine.told == [("a", 0)])
        await store.do(Readers("a", "back"))
        await until(lambda: engine.told == [("a", 0), ("a", 32)])
        job = engine.jobs[0].request_id
        engine.say([Piece(job, (1,), "text", "stop")])
        assert (await reader.until_status(Status.DONE)).generated_tokens == 1


@pytest.mark.rule("P7.3")
async def test_what_is_claimed_unread_is_not_submitted() -> None:
    store, engine = MemoryStore(), PuppetEngine()
    await open_request(store, "a", request())
    await store.do(Readers("a", "left"))
    async with Generator(store, engine=engine):
        reader = await Reader(store, "a").follow()
        await reader.until_status(Status.PAUSED)
        await open_request(store, "b", request())
        await engine.until_jobs(1)
        assert [job.request_id.partition(".")[0] for job in engine.jobs] == ["b"]
        await store.do(Readers("a", "back"))
        await engine.until_jobs(2)


@pytest.mark.rule("P7.8")
async def test_a_token_that_was_under_way_ends_the_waiting() -> None:
    store, engine = MemoryStore(), PuppetEngine()
    async with Generator(store, engine=engine):
        await open_request(store, "a", request())
        await engine.until_jobs(1)
        await store.do(Readers("a", "left"))
        await until(lambda: engine.told == [("a", 0)])
        engine.say([Piece(engine.jobs[0].request_id, (1,), "text")])
        await until(lambda: engine.told == [("a", 0), ("a", 32)])
        assert status_of(store, "a") is Status.GENERATING

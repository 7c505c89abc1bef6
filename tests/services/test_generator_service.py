"""The generator's service: questions in, exact answers out, window by window."""

import asyncio
import threading
from typing import Any

import pytest

from lore.protocol.commands import Cancel
from lore.protocol.lifecycle import Status
from lore.store import MemoryStore, arrival
from lore.store.base import NewRequest
from lore.store.types import Open
from lore_generator.engine import EngineInfo, Sink
from lore_generator.engines.options import SyntheticOptions
from lore_generator.engines.synthetic import SyntheticEngine
from lore_generator.service import CannotStart, EngineDied
from tests.services.edge_harness import until
from tests.services.generator_harness import (
    FAST,
    WAIT_S,
    Generator,
    ask,
    open_request,
    reader_of,
    text_of,
)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def test_an_answer_is_the_engines_text_with_its_tokens(store: MemoryStore) -> None:
    """P1"""
    async with Generator(store):
        reader = await reader_of(store, "a", ask())
        view = await reader.read_to_end()
        assert view.status is Status.DONE
        assert view.finish_reason == "stop"
        assert view.prompt_tokens == 4
        assert await reader.text() == text_of(ask())
        log = await store.log("a")
        assert view.generated_tokens == sum(len(chunk.token_ids) for chunk in log)


async def test_a_request_that_waited_before_the_generator_came_is_found(store: MemoryStore) -> None:
    """P17"""
    reader = await reader_of(store, "a", ask())
    async with Generator(store):
        assert (await reader.read_to_end()).status is Status.DONE


@pytest.mark.rule("P5.1")
async def test_generation_stops_exactly_at_the_window_and_an_ack_opens_it(
    store: MemoryStore,
) -> None:
    async with Generator(store):
        reader = await reader_of(store, "a", ask(window=8))
        view = await reader.until_status(Status.PAUSED)
        assert view.generated_tokens == 8
        await reader.ack()
        view = await reader.until(lambda v: v.status is Status.PAUSED and v.acked_tokens == 8)
        assert view.generated_tokens == 16
        assert (await reader.read_to_end()).status is Status.DONE
        assert await reader.text() == text_of(ask())


@pytest.mark.rule("P6.1")
async def test_the_window_grows_for_a_reader_that_keeps_up(store: MemoryStore) -> None:
    async with Generator(store):
        reader = await reader_of(store, "a", ask())
        assert (await reader.until_status(Status.PAUSED)).window == 32
        assert (await reader.read_to_end()).window > 32


@pytest.mark.rule("P5.3", "P7.1")
async def test_a_vanished_reader_costs_a_window_and_holds_nobody_up(store: MemoryStore) -> None:
    """P7: with a single slot, the parked request's place goes to the next one."""
    options = SyntheticOptions(rate_tokens_per_s=FAST.rate_tokens_per_s, slots=1)
    async with Generator(store, engine=options):
        gone = await reader_of(store, "gone", ask())
        await gone.until_status(Status.PAUSED)
        here = await reader_of(store, "here", ask("and a list?"))
        assert (await here.read_to_end()).status is Status.DONE
        view = await gone.view()
        assert view.generated_tokens == 32
        assert view.acked_tokens == 0


async def test_no_more_are_claimed_than_decode_side_by_side(store: MemoryStore) -> None:
    options = SyntheticOptions(rate_tokens_per_s=200, length_tokens=30, slots=2)
    for name in "abc":
        await open_request(store, name, ask(ack="none"))
    async with Generator(store, engine=options):
        reader = await reader_of(store, "d", ask(ack="none", max_tokens=1))
        await reader.until_status(Status.DONE)
        views = [await store.view(name) for name in "abc"]
        # The fourth was claimed last, and only once one of the first three was through.
        assert sum(view is not None and view.status is Status.DONE for view in views) >= 1


async def test_max_requests_bounds_the_parked_ones_too(store: MemoryStore) -> None:
    async with Generator(store, max_requests=1):
        first = await reader_of(store, "a", ask(window=4))
        await first.until_status(Status.PAUSED)
        second = await reader_of(store, "b", ask())
        ended = await first.read_to_end()
        assert (await second.read_to_end()).started_ms >= ended.finished_ms


@pytest.mark.rule("P6.5")
async def test_a_lost_wake_up_is_repaired_by_the_next_renewal(store: MemoryStore) -> None:
    async with Generator(store, lease_s=0.4) as generator:
        generator.line.deaf = True
        reader = await reader_of(store, "a", ask(window=8))
        before = await reader.until_status(Status.PAUSED)
        view = await reader.read_to_end()
        assert view.status is Status.DONE
        assert view.epoch == before.epoch
        assert await reader.text() == text_of(ask())


@pytest.mark.rule("P8.4")
async def test_without_acks_asked_for_the_answer_runs_to_its_end(store: MemoryStore) -> None:
    async with Generator(store):
        request = ask(ack="none")
        reader = await reader_of(store, "a", request)
        view = await reader.until_status(Status.DONE)
        assert view.acked_tokens == 0
        assert await reader.text() == text_of(request)


@pytest.mark.rule("P14.1")
async def test_a_cancel_frees_the_engine(store: MemoryStore) -> None:
    options = SyntheticOptions(rate_tokens_per_s=20, slots=1, length_tokens=10_000)
    # Neither an append nor a renewal is due for long: the news itself must do it.
    silent: dict[str, Any] = {"lease_s": 600, "coalesce_delay_s": 600, "coalesce_chars": 99_999}
    async with Generator(store, engine=options, **silent) as generator:
        reader = await reader_of(store, "a", ask(ack="none", max_tokens=10_000))
        await reader.until(lambda view: view.next_seq > 1)
        await store.do(Cancel("a", retention_ms=60_000))
        other = await reader_of(store, "b", ask("and a list?", max_tokens=1))
        assert (await other.read_to_end()).status is Status.DONE
        assert generator.engine.stats().running == 0
        assert (await reader.view()).status is Status.CANCELLED


@pytest.mark.rule("P17.21")
async def test_a_request_that_the_engine_refuses_fails_with_its_reason(store: MemoryStore) -> None:
    options = SyntheticOptions(rate_tokens_per_s=FAST.rate_tokens_per_s, context_tokens=4)
    async with Generator(store, engine=options):
        reader = await reader_of(store, "a", ask("one two three four"))
        view = await reader.until_status(Status.FAILED)
        assert view.finish_reason == "context_length_exceeded"
        assert "maximum context length" in view.error


@pytest.mark.rule("P17.1")
async def test_a_request_of_another_version_fails_and_the_generator_goes_on(
    store: MemoryStore,
) -> None:
    async with Generator(store):
        body = '{"question": "q", "from_the_future": 1}'
        await store.do(Open(NewRequest("a", "", body, "", "client", 32), queue_limit=9))
        reader = await reader_of(store, "b", ask())
        assert (await reader.read_to_end()).status is Status.DONE
        view = await store.view("a")
        assert view is not None
        assert view.status is Status.FAILED
        assert "cannot read" in view.error


@pytest.mark.rule("P15.8")
async def test_when_the_engine_dies_its_requests_are_handed_back(store: MemoryStore) -> None:
    engine = SyntheticEngine(FAST)
    generator = Generator(store, engine=engine)
    async with generator:
        reader = await reader_of(store, "a", ask(window=8))
        await reader.until_status(Status.PAUSED)
        await asyncio.to_thread(engine.stop)  # its thread ends, as if it had died
        await reader.until_status(Status.QUEUED)
        assert generator.service.ready() is not None
        assert generator.task is not None
        with pytest.raises(EngineDied):
            await asyncio.wait_for(generator.task, WAIT_S)


async def test_a_model_that_cannot_be_loaded_says_so(store: MemoryStore) -> None:
    class Broken(SyntheticEngine):
        def start(self, sink: Sink) -> EngineInfo:
            raise ValueError("no model at /nowhere")

    generator = Generator(store, engine=Broken())
    with pytest.raises(CannotStart, match="no model at /nowhere"):
        await generator.service.run(generator.stop)


async def test_a_store_that_stays_away_at_the_start_is_named(store: MemoryStore) -> None:
    generator = Generator(store, store_wait_s=0.1)
    generator.line.cut()
    with pytest.raises(CannotStart, match=r"the line is cut; waited 0\.1 s for it$"):
        await generator.service.run(generator.stop)
    await asyncio.to_thread(generator.engine.stop)


async def test_a_generator_whose_model_is_loaded_has_started_and_waits_for_its_store(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its startup probe passes, so that nobody restarts it; 0 is for as long as it takes."""
    monkeypatch.setattr(arrival, "RETRY_S", 0.01)
    begin = threading.Event()

    class Slow(SyntheticEngine):
        def start(self, sink: Sink) -> EngineInfo:
            begin.wait(WAIT_S)
            return super().start(sink)

    generator = Generator(store, engine=Slow(), store_wait_s=0)
    generator.line.cut()
    async with generator:
        await generator.line.until_called("connect", 3)
        assert generator.service.started() == "loading the model"
        begin.set()
        await until(lambda: generator.service.started() is None)
        assert generator.service.ready() == "waiting for the store: the line is cut"
        generator.line.mend()
        await until(lambda: generator.service.ready() is None)


async def test_a_stop_while_the_model_loads_ends_the_service(store: MemoryStore) -> None:
    begun, loaded = threading.Event(), threading.Event()

    class Slow(SyntheticEngine):
        def start(self, sink: Sink) -> EngineInfo:
            begun.set()
            loaded.wait(WAIT_S)
            return super().start(sink)

    generator = Generator(store, engine=Slow())
    async with generator:
        await asyncio.to_thread(begun.wait, WAIT_S)
        assert generator.service.ready() == "loading the model"
        await generator.drain()
    loaded.set()

"""What a generator's metrics say when their cause is there: windows, leases, and what became of
tokens."""

import asyncio
import math

import pytest

from lore.protocol.commands import Ack, Cancel, Reap, Revive
from lore.protocol.lifecycle import Status
from lore.store import MemoryStore
from lore.store.base import View
from lore.store.memory.state import StoreState
from lore_generator import service
from lore_generator.engine import Piece
from lore_generator.engines.options import SyntheticOptions
from tests.services.edge_harness import until
from tests.services.generator_harness import (
    Generator,
    PuppetEngine,
    Reader,
    ask,
    reader_of,
)
from tests.services.meters import grows, meter, shows

STEADY = SyntheticOptions(rate_tokens_per_s=200)
SLOW = SyntheticOptions(rate_tokens_per_s=50, length_tokens=10)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MEASURE_S", 0.01)


async def taken_by(reader: Reader, owner: str) -> View:
    return await reader.until(lambda view: view.owner == owner)


# decoding


@grows("lore_tokens_generated_total", by=10)
@grows("lore_inter_token_seconds", by=9)
@grows("lore_generation_tokens_per_second", by=1, at_least=1.0)
@grows("lore_chunks_appended_total")
@grows("lore_requests_ended_total", "done", by=1)
async def test_an_answer_is_counted_token_by_token_and_timed(store: MemoryStore) -> None:
    async with Generator(store, engine=SLOW):
        reader = await reader_of(store, "a", ask(ack="none"))
        await reader.until_status(Status.DONE)


@grows("lore_queue_wait_seconds", by=1, at_least=0.05)
@grows("lore_time_to_first_token_seconds", by=1, at_least=0.05)
async def test_a_request_that_waits_for_a_generator_waits_for_its_first_token(
    store: MemoryStore,
) -> None:
    reader = await reader_of(store, "a", ask(ack="none"))
    await asyncio.sleep(0.06)
    async with Generator(store):
        await reader.until_status(Status.DONE)


@shows("lore_generator_token_wait_seconds")
@shows("lore_generator_kv_used_ratio")
async def test_an_engine_that_stands_still_makes_its_requests_wait(store: MemoryStore) -> None:
    engine = PuppetEngine()
    async with Generator(store, engine=engine):
        await reader_of(store, "a", ask(window=4))
        await engine.until_jobs(1)
        await until(lambda: meter("lore_generator_token_wait_seconds") > 0.1)
        assert meter("lore_generator_kv_used_ratio") == 0
        waited_s = meter("lore_generator_token_wait_seconds")
        engine.say([Piece(engine.jobs[0].request_id, (1,), "a")])
        await until(lambda: meter("lore_generator_token_wait_seconds") < waited_s)
        engine.say([Piece(engine.jobs[0].request_id, (2, 3, 4), "bcd")])
        await until(lambda: meter("lore_generator_token_wait_seconds") == 0)  # parked: its reader's


@shows("lore_generator_slots")
@shows("lore_generator_requests")
@shows("lore_generator_kv_used_ratio")
async def test_what_is_here_is_counted_by_what_it_does(store: MemoryStore) -> None:
    options = SyntheticOptions(rate_tokens_per_s=20, length_tokens=1000, slots=4)
    async with Generator(store, engine=options):
        parked = await reader_of(store, "parked", ask(window=1, max_tokens=1000))
        await parked.until_status(Status.PAUSED)
        await reader_of(store, "decodes", ask(ack="none", max_tokens=1000))
        # The one that is parked decoded before, and may have been counted then.
        await until(lambda: meter("lore_generator_requests", state="parked") == 1)
        await until(lambda: meter("lore_generator_requests", state="decoding") == 1)
        assert meter("lore_generator_slots") == 4
        await until(lambda: meter("lore_generator_kv_used_ratio") == 0.5)
        await store.do(Cancel("parked", retention_ms=60_000))
        await until(lambda: meter("lore_generator_requests", state="parked") == 0)
        ended = await reader_of(store, "ended", ask(ack="none", max_tokens=1))
        await ended.until_status(Status.DONE)
        await until(lambda: meter("lore_generator_requests", state="kept") == 1)


# a reader that is slow, or gone


@grows("lore_requests_parked_total", "window", by=1)
@grows("lore_request_parked_seconds", by=1, at_least=0.05)
@grows("lore_tokens_acknowledged_total", by=10)
async def test_a_slow_reader_parks_its_request_for_as_long_as_it_takes(store: MemoryStore) -> None:
    options = SyntheticOptions(rate_tokens_per_s=math.inf, length_tokens=10)
    async with Generator(store, engine=options):
        reader = await reader_of(store, "a", ask(window=8))
        await reader.until_status(Status.PAUSED)
        await asyncio.sleep(0.06)
        await reader.ack()
        await reader.until_status(Status.DONE)
        await reader.ack()


@pytest.mark.rule("P20.7")
@grows("lore_requests_parked_total", "pace")
async def test_who_is_parked_for_pace_is_counted_apart_and_goes_on_in_the_store(
    store: MemoryStore,
) -> None:
    readers = [await reader_of(store, key, ask(window=1024, pace=10)) for key in ("a", "b")]
    options = SyntheticOptions(rate_tokens_per_s=1000, length_tokens=500, slots=1)
    async with Generator(store, engine=options):
        await until(lambda: meter("lore_generator_requests", state="paced") == 2)
        assert meter("lore_generator_requests", state="parked") == 0
        for reader in readers:
            await reader.until_status(Status.GENERATING)
            view = await store.view(reader.request_id)
            assert view is not None
            assert 0 < view.generated_tokens < 500


@grows("lore_window_utilization_ratio", at_least=1.0)
async def test_a_full_window_is_seen_as_full(store: MemoryStore) -> None:
    async with Generator(store):
        reader = await reader_of(store, "a", ask(window=8))
        await reader.until_status(Status.PAUSED)
        full = meter("lore_window_utilization_ratio_bucket", le="+Inf")
        full -= meter("lore_window_utilization_ratio_bucket", le="0.99")
        await until(
            lambda: (
                meter("lore_window_utilization_ratio_bucket", le="+Inf")
                - meter("lore_window_utilization_ratio_bucket", le="0.99")
                > full
            )
        )


@grows("lore_tokens_wasted_total", "cancelled")
@grows("lore_requests_ended_total", "cancelled", by=1)
@grows("lore_tokens_acknowledged_total")
async def test_what_was_not_read_before_a_cancel_is_wasted(store: MemoryStore) -> None:
    """P14"""
    wasted = meter("lore_tokens_wasted_total", status="cancelled")
    acked = meter("lore_tokens_acknowledged_total")
    async with Generator(store, engine=STEADY):
        reader = await reader_of(store, "a", ask(window=8))
        await reader.until_status(Status.PAUSED)
        read = (await store.do(Ack("a", 1))).acked_tokens
        await store.do(Cancel("a", retention_ms=60_000))
        await until(lambda: meter("lore_generator_requests", state="parked") == 0)
    assert 0 < read < 8
    assert meter("lore_tokens_acknowledged_total") - acked == read
    assert meter("lore_tokens_wasted_total", status="cancelled") - wasted == 8 - read


@grows("lore_tokens_wasted_total", "reaped", by=8)
async def test_a_vanished_reader_wastes_one_window(store: MemoryStore) -> None:
    """P7, P16"""
    async with Generator(store):
        reader = await reader_of(store, "a", ask(window=8))
        await reader.until_status(Status.PAUSED)
        await store.do(Reap("a", idle_ms=0, retention_ms=60_000))
        await until(lambda: meter("lore_generator_requests", state="parked") == 0)


@grows("lore_tokens_wasted_total", "reaped", by=8)
async def test_a_request_that_is_reaped_twice_wastes_no_token_twice(store: MemoryStore) -> None:
    """P16: it was revived, and its reader has read nothing more."""
    async with Generator(store, "g1"):
        reader = await reader_of(store, "a", ask(window=8))
        await reader.until_status(Status.PAUSED)
        for _ in range(2):
            await store.do(Reap("a", idle_ms=0, retention_ms=60_000))
            await until(lambda: meter("lore_generator_requests", state="parked") == 0)
            await store.do(Revive("a"))
            await reader.until_status(Status.PAUSED)


@grows("lore_tokens_wasted_total", "done")
async def test_what_is_read_after_the_end_is_not_wasted_and_what_is_not_read_is(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The acks of the last chunks come after the end: they are waited for."""
    wasted = meter("lore_tokens_wasted_total", status="done")
    async with Generator(store, engine=SLOW) as generator:
        reader = await reader_of(store, "a", ask(window=16))
        await reader.until_status(Status.DONE)
        judging = generator.service._accounts
        await until(lambda: len(judging._open) == 1)
        await judging.settle()
        assert meter("lore_tokens_wasted_total", status="done") == wasted
        read = (await store.do(Ack("a", 1))).acked_tokens
        monkeypatch.setattr(judging, "_now", lambda: math.inf)
        await until(lambda: meter("lore_tokens_wasted_total", status="done") > wasted)
        assert 0 < read < 10
        assert meter("lore_tokens_wasted_total", status="done") - wasted == 10 - read


@grows("lore_tokens_wasted_total", "done", by=10)
async def test_a_generator_that_stops_judges_what_it_has_not_judged(store: MemoryStore) -> None:
    async with Generator(store, engine=SLOW):
        reader = await reader_of(store, "a", ask(window=16))
        await reader.until_status(Status.DONE)


async def test_an_answer_that_is_asked_for_to_be_kept_is_no_waste(store: MemoryStore) -> None:
    """P8"""
    wasted = meter("lore_tokens_wasted_total", status="done")
    async with Generator(store, engine=SLOW):
        reader = await reader_of(store, "a", ask(ack="none"))
        await reader.until_status(Status.DONE)
    assert meter("lore_tokens_wasted_total", status="done") == wasted


@grows("lore_tokens_wasted_total", "failed", by=1)
@grows("lore_requests_ended_total", "failed", by=1)
async def test_a_request_that_the_engine_gives_up_fails(store: MemoryStore) -> None:
    engine = PuppetEngine()
    async with Generator(store, engine=engine):
        reader = await reader_of(store, "a", ask(window=4))
        await engine.until_jobs(1)
        engine.say([Piece(engine.jobs[0].request_id, (1,), "a", "error", "it broke")])
        await reader.until_status(Status.FAILED)


# generators and stores that go away


@grows("lore_takeovers_total")
async def test_a_killed_generators_request_is_taken_over(store: MemoryStore) -> None:
    """P15"""
    async with Generator(store, "g1", STEADY, lease_s=0.3) as first:
        reader = await reader_of(store, "a", ask(window=8))
        await reader.until_status(Status.PAUSED)
        await first.crash()
        async with Generator(store, "g2", lease_s=0.3):
            await taken_by(reader, "g2")


@grows("lore_requests_handed_back_total", by=2)
async def test_a_generator_that_stops_hands_its_requests_back(store: MemoryStore) -> None:
    """P15"""
    async with Generator(store) as generator:
        for name in "ab":
            reader = await reader_of(store, name, ask(window=8))
            await reader.until_status(Status.PAUSED)
        await generator.drain()


class Clock:
    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


@grows("lore_fenced_appends_total", by=1)
async def test_a_generator_that_lost_its_lease_is_fenced() -> None:
    """P2"""
    clock = Clock()
    store = MemoryStore(clock_ms=clock)
    engine = PuppetEngine()
    fenced = meter("lore_fenced_appends_total")
    async with Generator(store, "g1", engine, lease_s=600) as zombie:
        reader = await reader_of(store, "a", ask(ack="none"))
        await engine.until_jobs(1)
        zombie.line.cut()
        clock.now_ms += 601_000
        async with Generator(store, "g2", STEADY, lease_s=600):
            await taken_by(reader, "g2")
            zombie.line.mend(silently=True)
            engine.say([Piece(engine.jobs[0].request_id, (1,), "a")])
            await until(lambda: meter("lore_fenced_appends_total") > fenced)


@grows("lore_appends_repeated_total", "no_answer")
async def test_an_append_that_a_store_did_not_answer_is_made_again(store: MemoryStore) -> None:
    repeated = meter("lore_appends_repeated_total", reason="no_answer")
    async with Generator(store, engine=STEADY) as generator:
        reader = await reader_of(store, "a", ask(window=8))
        await reader.until(lambda view: view.next_seq > 1)
        generator.line.cut()
        await until(lambda: meter("lore_appends_repeated_total", reason="no_answer") > repeated)
        generator.line.mend()
        await reader.until_status(Status.PAUSED)


@shows("lore_generators_watched")
async def test_other_generators_are_watched_while_they_are_there(store: MemoryStore) -> None:
    """P15"""
    async with Generator(store, "g1"), Generator(store, "g2"):
        await until(lambda: meter("lore_generators_watched") == 1)


@grows("lore_appends_repeated_total", "gap", by=1)
async def test_a_store_that_lost_its_tail_gets_it_again(store: MemoryStore) -> None:
    """P3: the next append shows it, where no renewal has."""
    engine = PuppetEngine()
    async with Generator(store, engine=engine, lease_s=600):
        reader = await reader_of(store, "a", ask(ack="none"))
        await engine.until_jobs(1)
        job = engine.jobs[0].request_id
        engine.say([Piece(job, (1,), "a")])
        await reader.until(lambda view: view.next_seq == 2)
        snapshot = store.state.snapshot()
        engine.say([Piece(job, (2,), "b")])
        await reader.until(lambda view: view.next_seq == 3)
        store.state.restore(snapshot, store.state.run_id)
        engine.say([Piece(job, (3,), "c")])
        await reader.until(lambda view: view.next_seq == 4)


@grows("lore_appends_repeated_total", "forgotten", by=1)
async def test_a_store_that_forgot_the_request_is_given_it_back(store: MemoryStore) -> None:
    """P3"""
    engine = PuppetEngine()
    async with Generator(store, engine=engine, lease_s=600):
        reader = await reader_of(store, "a", ask(ack="none"))
        await engine.until_jobs(1)
        job = engine.jobs[0].request_id
        engine.say([Piece(job, (1,), "a")])
        await reader.until(lambda view: view.next_seq == 2)
        store.state.restore(StoreState().snapshot(), "run-2")
        engine.say([Piece(job, (2,), "b")])
        await reader.until_there()
        await reader.until(lambda view: view.next_seq == 3)

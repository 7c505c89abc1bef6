"""Generators and stores that go away: nobody's text is lost, doubled or changed."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from lore.protocol import claims
from lore.protocol.chunk import Chunk
from lore.protocol.claims import other_model
from lore.protocol.commands import Append, Cancel, Reinstate, Release, Renew
from lore.protocol.lifecycle import Status
from lore.store import MemoryStore, StoreUnavailable
from lore.store.keys import partition_of
from lore.store.memory.state import StoreState
from lore_generator import service
from lore_generator.engine import EngineInfo, Piece, Sink
from lore_generator.engines.options import SyntheticOptions
from lore_generator.engines.synthetic import SyntheticEngine
from tests.services.detours import detour
from tests.services.generator_harness import (
    WAIT_S,
    CountingEngine,
    Generator,
    PuppetEngine,
    Reader,
    ask,
    open_request,
    reader_of,
    text_of,
)

STEADY = SyntheticOptions(rate_tokens_per_s=200)
EMPTY = StoreState().snapshot()


class Clock:
    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def _whole(reader: Reader) -> None:
    """P1: the log is the answer, exactly, in chunks without gaps."""
    log = await reader.store.log(reader.request_id)
    assert [chunk.seq for chunk in log] == list(range(1, len(log) + 1))
    assert await reader.text() == text_of(ask())


class OtherModel(SyntheticEngine):
    """The same ids and text, and other weights."""

    def start(self, sink: Sink) -> EngineInfo:
        return replace(super().start(sink), revision="2")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a generator with the old model."""
    monkeypatch.setattr(claims, "LEFT_MS", 0)


@pytest.mark.rule("P15.19", "P15.20")
@pytest.mark.usefixtures("at_once")
async def test_an_answer_that_another_model_began_fails_where_it_is_taken_over(
    store: MemoryStore,
) -> None:
    async with Generator(store, "g1", STEADY) as first:
        reader = await reader_of(store, "a", ask())
        before = await reader.until(lambda view: view.next_seq > 3)
        assert before.model == "synthetic"
        async with Generator(store, "g2", OtherModel(STEADY)):
            await first.drain()
            view = await reader.read_to_end()
    assert (view.status, view.finish_reason) == (Status.FAILED, "error")
    assert view.error == other_model("synthetic", "synthetic@2")


@pytest.mark.rule("P15.22")
async def test_an_answer_is_left_to_a_generator_that_has_its_model_however_late_it_claims(
    store: MemoryStore,
) -> None:
    """As in a rollout: the first to ask has the new model, and an old pod is still there."""
    async with Generator(store, "g1", STEADY) as first:
        reader = await reader_of(store, "a", ask())
        await reader.until(lambda view: view.next_seq > 3)
        async with Generator(store, "g2", OtherModel(STEADY)) as second:
            await asyncio.gather(first.drain(), second.line.until_called("claim", 1))
            async with Generator(store, "g3", STEADY):
                view = await reader.read_to_end()
    assert (view.status, view.model) == (Status.DONE, "synthetic")
    assert "other_model" not in reader.reasons
    await _whole(reader)


@pytest.mark.rule("P15.21")
@pytest.mark.usefixtures("at_once")
async def test_an_answer_goes_on_with_another_model_where_that_is_allowed_and_readers_hear_of_it(
    store: MemoryStore,
) -> None:
    async with Generator(store, "g1", STEADY) as first:
        reader = await reader_of(store, "a", ask())
        await reader.until(lambda view: view.next_seq > 3)
        async with Generator(store, "g2", OtherModel(STEADY), other_model="tell"):
            await first.drain()
            view = await reader.read_to_end()
    assert (view.status, view.model) == (Status.DONE, "synthetic@2")
    assert "other_model" in reader.reasons
    await _whole(reader)


@pytest.mark.rule("P15.19")
async def test_a_store_that_lost_its_data_is_told_again_which_model_makes_an_answer(
    store: MemoryStore,
) -> None:
    async with Generator(store, "g1", STEADY):
        reader = await reader_of(store, "a", ask())
        await reader.until(lambda view: view.next_seq > 3)
        store.state.restore(EMPTY, "run-2")
        await reader.until_there()
        view = await reader.until(lambda view: view.next_seq > 6)
        assert view.model == "synthetic"


@pytest.mark.rule("P15.2")
async def test_a_second_generator_continues_after_a_crash(store: MemoryStore) -> None:
    async with Generator(store, "g1", STEADY, lease_s=0.3) as first:
        reader = await reader_of(store, "a", ask())
        before = await reader.until(lambda view: view.next_seq > 3)
        await first.crash()
        async with Generator(store, "g2", lease_s=0.3):
            view = await reader.read_to_end()
            assert view.status is Status.DONE
            assert view.epoch > before.epoch
            assert view.log_id == before.log_id
            await _whole(reader)


@pytest.mark.rule("P2.3")
async def test_a_zombie_is_fenced_by_its_first_append_and_drops_the_request() -> None:
    clock = Clock()
    store = MemoryStore(clock_ms=clock)
    long = SyntheticOptions(rate_tokens_per_s=200, length_tokens=10_000)
    request = ask(ack="none", max_tokens=10_000)
    engine = CountingEngine(long)
    async with (
        Generator(store, "g1", engine, lease_s=600) as zombie,
        Generator(store, "g2", long, lease_s=600) as heir,
    ):
        heir.line.cut()
        reader = await reader_of(store, "a", request)
        await reader.until(lambda view: view.next_seq > 3)
        zombie.line.cut()
        clock.now_ms += 601_000
        heir.line.mend()
        taken = await reader.until(lambda view: view.owner == "g2")
        zombie.line.mend(silently=True)
        await asyncio.wait_for(engine.cancelled.wait(), WAIT_S)
        view = await reader.until(lambda view: view.next_seq > taken.next_seq)
        assert view.owner == "g2"
        assert text_of(request, long).startswith(await reader.text())
        await store.do(Cancel("a", retention_ms=1000))


@pytest.mark.rule("P15.1")
async def test_a_parked_request_keeps_its_owner(store: MemoryStore) -> None:
    """P15: the heartbeat renews what appends nothing."""
    async with Generator(store, "g1", lease_s=1.0) as first:
        reader = await reader_of(store, "a", ask(window=8))
        paused = await reader.until_status(Status.PAUSED)
        async with Generator(store, "g2", poll_s=0.05) as second:
            await first.line.until_called("renew", 6)  # a quarter of a lease each, or more
            await second.line.until_called("waiting", 1)
            assert (await reader.view()).epoch == paused.epoch
        assert (await reader.read_to_end()).status is Status.DONE


@pytest.mark.rule("P15.9")
async def test_a_drained_generator_hands_over_without_waiting_for_a_lease(
    store: MemoryStore,
) -> None:
    async with Generator(store, "g1", STEADY, lease_s=600, coalesce_delay_s=60) as first:
        reader = await reader_of(store, "a", ask())
        parked = await reader_of(store, "b", ask(window=1))
        await parked.until_status(Status.PAUSED)
        before = await reader.until(lambda view: view.next_seq > 1)
        async with Generator(store, "g2", lease_s=600, poll_s=600) as second:
            await second.line.until_called("waiting", 1)
            await first.drain()
            assert first.engine.alive() is False
            view = await reader.read_to_end()
            assert view.epoch > before.epoch
            assert view.log_id == before.log_id
            await _whole(reader)
            assert (await parked.read_to_end()).status is Status.DONE
            await _whole(parked)


@pytest.mark.rule("P15.9")
async def test_a_drain_appends_what_was_generated(store: MemoryStore) -> None:
    """P15: text that coalescing held back is not generated a second time."""
    engine = CountingEngine(SyntheticOptions(rate_tokens_per_s=200, length_tokens=10_000))
    held_back: dict[str, float] = {"coalesce_delay_s": 600, "coalesce_chars": 99_999}
    async with Generator(store, "g1", engine, **held_back) as first:
        reader = await reader_of(store, "a", ask(ack="none", max_tokens=10_000))
        await engine.until_tokens("a", 40)
        assert (await reader.view()).next_seq == 2
        await first.drain()
        view = await reader.view()
        assert view.status is Status.QUEUED
        assert view.next_seq == 3
        assert view.generated_tokens >= 39  # the last may be half a character


async def test_a_store_that_is_away_for_a_while_gets_everything_later(store: MemoryStore) -> None:
    """P3"""
    async with Generator(store, "g1", STEADY) as generator:
        reader = await reader_of(store, "a", ask())
        await reader.until(lambda view: view.next_seq > 3)
        generator.line.cut()
        await generator.line.until_called("append", 3)  # tried in vain, again and again
        generator.line.mend()
        assert (await reader.read_to_end()).status is Status.DONE
        await _whole(reader)


@pytest.mark.rule("P5.1")
async def test_while_the_store_is_away_generation_stops_at_the_window(
    store: MemoryStore,
) -> None:
    engine = CountingEngine(STEADY)
    async with Generator(store, "g1", engine) as generator:
        reader = await reader_of(store, "a", ask(window=20))
        await reader.until(lambda view: view.next_seq > 1)
        generator.line.cut()
        await engine.until_tokens("a", 20)
        await generator.line.until_called("append", 3)
        assert engine.tokens["a"] == 20
        generator.line.mend()
        assert (await reader.until_status(Status.PAUSED)).generated_tokens == 20
        await reader.read_to_end()
        await _whole(reader)


@pytest.mark.rule("P3.2")
async def test_a_store_that_lost_its_tail_gets_it_again(store: MemoryStore) -> None:
    async with Generator(store, "g1", STEADY) as generator:
        reader = await reader_of(store, "a", ask())
        await reader.until(lambda view: view.next_seq > 3)
        snapshot = store.state.snapshot()
        later = await reader.until_status(Status.PAUSED)
        generator.line.cut()
        store.state.restore(snapshot, "run-2")
        generator.line.mend()
        await reader.until(lambda view: view.next_seq >= later.next_seq)
        view = await reader.read_to_end()
        assert view.log_id == later.log_id
        await _whole(reader)


@pytest.mark.rule("P2.6")
async def test_a_store_that_forgot_the_claim_itself_is_told_by_the_owner(
    store: MemoryStore,
) -> None:
    """P2, P3: the owner reports before anybody claims, so the log is not forked."""
    async with Generator(store, "g1", STEADY, return_grace_s=1.0) as generator:
        generator.line.cut()
        reader = await reader_of(store, "a", ask())
        snapshot = store.state.snapshot()
        generator.line.mend()
        later = await reader.until_status(Status.PAUSED)
        generator.line.cut()
        store.state.restore(snapshot, "run-2")
        generator.line.mend()
        view = await reader.read_to_end()
        assert view.log_id == later.log_id
        assert view.epoch == later.epoch
        await _whole(reader)


async def test_a_store_that_forgot_an_end_is_told_again(store: MemoryStore) -> None:
    """P3"""
    async with Generator(store, "g1", STEADY) as generator:
        reader = await reader_of(store, "a", ask())
        await reader.until(lambda view: view.next_seq > 3)
        snapshot = store.state.snapshot()
        ended = await reader.read_to_end()
        generator.line.cut()
        store.state.restore(snapshot, "run-2")
        generator.line.mend()
        again = await reader.until_status(Status.DONE)
        assert again.epoch == ended.epoch
        assert again.finish_reason == ended.finish_reason
        await _whole(reader)


@pytest.mark.rule("P3.3")
async def test_a_store_that_comes_back_empty_gets_everything_again(store: MemoryStore) -> None:
    """P3: live and finished requests, from what their owner keeps. An append to an unknown
    request used to drop it, and with it an answer that its generator still had in full."""
    async with Generator(store, "g1", STEADY, return_grace_s=1.0) as generator:
        done = await reader_of(store, "done", ask())
        ended = await done.until_status(Status.PAUSED)
        ended = await done.read_to_end()
        live = await reader_of(store, "live", ask())
        before = await live.until_status(Status.PAUSED)
        await live.ack()
        before = await live.until(lambda view: view.acked_tokens > 0 and view.next_seq > 3)
        generator.line.cut()
        store.state.restore(EMPTY, "run-2")
        generator.line.mend()
        await live.until_there()
        view = await live.read_to_end()
        assert view.status is Status.DONE
        assert (view.log_id, view.epoch) == (before.log_id, before.epoch)
        assert view.created_ms == before.created_ms
        await _whole(live)
        await done.until_there()
        again = await done.until_status(Status.DONE)
        assert again.finish_reason == ended.finish_reason
        await _whole(done)


@pytest.mark.rule("P3.4")
async def test_what_was_deleted_or_has_expired_is_not_given_back(store: MemoryStore) -> None:
    """P3: the same server does not know it, so it was meant to go."""
    engine = CountingEngine(SyntheticOptions(rate_tokens_per_s=20))
    async with Generator(store, "g1", engine) as generator:
        reader = await reader_of(store, "a", ask(ack="none"))
        await reader.until(lambda view: view.next_seq > 2)
        generator.line.cut()
        store.state.restore(EMPTY, store.state.run_id)
        generator.line.mend()
        await asyncio.wait_for(engine.cancelled.wait(), WAIT_S)
        assert await store.view("a") is None


@pytest.mark.rule("P3.8")
async def test_an_owner_whose_lease_is_over_gives_back_a_fork(store: MemoryStore) -> None:
    """P3, P4: somebody else may have gone on meanwhile, in a log that the store forgot."""
    async with Generator(store, "g1", STEADY, lease_s=0.2, return_grace_s=60.0) as generator:
        reader = await reader_of(store, "a", ask())
        before = await reader.until_status(Status.PAUSED)
        generator.line.cut()
        store.state.restore(EMPTY, "run-2")
        await asyncio.sleep(0.3)  # the lease itself is what is waited for
        generator.line.mend()
        await reader.until_there()
        view = await reader.read_to_end()
        assert before.log_id != view.log_id
        assert view.forks == f"{before.log_id}:{before.next_seq}"
        await _whole(reader)


@pytest.mark.rule("P3.10")
async def test_nothing_is_sent_while_a_fork_is_given_back(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P3: an append of the old log arrived after the fork, was fenced, and its owner dropped what
    it had just given back: readers waited until that lease was over, and then for a takeover."""
    engine = CountingEngine(STEADY)

    async def slow_reinstate(command: Reinstate, do: Any) -> Any:
        position = await do(command)
        await engine.until_tokens("a", engine.tokens["a"] + 5)
        return position

    detour(store, Reinstate, slow_reinstate)
    async with Generator(store, "g1", engine, lease_s=0.4, return_grace_s=60) as generator:
        reader = await reader_of(store, "a", ask(ack="none"))
        before = await reader.until(lambda view: view.next_seq > 3)
        # What the report finds, when nothing of the request is on its way.
        owner = generator.service._leases.live["a"]
        owner.renewed_s = -math.inf
        store.state.restore(EMPTY, "run-2")
        generator.line.mend()
        await reader.until_there()
        view = await reader.read_to_end()
        assert (view.status, view.forks.partition(":")[0]) == (Status.DONE, before.log_id)
        assert view.epoch == before.epoch


@pytest.mark.rule("P6.5")
async def test_an_ack_that_was_missed_with_the_subscription_is_learnt_when_it_is_back(
    store: MemoryStore,
) -> None:
    """P6: and not at the next renewal, which is minutes away here."""
    async with Generator(store, "g1", lease_s=600) as generator:
        reader = await reader_of(store, "a", ask(window=8))
        await reader.until_status(Status.PAUSED)
        generator.line.deaf = True
        await reader.ack()
        await asyncio.sleep(0)  # the news goes out, and nobody hears it
        generator.line.deaf = False
        generator.line.mend()
        await reader.until(lambda view: view.generated_tokens == 16)


@pytest.mark.rule("P3.6")
async def test_all_that_was_ever_sent_is_given_back(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P3: also the chunk whose answer was lost with the store. It stayed behind, and when its
    owner died before the next append, another chunk was put in its place in the same log."""
    had: list[Chunk] = []
    given: list[Sequence[Chunk]] = []

    async def append_and_break(command: Append, do: Any) -> Any:
        position = await do(command)
        if not had and position.next_seq > 5:
            had.extend(await store.log(command.request_id))
            store.state.restore(EMPTY, "run-2")
            raise StoreUnavailable("the answer was lost")
        return position

    async def watched(command: Reinstate, do: Any) -> Any:
        given.append(command.chunks)
        return await do(command)

    detour(store, Append, append_and_break)
    detour(store, Reinstate, watched)
    async with Generator(store, "g1", STEADY) as generator:
        reader = await reader_of(store, "a", ask(ack="none"))
        log_id = (await reader.view()).log_id
        await generator.line.until_called("reinstate", 1)
        await reader.until_there()
        assert list(given[0][: len(had)]) == had
        assert (await reader.read_to_end()).log_id == log_id
        await _whole(reader)


@pytest.mark.rule("P3.7")
async def test_a_lease_counts_from_when_it_was_asked_for(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P3, P4: its answer came when it was over, and its owner took itself to be alone."""
    late, lost = asyncio.Event(), asyncio.Event()

    async def renew_and_answer_late(command: Renew, do: Any) -> Any:
        positions = await do(command)
        if not lost.is_set():
            await asyncio.sleep(0.4)  # the lease itself is what is waited for
            late.set()
        return positions

    async def append(command: Append, do: Any) -> Any:
        if late.is_set() and not lost.is_set():
            store.state.restore(EMPTY, "run-2")
            lost.set()
        return await do(command)

    detour(store, Renew, renew_and_answer_late)
    detour(store, Append, append)
    async with Generator(store, "g1", STEADY, lease_s=0.3, poll_s=60):
        reader = await reader_of(store, "a", ask(ack="none"))
        before = await reader.view()
        await lost.wait()
        await reader.until_there()
        view = await reader.read_to_end()
        assert (view.status, view.forks.partition(":")[0]) == (Status.DONE, before.log_id)


@pytest.mark.rule("P3.9")
async def test_nothing_is_appended_once_a_release_may_have_happened(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2, P15: its answer is lost, and a piece comes late. Whoever claimed the request may have
    gone on in the log by then, and a store that forgot that would take the chunk."""
    engine = PuppetEngine()
    released = asyncio.Event()

    async def release_and_lose_the_answer(command: Release, do: Any) -> Any:
        position = await do(command)
        if not released.is_set():
            engine.say([Piece(engine.jobs[0].request_id, (2,), " late")])
            released.set()
            raise StoreUnavailable("the answer was lost")
        return position

    detour(store, Release, release_and_lose_the_answer)
    async with Generator(store, "g1", engine) as generator:
        reader = await reader_of(store, "a", ask())
        await engine.until_jobs(1)
        engine.say([Piece(engine.jobs[0].request_id, (1,), "once")])
        await reader.until(lambda view: view.next_seq == 2)
        appends = generator.line.calls["append"]
        await generator.drain()
        assert released.is_set()
        assert generator.line.calls["release"] == 2
        assert generator.line.calls["append"] == appends
        assert await reader.text() == "once"


@pytest.mark.rule("P3.3")
async def test_a_drain_gives_forgotten_requests_back_before_it_hands_them_over(
    store: MemoryStore,
) -> None:
    """P3, P17: stopped while it had not yet heard that the store is another one."""
    async with Generator(store, "g1", STEADY) as generator:
        reader = await reader_of(store, "a", ask())
        await reader.until_status(Status.PAUSED)
        store.state.restore(EMPTY, "run-2")
        await generator.drain()
        assert (await reader.view()).status is Status.QUEUED
        async with Generator(store, "g2", STEADY):
            await reader.read_to_end()
            await _whole(reader)


@pytest.mark.rule("P3.1")
async def test_kept_answers_are_bounded_and_let_go_once_they_are_acknowledged(
    store: MemoryStore,
) -> None:
    async with Generator(store, max_kept=2, lease_s=0.2) as generator:
        readers = [await reader_of(store, name, ask(ack="none")) for name in "abc"]
        for reader in readers:
            await reader.until_status(Status.DONE)
        leases = generator.service._leases
        assert len(leases.kept) == 2
        for reader in readers:
            await reader.ack()
        generator.line.mend()  # the report after a reconnection tells of the acks
        await generator.line.until_called("renew", 2)
        assert leases.kept == {}


@pytest.mark.rule("P15.3")
async def test_nobody_claims_before_the_owners_of_a_returned_store_have_reported(
    store: MemoryStore,
) -> None:
    """P3, P4: the log of a request whose claim was forgotten is not forked for nothing."""
    async with (
        Generator(store, "g1", STEADY) as owner,
        Generator(store, "g2", STEADY, return_grace_s=600, poll_s=0.05) as other,
    ):
        await other.line.until_called("waiting", 1)
        other.line.cut()
        reader = await reader_of(store, "a", ask())
        snapshot = store.state.snapshot()
        before = await reader.until_status(Status.PAUSED)
        owner.line.cut()
        store.state.restore(snapshot, "run-2")
        other.line.mend()
        await other.line.until_called("waiting", 2)
        assert (await reader.view()).epoch < before.epoch
        owner.line.mend()
        view = await reader.read_to_end()
        assert (view.epoch, view.log_id) == (before.epoch, before.log_id)
        await _whole(reader)


@pytest.mark.rule("P15.5")
async def test_a_log_that_is_shorter_than_the_claim_said_is_not_continued(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4, P15: the store came back with less between the claim and the reading of its log. The
    claim was newer than what the store knew, so it was taken up, and other chunks came into the
    log that readers had more of. It has to be claimed anew, which forks the log."""
    async with Generator(store, "g1", STEADY, lease_s=0.3) as first:
        reader = await reader_of(store, "a", ask())
        early = await reader.until(lambda view: view.next_seq > 3)
        snapshot = store.state.snapshot()
        before = await reader.until(lambda view: view.next_seq > early.next_seq + 2)
        await first.crash()
    read_log = store.log
    claims: list[int] = []

    async def forgetful_log(request_id: str) -> list[Chunk]:
        if not claims:
            store.state.restore(snapshot, "run-2")
        claims.append((await reader.view()).epoch)
        return await read_log(request_id)

    monkeypatch.setattr(store, "log", forgetful_log)
    async with Generator(store, "g2", lease_s=0.3, max_requests=1):
        view = await reader.read_to_end()
    monkeypatch.undo()
    assert len(claims) > 1
    assert view.forks == f"{before.log_id}:{early.next_seq}"
    assert view.log_id != before.log_id
    await _whole(reader)


@pytest.mark.rule("P15.6")
async def test_a_log_that_was_broken_before_its_claim_is_failed_and_not_handed_round(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P17: a store had started twice from an append-only file that was cut within a transaction,
    and its count and its log disagreed. Two generators handed the request to each other 600
    times a second."""
    async with Generator(store, "g1", STEADY, lease_s=0.3) as first:
        reader = await reader_of(store, "a", ask())
        await reader.until(lambda view: view.next_seq > 3)
        await first.crash()
    read_log = store.log

    async def broken_log(request_id: str) -> list[Chunk]:
        return (await read_log(request_id))[:-1]

    monkeypatch.setattr(store, "log", broken_log)
    async with Generator(store, "g2", lease_s=0.3):
        view = await reader.until_status(Status.FAILED)
    assert "lost with a store" in view.error


async def test_an_answer_that_comes_while_the_service_ends_begins_nothing(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began a task where none could begin any more, once in some hundred crashes: an error in
    the log, and a coroutine that was never awaited."""
    loop, asked, unheard = asyncio.get_running_loop(), asyncio.Event(), list[dict[str, Any]]()
    loop.set_exception_handler(lambda _, context: unheard.append(context))
    answer = loop.create_future()

    async def append(*_: Any) -> Any:
        asked.set()
        return await answer

    async def ends_last() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            answer.set_exception(StoreUnavailable("it is away"))
            for _ in range(10):
                await asyncio.sleep(0)

    detour(store, Append, append)
    monkeypatch.setattr(service, "measure_lag", ends_last)
    engine = PuppetEngine()
    async with Generator(store, "g1", engine) as generator:
        await reader_of(store, "a", ask())
        await engine.until_jobs(1)
        engine.say([Piece(engine.jobs[0].request_id, (1,), "once")])
        await asked.wait()
        await generator.crash()
    assert unheard == []


async def test_late_pieces_of_an_earlier_claim_are_not_taken_for_the_new_ones() -> None:
    """P2: a generator that slept through its lease claims its own request again."""
    clock = Clock()
    store = MemoryStore(clock_ms=clock)
    engine = PuppetEngine()
    async with Generator(store, "g1", engine, lease_s=600, poll_s=0.05):
        reader = await reader_of(store, "a", ask())
        await engine.until_jobs(1)
        engine.say([Piece(engine.jobs[0].request_id, (1,), "once")])
        await reader.until(lambda view: view.next_seq == 2)
        clock.now_ms += 601_000
        await engine.until_jobs(2)
        first, second = engine.jobs
        assert (second.generated_ids, second.generated_text) == ((1,), "once")
        engine.say([Piece(first.request_id, (2,), " stale", "stop")])
        engine.say([Piece(second.request_id, (3,), " upon", "stop")])
        await reader.until_status(Status.DONE)
        assert await reader.text() == "once upon"


@pytest.mark.rule("P1.1")
async def test_two_hundred_requests_are_exact_and_share_their_calls(store: MemoryStore) -> None:
    options = SyntheticOptions(rate_tokens_per_s=50, length_tokens=40, step_s=0.02)
    requests = {f"r{n}": ask(f"what is {n}?", window=10) for n in range(200)}
    readers = [await Reader(store, name).follow() for name in requests]
    async with Generator(store, "g1", options, lease_s=600, coalesce_delay_s=0.05) as generator:
        for name, request in requests.items():
            await open_request(store, name, request)
        for reader in readers:
            assert (await reader.until_status(Status.PAUSED)).generated_tokens == 10
        generator.line.calls.clear()
        partitions = len({partition_of(name) for name in requests})
        generator.line.mend()  # the report after a reconnection is of all of them
        await generator.line.until_called("renew", partitions)
        assert generator.line.calls["renew"] == partitions
        assert generator.line.calls["append"] == 0
        generator.line.calls.clear()
        views = await asyncio.gather(*(reader.read_to_end() for reader in readers))
        for reader, request in zip(readers, requests.values(), strict=True):
            assert await reader.text() == text_of(request, options)
        assert {view.status for view in views} == {Status.DONE}
        # 30 tokens each, never one call a token: joined while an append is under way or waits.
        assert generator.line.calls["append"] < 200 * 30 * 2 / 3

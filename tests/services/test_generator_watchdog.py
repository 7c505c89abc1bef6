"""An engine that hangs: its generator notices, hands everything back and ends."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from lore.protocol.commands import Cancel
from lore.protocol.lifecycle import Status
from lore.store import MemoryStore
from lore_generator.engine import EngineInfo, EngineStats, Piece, Sink
from lore_generator.engines.options import SyntheticOptions
from lore_generator.engines.synthetic import SyntheticEngine
from lore_generator.service import EngineDied
from lore_generator.watchdog import Watchdog
from tests.services.generator_harness import WAIT_S, Generator, ask, reader_of, text_of

STEADY = SyntheticOptions(rate_tokens_per_s=200)


class HangingEngine(SyntheticEngine):
    """Its thread stands still in a step once it has brought three tokens."""

    def __init__(self) -> None:
        super().__init__(STEADY)
        self.goes_on = threading.Event()
        self._brought = 0

    def start(self, sink: Sink) -> EngineInfo:
        def hanging(pieces: Sequence[Piece]) -> None:
            self._brought += len(pieces)
            if self._brought > 3:
                self.goes_on.wait(3 * WAIT_S)
            sink(pieces)

        return super().start(hanging)


@pytest.mark.rule("P1.1", "P15.8")
async def test_when_a_step_hangs_its_requests_go_on_elsewhere() -> None:
    """P1, P15: the owner still renews its leases, so that nobody else would notice."""
    store, engine = MemoryStore(), HangingEngine()
    hung = Generator(store, "hung", engine, step_timeout_s=0.3, lease_s=3600)
    async with Generator(store, "other", STEADY, max_requests=1) as other:
        keeps_busy = await reader_of(store, "b", ask(window=1))
        await keeps_busy.until_status(Status.PAUSED)
        async with hung:
            reader = await reader_of(store, "a", ask())
            await reader.until(lambda view: view.owner == "hung")
            assert hung.task is not None
            with pytest.raises(EngineDied, match=r"longer than 0\.3 s"):
                async with asyncio.timeout(WAIT_S):
                    await hung.task
            assert "longer than 0.3 s" in (hung.service.ready() or "")
            view = await reader.view()
            assert (view.status, view.owner) == (Status.QUEUED, "")
            assert view.next_seq > 1
        await store.do(Cancel("b", retention_ms=1000))
        assert other.service.ready() is None
        assert (await reader.read_to_end()).status is Status.DONE
        assert await reader.text() == text_of(ask())
    engine.goes_on.set()


class WatchedEngine(SyntheticEngine):
    """Tells how often somebody looked at it."""

    def __init__(self) -> None:
        super().__init__(STEADY)
        self.looks = asyncio.Semaphore(0)

    def stats(self) -> EngineStats:
        self.looks.release()
        return super().stats()


@pytest.mark.rule("P5.3")
async def test_an_engine_whose_requests_are_all_parked_does_not_hang() -> None:
    store, engine = MemoryStore(), WatchedEngine()
    async with Generator(store, "g1", engine, step_timeout_s=0.1, lease_s=3600) as generator:
        reader = await reader_of(store, "a", ask(window=2))
        await reader.until_status(Status.PAUSED)
        while not engine.looks.locked():
            await engine.looks.acquire()
        async with asyncio.timeout(WAIT_S):
            for _ in range(3):
                await engine.looks.acquire()
        assert generator.service.ready() is None
        assert (await reader.read_to_end()).status is Status.DONE


def test_steps_that_move_feed_the_watchdog_however_little_they_bring() -> None:
    watchdog = Watchdog(10)
    assert not any(watchdog.hangs(busy=True, steps=now // 9, now=now) for now in range(100))


def test_a_standstill_counts_from_when_there_is_work() -> None:
    watchdog = Watchdog(10)
    assert not watchdog.hangs(busy=False, steps=5, now=0)
    assert not watchdog.hangs(busy=False, steps=5, now=100)
    assert not watchdog.hangs(busy=True, steps=5, now=109)
    assert watchdog.hangs(busy=True, steps=5, now=110)
    assert not watchdog.hangs(busy=True, steps=6, now=200)

"""The lease heartbeat, and what the store's position tells (protocol P3, P15).

An append renews its request's lease. Requests that have none, the parked ones above all,
are renewed in one call a partition. The answers say where the store is, which repairs
whatever a lost wake-up or a store that forgot has broken; so do the reports that follow
a lost connection.
"""

import asyncio
import itertools
from collections.abc import Iterable

import structlog

from lore import logs
from lore.protocol.lifecycle import ENDED, Status
from lore.store.base import News, Outcome, OwnerListener, Position, Store, StoreUnavailable
from lore_generator.appender import Appender
from lore_generator.owned import Owned
from lore_generator.roster import Roster
from lore_generator.settings import GeneratorSettings

log = structlog.get_logger()

RENEWALS_PER_LEASE = 4
KEPT_EVERY_LEASES = 3
REPORT_RETRY_S = 0.5


class Guard(OwnerListener):
    """What the store tells an owner of one request, between its appends."""

    def __init__(self, leases: "Leases", owned: Owned) -> None:
        self._leases = leases
        self._owned = owned

    def on_news(self, news: News) -> None:
        self._leases.on_news(self._owned, news)


class Leases:
    def __init__(
        self,
        store: Store,
        roster: Roster,
        appender: Appender,
        settings: GeneratorSettings,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._store = store
        self._roster = roster
        self._appender = appender
        self._settings = settings
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._report = asyncio.Event()

    def report(self) -> None:
        """Tell the store of every request, also of the kept ones: it may have forgotten some."""
        self._report.set()

    async def run(self) -> None:
        interval_s = self._settings.lease_s / RENEWALS_PER_LEASE
        for beat in itertools.count(1):
            await self._sleep(interval_s)
            everything = self._report.is_set()
            self._report.clear()
            if everything:
                done = await self._renew([*self._roster.live.values(), *self._kept()])
                if not done:
                    self._loop.call_later(REPORT_RETRY_S, self._report.set)
            else:
                oldest_s = self._loop.time() - interval_s
                await self._renew(
                    owned
                    for owned in self._roster.live.values()
                    if owned.renewed_s <= oldest_s and owned.sending is None
                )
                if beat % (KEPT_EVERY_LEASES * RENEWALS_PER_LEASE) == 0:
                    await self._renew(self._kept())

    async def _sleep(self, interval_s: float) -> None:
        try:
            async with asyncio.timeout(interval_s):
                await self._report.wait()
        except TimeoutError:
            pass

    def _kept(self) -> Iterable[Owned]:
        return self._roster.kept.values()

    async def _renew(self, due: Iterable[Owned]) -> bool:
        """Renew leases, a call for each partition. False when the store did not answer all."""
        partitions: dict[int, list[Owned]] = {}
        for owned in due:
            partitions.setdefault(owned.partition, []).append(owned)
        calls = [self._renew_partition(*item) for item in partitions.items()]
        return all(await asyncio.gather(*calls))

    async def _renew_partition(self, partition: int, due: list[Owned]) -> bool:
        asked_s = self._loop.time()
        try:
            positions = await self._store.renew(
                partition,
                self._settings.generator_id,
                [(owned.request_id, owned.epoch, owned.log_id) for owned in due],
                lease_ms=self._settings.lease_ms,
            )
            for owned, answer in zip(due, positions, strict=True):
                position = answer
                if owned.sending is None and self._appender.is_forgotten(owned, position):
                    position = await self._give_back(owned)
                if position.outcome is Outcome.OK:
                    await self._on_renewed(owned, position, asked_s)
                elif not self._roster.holds(owned):
                    self._on_kept(owned, position)
                elif owned.sending is None:  # else the append's own answer tells
                    await self._appender.lose(owned, position)
        except StoreUnavailable:
            return False
        return True

    async def _give_back(self, owned: Owned) -> Position:
        """Nothing is sent meanwhile: it would be of the log that this may fork."""
        owned.sending = asyncio.current_task()
        try:
            return await self._appender.reinstate(owned)
        finally:
            owned.sending = None

    async def _on_renewed(self, owned: Owned, position: Position, asked_s: float) -> None:
        if self._roster.kept.get(owned.request_id) is owned:
            # Finished here, and alive again there: the store forgot at least the end.
            log.info("the store forgot an end", **logs.of(owned.view))
            self._roster.add(owned)
            await self.guard(owned)
        if self._roster.holds(owned):
            self._appender.go_on(owned, position, asked_s)

    def _on_kept(self, owned: Owned, position: Position) -> None:
        owned.run_id = self._store.run_id(owned.partition)
        ended = position.status in ENDED
        if not ended or position.acked_seq == position.next_seq - 1:
            self._roster.forget(owned)

    async def guard(self, owned: Owned) -> None:
        """Hear of acks that open the window, and of a cancel or a reap. Raises StoreUnavailable."""
        await self._store.guard(owned.request_id, Guard(self, owned))

    def on_news(self, owned: Owned, news: News) -> None:
        if not self._roster.holds(owned) or news.epoch not in (0, owned.epoch):
            return  # it is late, and about a lease that is over
        position = news.position
        if position.outcome is not Outcome.OK:
            owned.span.event("taken_away", status=str(position.status))
            self._roster.drop(owned)
            self._appender.on_taken(owned, position)
            self._tasks.create_task(self._appender.unguard(owned))
            tell = log.debug if position.status is Status.CANCELLED else log.info
            tell("request taken away", **logs.of(owned.view), status=position.status)
            return
        now = self._loop.time()
        owned.producer.on_acked(position.acked_tokens, now)
        self._roster.refresh(owned)
        self._appender.transmit(owned, now)

"""Taking requests from the queue, as many as there is room for (protocol P15, P17).

A wake-up names a partition in which a request waits. Wake-ups may be lost and leases
lapse in silence, so a slow poll asks the store what waits, oldest first.

When the store was away, leases have lapsed and claims may be forgotten although their
owners live. They report as soon as they are connected again, so nobody claims for a
moment after that: continuing elsewhere costs a prefill, and perhaps a fork of the log.

A request that was claimed before and nothing came of it may be what ended its generator.
One such is worked on at a time, so that no other is suspected along with it for long.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from lore import logs, metrics
from lore.store.base import Claimed, Store, StoreUnavailable
from lore_generator import traces
from lore_generator.roster import Roster
from lore_generator.settings import GeneratorSettings

log = structlog.get_logger()

Adopt = Callable[[Claimed, float], Awaitable[None]]
"""The float is when the claim was made, in the event loop's seconds."""


class Intake:
    def __init__(
        self,
        store: Store,
        roster: Roster,
        adopt: Adopt,
        settings: GeneratorSettings,
        tasks: asyncio.TaskGroup,
        stop: asyncio.Event,
    ) -> None:
        """Nothing is claimed once ``stop`` is set."""
        self._store = store
        self._roster = roster
        self._adopt = adopt
        self._settings = settings
        self._tasks = tasks
        self._waiting: dict[int, None] = {}  # partitions to claim from, in order
        self._claims: set[asyncio.Task[None]] = set()
        self._poll_now = asyncio.Event()
        self._pause: asyncio.TimerHandle | None = None
        self._stop = stop
        self._takes_any = False
        """A claim is under way that may bring a request on trial."""
        self.closed = False
        self.store_answers = True

    def on_wake(self, partition: int | None) -> None:
        if partition is None:
            self._let_owners_report()
        else:
            self._waiting[partition] = None
            self.pump()

    def _let_owners_report(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        loop = asyncio.get_running_loop()
        self._pause = loop.call_later(self._settings.return_grace_s, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._poll_now.set()

    def pump(self) -> None:
        """Claim while there is room and something may wait."""
        if self._is_over() or self._pause is not None:
            return
        while self._waiting and self._roster.room() > len(self._claims):
            partition = next(iter(self._waiting))
            del self._waiting[partition]
            claim = self._tasks.create_task(self._claim(partition))
            self._claims.add(claim)
            claim.add_done_callback(self._claims.discard)

    def _is_over(self) -> bool:
        return self.closed or self._stop.is_set()

    async def close(self) -> None:
        """Claim nothing more; returns when the claims under way are settled."""
        self.closed = True
        if self._claims:
            await asyncio.wait(self._claims)

    async def run(self) -> None:
        while True:
            self._poll_now.clear()
            await self._poll()
            try:
                async with asyncio.timeout(self._settings.poll_s * random.uniform(0.75, 1.25)):
                    await self._poll_now.wait()
            except TimeoutError:
                pass

    async def _poll(self) -> None:
        try:
            found = await self._store.waiting()
        except StoreUnavailable:
            if self.store_answers:
                log.warning("the store is away")
            self.store_answers = False
            return
        if not self.store_answers:
            log.info("the store is back")
        self.store_answers = True
        # The oldest first, before those whose wake-up came while the store answered.
        self._waiting = dict.fromkeys(partition for _, partition in found) | self._waiting
        self.pump()

    async def _claim(self, partition: int) -> None:
        if self._is_over():
            return
        takes_any = not self._takes_any and self._roster.on_trial is None
        self._takes_any |= takes_any
        asked_s = asyncio.get_running_loop().time()
        try:
            claimed = await self._store.claim(
                partition,
                self._settings.generator_id,
                lease_ms=self._settings.lease_ms,
                untried=not takes_any,
            )
            if claimed is None:
                return
            self._measure(claimed)
            await self._adopt(claimed, asked_s)
        except StoreUnavailable:
            return  # a claim that happened all the same lapses, and the poll finds it
        finally:
            self._takes_any &= not takes_any
        # There may be more where this one was. Last in line, so that no partition starves.
        self._waiting[partition] = None
        asyncio.get_running_loop().call_soon(self.pump)

    def _measure(self, claimed: Claimed) -> None:
        view = claimed.view
        if traces.is_first(claimed):
            metrics.QUEUE_WAIT.observe((view.started_ms - view.created_ms) / 1000)
            log.debug("taking a request", **logs.of(view))
        else:
            metrics.TAKEOVERS.inc()
            log.info(
                "continuing a request",
                **logs.of(view),
                epoch=view.epoch,
                next_seq=view.next_seq,
            )

"""Checks the store often, and acts when it has been silent for long (E11)."""

import asyncio
from collections.abc import Callable

from lore.protocol.outage import Outage
from lore.store.base import Store, StoreUnavailable
from lore_edge.delivery.waker import Alarm

CHECK_S = 1.0
OTHER_PARTITIONS = ("1", "2", "3")  # ids of no existing request


class StoreWatch:
    def __init__(self, store: Store, lost_s: float, on_lost: Callable[[], None]) -> None:
        """``on_lost`` is called once when the store has answered nothing for ``lost_s`` seconds."""
        self.is_up = True
        """Whether the store answers, as far as is known."""
        self._store = store
        self._lost_s = lost_s
        self._on_lost = on_lost
        self._outage: Outage | None = None
        self._alarm: Alarm | None = None

    @property
    def is_lost(self) -> bool:
        return self._outage is not None and self._outage.is_lost

    def sends_away(self, opened_at: float) -> bool:
        """Whether a reader who came at ``opened_at``, on the loop's clock, is sent elsewhere."""
        return self._outage is not None and self._outage.sends_away(opened_at)

    async def check(self) -> None:
        """Ask whether the store is there. A store of several servers is there while one of them
        is.
        """
        asked_at = asyncio.get_running_loop().time()
        answers = await self._ask("")
        if not answers and self._outage is not None:
            self._outage.on_miss(asked_at)  # before the next timeout, so that it counts in time
        if answers or any(await asyncio.gather(*map(self._ask, OTHER_PARTITIONS))):
            self._on_answer(asked_at)
        self.is_up = answers or (answers is None and not self.is_lost)

    def close(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()

    async def _ask(self, request_id: str) -> bool | None:
        """Whether the store answered; None: not yet, which may be this edge's own slowness."""
        try:
            async with asyncio.timeout(CHECK_S):
                await self._store.view(request_id)
        except StoreUnavailable:
            return False
        except TimeoutError:
            return None
        return True

    def _on_answer(self, asked_at: float) -> None:
        now = asyncio.get_running_loop().time()
        if self._outage is None or self._alarm is None:
            self._outage = Outage(self._lost_s, now)
            self._alarm = Alarm(self._on_silence)
        self._outage.on_answer(asked_at, now)
        self._alarm.set(self._outage.deadline())

    def _on_silence(self) -> None:
        assert self._outage is not None
        assert self._alarm is not None
        lost = self._outage.on_timer(asyncio.get_running_loop().time())
        self._alarm.set(self._outage.deadline())
        if lost:
            self._on_lost()

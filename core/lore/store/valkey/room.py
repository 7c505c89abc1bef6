"""Makes room on a server whose memory is full (P17).

Such a server refuses what begins something. Then the oldest ended answers are given up whose
readers have acknowledged everything and whose retention floor is over, and the call is repeated. If
that does not help, it is refused with the time at which there will be room.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import structlog

from lore.metrics import ANSWERS_GIVEN_UP
from lore.protocol.commands import GiveUp
from lore.store.keys import ended_key, log_key
from lore.store.types import StoreFull, Vitals
from lore.store.valkey.calls import FunctionCalls
from lore.store.valkey.client.connection import forget
from lore.store.valkey.client.functions import Functions
from lore.store.valkey.codec import vitals_from
from lore.store.valkey.packing import pack

log = structlog.get_logger()

FIRST_VERSION = 6
"""The library's version from which on it has an index of ended requests."""
BATCH = 64
"""How many answers are given up at most before the server's memory is checked again."""
FREED_WITHIN_S = 1.0
LOOK_AGAIN_S = 1.0
"""How many seconds a refusal stands. Calls in that time are refused alike, so the server gets one
call.
"""
FILL_TO = 0.95
"""The share of the memory limit down to which room is made, so that not every call makes room for
itself alone.
"""


class Ending(NamedTuple):
    """When a request's memory may be reused, before the floor is added."""

    at_ms: int
    partition: int
    request_id: str


class Room(FunctionCalls):
    _floor_ms: int
    _making: dict[Functions, tuple[asyncio.Task[None], float]]

    async def _begin(self, command: Any) -> Any:
        """Execute a command that begins something, and make room for it if needed. Raises
        StoreFull, which says when to ask again.
        """
        try:
            return await self._change(command)
        except StoreFull as full:
            functions = self._functions[pack(command, self._functions).partition]
            if functions.version < FIRST_VERSION:
                raise
            await asyncio.shield(self._make_soon(functions, full))
        try:
            return await self._change(command)
        except StoreFull as full:
            full.retry_after_s = self._floor_ms / 1000
            raise

    def _make_soon(self, functions: Functions, full: StoreFull) -> asyncio.Task[None]:
        """Make room once for the many calls that may find the server full."""
        now_s = asyncio.get_running_loop().time()
        making, began_s = self._making.get(functions, (None, 0.0))
        if making is not None and not making.done():
            return making
        if making is not None and making.exception() and now_s - began_s < LOOK_AGAIN_S:
            return making
        making = asyncio.create_task(self._make(functions, full))
        making.add_done_callback(forget)
        self._making[functions] = making, now_s
        return making

    async def _make(self, functions: Functions, full: StoreFull) -> None:
        """Return when there is room. Raises StoreFull with the time to ask again."""
        given_up = 0
        while True:
            vitals = await self._settled(functions)
            now_ms, endings = await self._endings(functions)
            over = vitals.memory_bytes - vitals.memory_limit_bytes
            spare = round((1 - FILL_TO) * vitals.memory_limit_bytes)
            ripe = [one for one in endings if one.at_ms <= now_ms - self._floor_ms]
            if not ripe or over + spare <= 0:
                break
            chosen = await self._first(functions, ripe, over + spare)
            counts = Counter(one.partition for one in chosen)
            strikes = (
                self._change(GiveUp(partition, chosen[-1].at_ms, most))
                for partition, most in counts.items()
            )
            given_up += sum(await asyncio.gather(*strikes))
        if given_up:
            ANSWERS_GIVEN_UP.inc(given_up)
            log.warning("answers given up", store=functions.endpoint.name, count=given_up)
        if over > 0:
            refusal = StoreFull(str(full))
            refusal.retry_after_s = self._floor_ms / 1000  # at the earliest, if nothing ended
            if endings:
                last = (await self._first(functions, endings, over))[-1]
                refusal.retry_after_s = max(0, last.at_ms + self._floor_ms - now_ms) / 1000
            raise refusal

    async def _settled(self, functions: Functions) -> Vitals:
        """The server's vitals once deleted data is freed, which another thread of the server
        does.
        """
        until_s = asyncio.get_running_loop().time() + FREED_WITHIN_S
        while True:
            info = await functions.ask("INFO", "memory", "replication")
            is_late = asyncio.get_running_loop().time() >= until_s
            if is_late or "lazyfree_pending_objects:0" in info:
                return vitals_from(info)
            await asyncio.sleep(FREED_WITHIN_S / 100)

    async def _endings(self, functions: Functions) -> tuple[int, list[Ending]]:
        """The server's clock, and what has ended there: the first of each partition, in order."""
        partitions = [i for i, link in enumerate(self._functions) if link is functions]
        time, *pages = await asyncio.gather(
            functions.ask("TIME"),
            *(
                functions.ask("ZRANGE", ended_key(partition), 0, BATCH - 1, "WITHSCORES")
                for partition in partitions
            ),
        )
        endings = (
            Ending(int(page[i + 1]), partition, page[i])
            for partition, page in zip(partitions, pages, strict=True)
            for i in range(0, len(page), 2)
        )
        return self._now_ms() or int(time[0]) * 1000 + int(time[1]) // 1000, sorted(endings)

    async def _first(
        self, functions: Functions, endings: Sequence[Ending], wanted_bytes: int
    ) -> list[Ending]:
        """The first endings that together have ``wanted_bytes``, at least one."""
        some = endings[:BATCH]
        sizes = await asyncio.gather(
            *(functions.ask("MEMORY", "USAGE", log_key(one.request_id)) for one in some)
        )
        chosen: list[Ending] = []
        for ending, size in zip(some, sizes, strict=True):
            chosen.append(ending)
            wanted_bytes -= size or 0
            if wanted_bytes <= 0:
                break
        return chosen

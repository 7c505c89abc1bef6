"""How a request goes on and ends: the calls of ``lua/life.lua``."""

import asyncio
from collections.abc import Sequence
from heapq import nsmallest

from lore.protocol.commands import Finish
from lore.protocol.lifecycle import LIVE
from lore.store.base import Outcome, Position, View, Vitals
from lore.store.codec import VIEW_FIELDS, position_from, view_from, vitals_from, worst_of
from lore.store.keys import partition_keys, request_key
from lore.store.valkey.calls import answers
from lore.store.valkey.room import FIRST_VERSION, Room

LOOKS_AT_ONCE = 50
"""Of one that looks at all: the rest of the connection is for others, and refuses what is more."""


class Life(Room):
    async def view(self, request_id: str) -> View | None:
        return view_from(
            await self._of(request_id).ask("HMGET", request_key(request_id), *VIEW_FIELDS)
        )

    async def body(self, request_id: str) -> str | None:
        return await self._of(request_id).ask("HGET", request_key(request_id), "body")

    async def live(self, *, limit: int = 1000) -> list[View]:
        pages = await answers(
            functions.ask("ZRANGE", partition_keys(partition)[2], 0, limit - 1, "WITHSCORES")
            for partition, functions in enumerate(self._functions)
        )
        scored = (
            (int(page[i + 1]), page[i]) for page in pages if page for i in range(0, len(page), 2)
        )
        turns = asyncio.Semaphore(LOOKS_AT_ONCE)

        async def look(request_id: str) -> View | None:
            async with turns:
                return await self.view(request_id)

        views = await answers(look(request_id) for _, request_id in nsmallest(limit, scored))
        return [view for view in views if view and view.status in LIVE]

    async def vitals(self) -> Vitals:
        servers = dict.fromkeys(self._functions)
        found = await answers(server.ask("INFO", "memory", "replication") for server in servers)
        return worst_of([vitals_from(info) for info in found if info])

    async def ack(self, request_id: str, seq: int, *, subject: str | None = None) -> Position:
        return await self._change("lore_ack", request_id, seq, *_given(subject))

    async def cancel(
        self, request_id: str, *, retention_ms: int, subject: str | None = None
    ) -> Position:
        return await self._change("lore_cancel", request_id, retention_ms, *_given(subject))

    async def forget(self, request_id: str, *, subject: str | None = None) -> Position:
        return await self._change("lore_forget", request_id, *_given(subject))

    async def revive(self, request_id: str, *, subject: str | None = None) -> Position:
        return await self._begin(
            self._of(request_id),
            lambda: self._change("lore_revive", request_id, *_given(subject)),
        )

    async def prompt(self, request_id: str, owner: str, epoch: int, prompt_tokens: int) -> Position:
        if self._of(request_id).version < FIRST_VERSION:
            return Position(Outcome.OK, None)  # nothing is decided by it
        return await self._change("lore_prompt", request_id, owner, epoch, prompt_tokens)

    async def finish(self, command: Finish) -> Position:
        return await self._change("lore_finish", *command, self._of(command.request_id).run_id)

    async def renew(
        self, partition: int, owner: str, leases: Sequence[tuple[str, int, str]], *, lease_ms: int
    ) -> list[Position]:
        keys = (*partition_keys(partition), *(request_key(lease[0]) for lease in leases))
        claims = (part for _, epoch, log_id in leases for part in (epoch, log_id))
        functions = self._functions[partition]
        positions = await functions.fcall(
            "lore_renew",
            keys,
            self._now_ms(),
            owner,
            lease_ms,
            functions.run_id,
            *claims,
        )
        return [position_from(position) for position in positions]

    async def release(
        self,
        request_id: str,
        owner: str,
        epoch: int,
        *,
        failed: bool = False,
        silent: bool = False,
    ) -> Position:
        why = ("silent",) if silent else ("failed",) if failed else ()
        return await self._change("lore_release", request_id, owner, epoch, *why)

    async def reap(self, request_id: str, *, idle_ms: int, retention_ms: int) -> Position:
        return await self._change("lore_reap", request_id, idle_ms, retention_ms)


def _given(subject: str | None) -> tuple[str, ...]:
    return () if subject is None else (subject,)

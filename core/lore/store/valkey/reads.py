"""Reads of requests and of their servers, with plain commands."""

import asyncio
from heapq import nsmallest

from lore.protocol.chunk import Chunk
from lore.protocol.lifecycle import LIVE
from lore.store.base import ChunkMessage, View, Vitals
from lore.store.keys import log_key, partition_keys, request_key
from lore.store.valkey.calls import FunctionCalls, answers
from lore.store.valkey.client.replicas import Command, Replicas, is_whole
from lore.store.valkey.codec import (
    VIEW_FIELDS,
    chunk_from,
    chunk_messages_from,
    view_from,
    vitals_from,
    worst_of,
)

LOG_PAGE = 1000
LOOKS_AT_ONCE = 50
"""How many requests one listing reads at a time. The rest of the connection is for other calls,
which it would otherwise refuse.
"""


class Reads(FunctionCalls):
    _replicas: Replicas | None

    async def view(self, request_id: str) -> View | None:
        command = ("HMGET", request_key(request_id), *VIEW_FIELDS)
        return await self._of(request_id).ask(*command, parse=view_from)

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

    async def queue_depth(self) -> int:
        counts = await asyncio.gather(
            *(
                functions.ask("ZCARD", partition_keys(partition)[0])
                for partition, functions in enumerate(self._functions)
            )
        )
        return sum(counts)

    async def read(
        self, request_id: str, *, after: int, limit: int = 1000, known: View | None = None
    ) -> list[ChunkMessage]:
        command = _range(request_id, after, limit)
        if known is not None and self._replicas is not None:
            found = await self._replicas.entries(self._of(request_id), command)
            page = chunk_messages_from(found or ())
            if is_whole(page, after, limit, known):
                return page
        return await self._of(request_id).ask(*command, parse=chunk_messages_from)

    async def log(self, request_id: str) -> list[Chunk]:
        chunks: list[Chunk] = []
        while True:
            command = _range(request_id, len(chunks), LOG_PAGE)
            page = await self._of(request_id).ask(*command)
            chunks += map(chunk_from, page)
            if len(page) < LOG_PAGE:
                return chunks


def _range(request_id: str, after: int, limit: int) -> Command:
    return ("XRANGE", log_key(request_id), f"{max(0, after) + 1}-0", "+", "COUNT", limit)

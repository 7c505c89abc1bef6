"""What is appended and read: the calls of ``lua/log.lua``."""

import asyncio
from collections.abc import Sequence
from typing import Any

from lore.protocol.chunk import Chunk
from lore.store.base import ChunkMessage, Position, View
from lore.store.codec import chunk_arguments, chunk_from, chunk_message_from
from lore.store.keys import log_key, partition_of, request_key
from lore.store.valkey.appends import Appends
from lore.store.valkey.calls import Calls
from lore.store.valkey.replicas import Command, Replicas, is_whole

LOG_PAGE = 1000


class Log(Calls):
    _appends: Appends
    _replicas: Replicas | None

    async def read(
        self, request_id: str, *, after: int, limit: int = 1000, known: View | None = None
    ) -> list[ChunkMessage]:
        if known is not None and self._replicas is not None:
            command = _range(request_id, after, limit)
            found = await self._replicas.entries(self._of(request_id), command)
            page = [chunk_message_from(entry) for entry in found or ()]
            if is_whole(page, after, limit, known):
                return page
        entries = await self._entries(request_id, after, limit)
        return [chunk_message_from(entry) for entry in entries]

    async def log(self, request_id: str) -> list[Chunk]:
        chunks: list[Chunk] = []
        while True:
            page = await self._entries(request_id, len(chunks), LOG_PAGE)
            chunks += map(chunk_from, page)
            if len(page) < LOG_PAGE:
                return chunks

    async def _entries(self, request_id: str, after: int, limit: int) -> list[Any]:
        return await self._of(request_id).ask(*_range(request_id, after, limit))

    def append(
        self,
        request_id: str,
        owner: str,
        epoch: int,
        chunks: Sequence[Chunk],
        *,
        log_id: str,
        window: int,
        reopen_tokens: int,
        lease_ms: int,
    ) -> asyncio.Future[Position]:
        keys = request_key(request_id), log_key(request_id)
        head = [epoch, log_id, window, reopen_tokens, len(chunks)]
        arguments = head + chunk_arguments(chunks)
        return self._appends.add(partition_of(request_id), owner, lease_ms, keys, arguments)

    async def reinstate(
        self, view: View, body: str, chunks: Sequence[Chunk], *, lease_ms: int
    ) -> Position:
        functions = self._of(view.request_id)
        return await self._change(
            "lore_reinstate",
            view.request_id,
            view.owner,
            view.epoch,
            view.log_id,
            view.forks,
            "1" if functions.version >= 6 else "",  # who hears epochs
            view.subject,
            body,
            view.fingerprint,
            view.ack,
            view.window,
            view.acked_seq,
            view.acked_tokens,
            view.prompt_tokens,
            view.created_ms,
            view.started_ms,
            chunks[-1].tokens if chunks else 0,
            len(chunks) + 1,
            lease_ms,
            functions.run_id,
            *chunk_arguments(chunks),
            *(("traceparent", view.trace) if view.trace else ()),
        )


def _range(request_id: str, after: int, limit: int) -> Command:
    return ("XRANGE", log_key(request_id), f"{max(0, after) + 1}-0", "+", "COUNT", limit)

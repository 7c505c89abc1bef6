"""The store in Valkey: every change is one call of a function of the library in ``lua``."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from heapq import nsmallest
from typing import Any

from lore.protocol.chunk import Chunk
from lore.protocol.lifecycle import LIVE, Status
from lore.store.base import (
    Admission,
    ChunkMessage,
    Claimed,
    Limits,
    Listener,
    NewRequest,
    Opened,
    Outcome,
    OwnerListener,
    Position,
    View,
    WakeListener,
)
from lore.store.codec import (
    VIEW_FIELDS,
    admission_from,
    chunk_arguments,
    chunk_from,
    chunk_message_from,
    position_from,
    view_from,
)
from lore.store.connection import Endpoint
from lore.store.functions import Functions
from lore.store.keys import (
    PARTITIONS,
    WAKE_CHANNEL,
    client_keys,
    log_key,
    owner_channel,
    partition_keys,
    partition_of,
    reader_channel,
    request_key,
)
from lore.store.subscriptions import (
    OwnerHandler,
    ReaderHandler,
    Subscriptions,
    WakeHandler,
)

LOG_PAGE = 1000


def _keys(request_id: str) -> tuple[str, ...]:
    """The keys that a function on one request takes: r, c, q, lease, live."""
    return (
        request_key(request_id),
        log_key(request_id),
        *partition_keys(partition_of(request_id)),
    )


def _given(subject: str | None) -> tuple[str, ...]:
    return () if subject is None else (subject,)


class ValkeyStore:
    """A ``Store`` on two connections: one for calls, one for subscriptions."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 5.0,
        max_in_flight: int = 10_000,
        clock_ms: Callable[[], int] | None = None,
    ) -> None:
        """``clock_ms`` stands in for the server's clock in tests.

        Raises ValueError for a URL that cannot be one.
        """
        endpoint = Endpoint(url)
        self._functions = Functions(endpoint, timeout_s=timeout_s, max_in_flight=max_in_flight)
        self._subscriptions = Subscriptions(
            endpoint, timeout_s=timeout_s, max_in_flight=max_in_flight
        )
        self._now_ms = clock_ms or (lambda: 0)  # 0 lets the server look at its own
        self._guards: dict[str, OwnerHandler] = {}

    @property
    def run_id(self) -> str:
        return self._functions.run_id

    async def connect(self) -> None:
        await self._functions.connect()
        try:
            await self._subscriptions.connect()
        except BaseException:
            await self._functions.close()
            raise

    async def close(self) -> None:
        await self._subscriptions.close()
        await self._functions.close()

    async def _change(self, name: str, request_id: str, *args: str | int) -> Position:
        return position_from(
            await self._functions.fcall(name, _keys(request_id), self._now_ms(), *args)
        )

    # readers' side

    async def admit(
        self, client: str, request_id: str, limits: Limits, *, tokens: int = 0, quantum_ms: int = 0
    ) -> Admission:
        reply = await self._functions.fcall(
            "lore_admit",
            client_keys(client),
            self._now_ms(),
            request_id,
            limits.streams,
            quantum_ms,
            limits.requests_per_minute,
            limits.tokens_per_minute,
            tokens,
        )
        return admission_from(reply)

    async def settle(self, client: str, used_tokens: Mapping[str, int | None]) -> None:
        ended = (
            part
            for request_id, used in used_tokens.items()
            for part in (request_id, "" if used is None else used)
        )
        await self._functions.fcall("lore_settle", client_keys(client), self._now_ms(), *ended)

    async def leave(self, client: str, request_id: str) -> None:
        await self._functions.fcall("lore_leave", client_keys(client), self._now_ms(), request_id)

    async def open(self, new: NewRequest, *, queue_limit: int) -> Opened:
        outcome, created, *values = await self._functions.fcall(
            "lore_open",
            _keys(new.request_id),
            self._now_ms(),
            queue_limit,
            self._functions.run_id,
            new.request_id,
            new.subject,
            new.body,
            new.fingerprint,
            new.ack,
            new.window,
            *VIEW_FIELDS,
            *(("place", new.place_ms) if new.place_ms else ()),
            *(("ahead", new.ahead) if new.ahead else ()),
        )
        return Opened(Outcome(outcome), bool(created), view_from(values) if values else None)

    async def view(self, request_id: str) -> View | None:
        return view_from(await self._functions.call("HMGET", request_key(request_id), *VIEW_FIELDS))

    async def body(self, request_id: str) -> str | None:
        return await self._functions.call("HGET", request_key(request_id), "body")

    async def read(self, request_id: str, *, after: int, limit: int = 1000) -> list[ChunkMessage]:
        entries = await self._entries(request_id, after, limit)
        return [chunk_message_from(entry) for entry in entries]

    async def _entries(self, request_id: str, after: int, limit: int) -> list[Any]:
        first = f"{max(0, after) + 1}-0"
        return await self._functions.call("XRANGE", log_key(request_id), first, "+", "COUNT", limit)

    async def ack(self, request_id: str, seq: int, *, subject: str | None = None) -> Position:
        return await self._change("lore_ack", request_id, seq, *_given(subject))

    async def cancel(
        self, request_id: str, *, retention_ms: int, subject: str | None = None
    ) -> Position:
        return await self._change("lore_cancel", request_id, retention_ms, *_given(subject))

    async def revive(self, request_id: str, *, subject: str | None = None) -> Position:
        return await self._change("lore_revive", request_id, *_given(subject))

    async def forget(self, request_id: str, *, subject: str | None = None) -> Position:
        return await self._change("lore_forget", request_id, *_given(subject))

    async def follow(self, request_id: str, listener: Listener) -> None:
        await self._subscriptions.subscribe(reader_channel(request_id), ReaderHandler(listener))

    async def unfollow(self, request_id: str, listener: Listener) -> None:
        self._subscriptions.unsubscribe(reader_channel(request_id), ReaderHandler(listener))

    # generators' side

    async def claim(
        self, partition: int, owner: str, *, lease_ms: int, untried: bool = False
    ) -> Claimed | None:
        run_id = self.run_id
        values = await self._functions.fcall(
            "lore_claim",
            partition_keys(partition),
            self._now_ms(),
            owner,
            lease_ms,
            run_id,
            "body",
            *VIEW_FIELDS,
            *(("untried",) if untried else ()),
        )
        if values is None:
            return None
        body, *fields = values
        view = view_from(fields)
        assert view is not None
        return Claimed(view, body, run_id)

    async def log(self, request_id: str) -> list[Chunk]:
        chunks: list[Chunk] = []
        while True:
            page = await self._entries(request_id, len(chunks), LOG_PAGE)
            chunks += map(chunk_from, page)
            if len(page) < LOG_PAGE:
                return chunks

    async def append(
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
    ) -> Position:
        return await self._change(
            "lore_append",
            request_id,
            owner,
            epoch,
            log_id,
            window,
            reopen_tokens,
            lease_ms,
            self._functions.run_id,
            *chunk_arguments(chunks),
        )

    async def finish(
        self,
        request_id: str,
        owner: str,
        epoch: int,
        next_seq: int,
        *,
        log_id: str,
        status: Status,
        finish_reason: str,
        error: str = "",
        prompt_tokens: int = 0,
        retention_ms: int,
    ) -> Position:
        return await self._change(
            "lore_finish",
            request_id,
            owner,
            epoch,
            next_seq,
            status,
            finish_reason,
            error,
            prompt_tokens,
            retention_ms,
            log_id,
            self._functions.run_id,
        )

    async def renew(
        self, partition: int, owner: str, leases: Sequence[tuple[str, int, str]], *, lease_ms: int
    ) -> list[Position]:
        keys = (*partition_keys(partition), *(request_key(lease[0]) for lease in leases))
        claims = (part for _, epoch, log_id in leases for part in (epoch, log_id))
        positions = await self._functions.fcall(
            "lore_renew",
            keys,
            self._now_ms(),
            owner,
            lease_ms,
            self._functions.run_id,
            *claims,
        )
        return [position_from(position) for position in positions]

    async def reinstate(
        self, view: View, body: str, chunks: Sequence[Chunk], *, lease_ms: int
    ) -> Position:
        return await self._change(
            "lore_reinstate",
            view.request_id,
            view.owner,
            view.epoch,
            view.log_id,
            view.parent_log_id,
            view.fork_seq,
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
            self.run_id,
            *chunk_arguments(chunks),
        )

    async def release(
        self, request_id: str, owner: str, epoch: int, *, failed: bool = False
    ) -> Position:
        why = ("failed",) if failed else ()
        return await self._change("lore_release", request_id, owner, epoch, *why)

    async def waiting(self) -> list[tuple[int, int]]:
        now_ms = self._now_ms()
        places = await asyncio.gather(
            *(
                self._functions.fcall("lore_waiting", partition_keys(partition)[:2], now_ms)
                for partition in range(PARTITIONS)
            )
        )
        return sorted((ms, partition) for partition, ms in enumerate(places) if ms is not None)

    async def guard(self, request_id: str, listener: OwnerListener) -> None:
        await self.unguard(request_id)
        self._guards[request_id] = handler = OwnerHandler(listener)
        await self._subscriptions.subscribe(owner_channel(request_id), handler)

    async def unguard(self, request_id: str) -> None:
        if handler := self._guards.pop(request_id, None):
            self._subscriptions.unsubscribe(owner_channel(request_id), handler)

    async def on_wake(self, listener: WakeListener) -> None:
        await self._subscriptions.subscribe(WAKE_CHANNEL, WakeHandler(listener), sharded=False)

    # the fleet's side

    async def reap(self, request_id: str, *, idle_ms: int, retention_ms: int) -> Position:
        return await self._change("lore_reap", request_id, idle_ms, retention_ms)

    async def live(self, *, limit: int = 1000) -> list[View]:
        pages = await asyncio.gather(
            *(
                self._functions.call(
                    "ZRANGE", partition_keys(partition)[2], 0, limit - 1, "WITHSCORES"
                )
                for partition in range(PARTITIONS)
            )
        )
        scored = ((int(page[i + 1]), page[i]) for page in pages for i in range(0, len(page), 2))
        hashes = await asyncio.gather(
            *(
                self._functions.call("HMGET", request_key(request_id), *VIEW_FIELDS)
                for _, request_id in nsmallest(limit, scored)
            )
        )
        return [view for view in map(view_from, hashes) if view and view.status in LIVE]

    async def queue_depth(self) -> int:
        counts = await asyncio.gather(
            *(
                self._functions.call("ZCARD", partition_keys(partition)[0])
                for partition in range(PARTITIONS)
            )
        )
        return sum(counts)

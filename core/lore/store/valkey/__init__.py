"""The store in Valkey: every change is one call of a function of the library in ``lua``, whose
chapters these are."""

import asyncio
from collections.abc import Callable
from typing import Any

from lore.store.base import Listener, OwnerListener, WakeListener
from lore.store.cluster import Cluster
from lore.store.handlers import OwnerHandler, ReaderHandler, WakeHandler
from lore.store.keys import PARTITIONS, owner_channel, partition_of, reader_channel, wake_channel
from lore.store.location import Location
from lore.store.servers import OneServer
from lore.store.valkey.appends import Appends
from lore.store.valkey.directory import Directory
from lore.store.valkey.life import Life
from lore.store.valkey.log import Log
from lore.store.valkey.queue import Queue
from lore.store.valkey.replicas import Replicas

__all__ = ["ValkeyStore"]


class ValkeyStore(Queue, Log, Life, Directory):
    """A ``Store`` on two connections to each primary: one for calls, one for subscriptions."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 5.0,
        max_in_flight: int = 10_000,
        floor_ms: int = 300_000,
        clock_ms: Callable[[], int] | None = None,
    ) -> None:
        """An answer that was read is kept for ``floor_ms`` after its end, however full the store
        is. ``clock_ms`` stands in for the server's clock in tests.

        Raises ValueError for a URL that cannot be one.
        """
        location = Location(url)
        servers = Cluster if location.way == "cluster" else OneServer
        limits: dict[str, Any] = {"timeout_s": timeout_s, "max_in_flight": max_in_flight}
        self._servers = servers(location, **limits)
        self._functions = self._servers.functions
        reads = location.replica_reads
        self._replicas = Replicas(location, self._functions, **limits) if reads else None
        self._subscriptions = self._servers.subscriptions
        self._now_ms = clock_ms or (lambda: 0)  # 0 lets the server look at its own
        self._appends = Appends(self._functions, self._now_ms)
        self._floor_ms = floor_ms
        self._making = {}
        self._guards: dict[str, OwnerHandler] = {}

    def is_ready(self, partition: int) -> bool:
        is_heard = self._subscriptions.is_heard
        return self._functions[partition].is_up and is_heard(wake_channel(partition))

    async def connect(self) -> None:
        await self._servers.connect()

    async def close(self) -> None:
        await self._servers.close()
        if self._replicas is not None:
            await self._replicas.close()

    async def follow(self, request_id: str, listener: Listener) -> None:
        await self._subscriptions.subscribe(
            partition_of(request_id), reader_channel(request_id), ReaderHandler(listener)
        )

    async def unfollow(self, request_id: str, listener: Listener) -> None:
        self._subscriptions.unsubscribe(reader_channel(request_id), ReaderHandler(listener))

    async def guard(self, request_id: str, listener: OwnerListener) -> None:
        await self.unguard(request_id)
        self._guards[request_id] = handler = OwnerHandler(listener)
        await self._subscriptions.subscribe(
            partition_of(request_id), owner_channel(request_id), handler
        )

    async def unguard(self, request_id: str) -> None:
        if handler := self._guards.pop(request_id, None):
            self._subscriptions.unsubscribe(owner_channel(request_id), handler)

    async def on_wake(self, listener: WakeListener) -> None:
        """Also of partitions whose server is away, once it is there."""
        subscribe = self._subscriptions.subscribe
        await asyncio.gather(
            *(
                subscribe(
                    partition,
                    wake_channel(partition),
                    WakeHandler(listener, partition),
                    must_be_up=False,
                )
                for partition in range(PARTITIONS)
            )
        )

"""The store in Valkey: every change is one call of a function of the library in ``lua``."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from lore.store.base import Listener, OwnerListener, WakeListener
from lore.store.keys import (
    PARTITIONS,
    own_channel,
    owner_channel,
    partition_of,
    reader_channel,
    wake_channel,
)
from lore.store.valkey.appends import Appends
from lore.store.valkey.client.cluster import Cluster
from lore.store.valkey.client.location import Location
from lore.store.valkey.client.replicas import Replicas
from lore.store.valkey.client.single import OneServer
from lore.store.valkey.client.subscriptions import Handler
from lore.store.valkey.commands import Commands
from lore.store.valkey.directory import Directory
from lore.store.valkey.handlers import OwnerHandler, OwnHandler, ReaderHandler, WakeHandler
from lore.store.valkey.reads import Reads

__all__ = ["ValkeyStore"]


class ValkeyStore(Commands, Reads, Directory):
    """A ``Store`` with two connections to each primary: for calls and for subscriptions."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 5.0,
        max_in_flight: int = 10_000,
        floor_ms: int = 300_000,
        clock_ms: Callable[[], int] | None = None,
    ) -> None:
        """Answers that were read are kept for at least ``floor_ms`` after their end, however full
        the store is. Tests replace the server's clock by ``clock_ms``.

        Raises ValueError for an invalid URL.
        """
        location = Location(url)
        servers = Cluster if location.way == "cluster" else OneServer
        limits: dict[str, Any] = {"timeout_s": timeout_s, "max_in_flight": max_in_flight}
        self._servers = servers(location, **limits)
        self._functions = self._servers.functions
        reads = location.replica_reads
        self._replicas = Replicas(location, self._functions, **limits) if reads else None
        self._subscriptions = self._servers.subscriptions
        self._now_ms = clock_ms or (lambda: 0)  # 0 makes the server use its own clock
        super().__init__(Appends(self._functions, self._now_ms))
        self._floor_ms = floor_ms
        self._making = {}
        self._owner_channels: dict[str, OwnerHandler] = {}
        self._owner = ""

    def is_ready(self, partition: int) -> bool:
        is_heard, owner = self._subscriptions.is_heard, self._owner
        is_missed = bool(owner) and not is_heard(own_channel(partition, owner))
        is_up = self._functions[partition].is_up
        return is_up and is_heard(wake_channel(partition)) and not is_missed

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

    def unfollow(self, request_id: str, listener: Listener) -> None:
        self._subscriptions.unsubscribe(reader_channel(request_id), ReaderHandler(listener))

    async def subscribe(self, request_id: str, listener: OwnerListener) -> None:
        await self.unsubscribe(request_id)
        self._owner_channels[request_id] = handler = OwnerHandler(listener)
        await self._subscriptions.subscribe(
            partition_of(request_id), owner_channel(request_id), handler
        )

    async def unsubscribe(self, request_id: str) -> None:
        if handler := self._owner_channels.pop(request_id, None):
            self._subscriptions.unsubscribe(owner_channel(request_id), handler)

    async def appear(self, owner: str) -> None:
        self._owner = owner
        await self._everywhere(partial(own_channel, owner=owner), lambda _: OwnHandler())

    async def on_wake(self, listener: WakeListener) -> None:
        """Hear wake-ups. For partitions whose server is away, this begins once it is there."""
        await self._everywhere(wake_channel, partial(WakeHandler, listener))

    async def _everywhere(
        self, name: Callable[[int], str], handler: Callable[[int], Handler]
    ) -> None:
        subscribe = self._subscriptions.subscribe
        await asyncio.gather(
            *(
                subscribe(partition, name(partition), handler(partition), must_be_up=False)
                for partition in range(PARTITIONS)
            )
        )

"""The store in Valkey: every change is one call of a function of the library in ``lua``, whose
chapters these are."""

from collections.abc import Callable

from lore.store.base import Listener, OwnerListener, WakeListener
from lore.store.functions import Functions
from lore.store.keys import WAKE_CHANNEL, owner_channel, reader_channel
from lore.store.location import Location
from lore.store.subscriptions import OwnerHandler, ReaderHandler, Subscriptions, WakeHandler
from lore.store.valkey.life import Life
from lore.store.valkey.log import Log
from lore.store.valkey.queue import Queue

__all__ = ["ValkeyStore"]


class ValkeyStore(Queue, Log, Life):
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
        endpoint = Location(url).endpoint()
        self._functions = Functions(endpoint, timeout_s=timeout_s, max_in_flight=max_in_flight)
        self._subscriptions = Subscriptions(
            endpoint, timeout_s=timeout_s, max_in_flight=max_in_flight
        )
        self._now_ms = clock_ms or (lambda: 0)  # 0 lets the server look at its own
        self._guards: dict[str, OwnerHandler] = {}

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

    async def follow(self, request_id: str, listener: Listener) -> None:
        await self._subscriptions.subscribe(reader_channel(request_id), ReaderHandler(listener))

    async def unfollow(self, request_id: str, listener: Listener) -> None:
        self._subscriptions.unsubscribe(reader_channel(request_id), ReaderHandler(listener))

    async def guard(self, request_id: str, listener: OwnerListener) -> None:
        await self.unguard(request_id)
        self._guards[request_id] = handler = OwnerHandler(listener)
        await self._subscriptions.subscribe(owner_channel(request_id), handler)

    async def unguard(self, request_id: str) -> None:
        if handler := self._guards.pop(request_id, None):
            self._subscriptions.unsubscribe(owner_channel(request_id), handler)

    async def on_wake(self, listener: WakeListener) -> None:
        await self._subscriptions.subscribe(WAKE_CHANNEL, WakeHandler(listener), sharded=False)

"""Which server has which partition, when there is one, or one at a time."""

from typing import Any

from lore.store.functions import Functions
from lore.store.keys import PARTITIONS
from lore.store.location import Location
from lore.store.subscriptions import Subscriber, Subscriptions


class OneServer:
    """A server, or the primary that sentinels name: two connections, one for calls and one for
    what is published. ``functions`` has the one for each partition."""

    def __init__(self, location: Location, **limits: Any) -> None:
        self._functions = Functions(location.endpoint(), **limits)
        self._subscriber = Subscriber(location.endpoint(), **limits)
        self.functions = [self._functions] * PARTITIONS
        self.subscriptions = Subscriptions(
            [self._subscriber] * PARTITIONS, lambda subscriber: subscriber.drop()
        )
        self._subscriber.subscriptions = self.subscriptions
        if location.way == "sentinel":
            # A primary that was replaced may live on for a while, and tells of nothing any more.
            self._functions.on_trouble = self._subscriber.drop

    async def connect(self) -> None:
        """Raises StoreUnavailable when the first attempt fails."""
        await self._functions.connect()
        try:
            await self._subscriber.connect()
        except BaseException:
            await self._functions.close()
            raise

    async def close(self) -> None:
        await self._subscriber.close()
        await self._functions.close()

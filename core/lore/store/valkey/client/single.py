"""The servers of the partitions when there is one server, or one primary at a time."""

from typing import Any

import structlog

from lore.store.keys import PARTITIONS
from lore.store.valkey.client.functions import Functions
from lore.store.valkey.client.location import Location
from lore.store.valkey.client.subscriptions import Subscriber, Subscriptions

log = structlog.get_logger()


class OneServer:
    """A server, or the primary that sentinels name, with two connections: for calls and for
    subscriptions. ``functions`` has the former for each partition.
    """

    def __init__(self, location: Location, **limits: Any) -> None:
        self._functions = Functions(location.endpoint(), **limits)
        self._subscriber = Subscriber(location.endpoint(), **limits)
        self.functions = [self._functions] * PARTITIONS
        self.subscriptions = Subscriptions(
            [self._subscriber] * PARTITIONS, lambda subscriber: subscriber.drop()
        )
        self._subscriber.subscriptions = self.subscriptions
        if location.way == "sentinel":
            # A replaced primary may live on for a while, but publishes nothing any more.
            self._functions.on_trouble = self._subscriber.drop
            self._functions.on_arrival = self._subscriber.on_arrival = self._must_agree

    async def connect(self) -> None:
        """Connect. Raises StoreUnavailable when the first attempt fails."""
        await self._functions.connect()
        try:
            await self._subscriber.connect()
        except BaseException:
            await self._functions.close()
            raise

    def _must_agree(self) -> None:
        """Check that both connections lead to the same primary: sentinels may disagree for a
        moment, and then calls would go to one server and subscriptions to another.
        """
        links = (self._functions, self._subscriber)
        if all(link.is_up for link in links) and len({link.run_id for link in links}) > 1:
            log.warning("sentinels disagree", store=self._functions.endpoint.name)
            for link in links:
                link.drop()  # it is unknown which of the two is right: both ask again

    async def close(self) -> None:
        await self._subscriber.close()
        await self._functions.close()

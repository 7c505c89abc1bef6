"""The servers of the partitions where there is one server, or one primary at a time."""

from typing import Any

import structlog

from lore.store.functions import Functions
from lore.store.keys import PARTITIONS
from lore.store.location import Location
from lore.store.subscriptions import Subscriber, Subscriptions

log = structlog.get_logger()


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
            self._functions.on_arrival = self._subscriber.on_arrival = self._must_agree

    async def connect(self) -> None:
        """Raises StoreUnavailable when the first attempt fails."""
        await self._functions.connect()
        try:
            await self._subscriber.connect()
        except BaseException:
            await self._functions.close()
            raise

    def _must_agree(self) -> None:
        """While one sentinel knows of a new primary and another one does not yet, calls may go to
        one server, and what is published be awaited from the other."""
        links = (self._functions, self._subscriber)
        if all(link.is_up for link in links) and len({link.run_id for link in links}) > 1:
            log.warning("sentinels disagree", store=self._functions.endpoint.name)
            for link in links:
                link.drop()  # nobody knows which of the two is right: both ask again

    async def close(self) -> None:
        await self._subscriber.close()
        await self._functions.close()

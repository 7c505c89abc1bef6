"""All feeds of this edge: one per request that somebody reads here."""

import asyncio

from lore.store.base import Store
from lore_edge.feed import Feed, Follower, UnknownRequest
from lore_edge.settings import EdgeSettings


class Feeds:
    def __init__(self, store: Store, settings: EdgeSettings) -> None:
        self._store = store
        self._settings = settings
        self._feeds: dict[str, Feed] = {}
        self._starts: dict[str, asyncio.Task[None]] = {}
        self._closers: dict[str, asyncio.TimerHandle] = {}
        self._stops: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._feeds)

    async def open(self, request_id: str) -> Feed:
        """The feed of a request, followed from now on for at least a moment.

        Raises UnknownRequest or StoreUnavailable.
        """
        feed = self._feeds.get(request_id)
        if feed is None:
            feed = self._feeds[request_id] = Feed(
                self._store,
                request_id,
                ring_chunks=self._settings.ring_chunks,
                ring_bytes=self._settings.ring_bytes,
            )
            start = asyncio.create_task(self._start(feed))
            start.add_done_callback(_retrieve)
            self._starts[request_id] = start
        start = self._starts.get(request_id)
        if start is not None:
            await asyncio.shield(start)
        if feed.gone:
            raise UnknownRequest
        return feed

    def find(self, request_id: str) -> Feed | None:
        """The feed of a request that is followed here already."""
        return None if request_id in self._starts else self._feeds.get(request_id)

    def join(self, feed: Feed, follower: Follower) -> None:
        """Keep the feed for as long as ``follower`` does not leave."""
        feed.followers.add(follower)
        if (closer := self._closers.pop(feed.request_id, None)) is not None:
            closer.cancel()

    def leave(self, feed: Feed, follower: Follower) -> None:
        feed.followers.discard(follower)
        if not feed.followers:
            self._linger(feed)

    async def close(self) -> None:
        for closer in self._closers.values():
            closer.cancel()
        feeds, self._feeds = list(self._feeds.values()), {}
        for feed in feeds:
            await feed.stop()

    async def _start(self, feed: Feed) -> None:
        try:
            await feed.start()
        except BaseException:
            del self._feeds[feed.request_id]
            raise
        else:
            self._linger(feed)
        finally:
            del self._starts[feed.request_id]

    def _linger(self, feed: Feed) -> None:
        """Keep the feed for a moment: most readers that leave come back at once."""
        loop = asyncio.get_running_loop()
        if (closer := self._closers.pop(feed.request_id, None)) is not None:
            closer.cancel()
        self._closers[feed.request_id] = loop.call_later(self._settings.linger_s, self._drop, feed)

    def _drop(self, feed: Feed) -> None:
        self._closers.pop(feed.request_id, None)
        if self._feeds.get(feed.request_id) is feed and not feed.followers:
            del self._feeds[feed.request_id]
            stop = asyncio.create_task(feed.stop())
            self._stops.add(stop)
            stop.add_done_callback(self._stops.discard)


def _retrieve(task: asyncio.Task[None]) -> None:
    """Its waiters hear of a failure; when they are all gone, nobody needs to."""
    if not task.cancelled():
        task.exception()

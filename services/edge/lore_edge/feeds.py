"""All feeds of this edge: one per request that somebody reads here."""

import asyncio

from lore.store.base import Store
from lore.store.keys import PARTITIONS, partition_of
from lore_edge.feed import Feed
from lore_edge.hearing import LostRequest, UnknownRequest
from lore_edge.settings import EdgeSettings


class Use:
    """A class, because the frame of a generator would be kept for each reader."""

    __slots__ = ("_feeds", "_request_id")

    def __init__(self, feeds: "Feeds", request_id: str) -> None:
        self._feeds = feeds
        self._request_id = request_id

    async def __aenter__(self) -> Feed:
        return await self._feeds.take(self._request_id)

    async def __aexit__(self, *_: object) -> None:
        self._feeds.give_back(self._request_id)


class Feeds:
    def __init__(self, store: Store, settings: EdgeSettings) -> None:
        self._store = store
        self._settings = settings
        self._feeds: dict[str, Feed] = {}
        self._starts: dict[str, asyncio.Task[None]] = {}
        self._users: dict[str, int] = {}
        self._closers: dict[str, asyncio.TimerHandle] = {}
        self._stops: set[asyncio.Task[None]] = set()
        self._run_ids = [""] * PARTITIONS
        self._restored_s = [0.0] * PARTITIONS

    def __len__(self) -> int:
        return len(self._feeds)

    def use(self, request_id: str) -> Use:
        """The feed of a request, kept at least until the end of the block.

        Raises UnknownRequest or StoreUnavailable.
        """
        return Use(self, request_id)

    async def take(self, request_id: str) -> Feed:
        """What ``use`` begins with."""
        # Counted before the first await: a feed must not be dropped while somebody waits for it.
        self._users[request_id] = self._users.get(request_id, 0) + 1
        if (closer := self._closers.pop(request_id, None)) is not None:
            closer.cancel()
        try:
            return await self._open(request_id)
        except BaseException:
            self.give_back(request_id)
            raise

    def give_back(self, request_id: str) -> None:
        """What ``use`` ends with."""
        self._users[request_id] -= 1
        if not self._users[request_id]:
            del self._users[request_id]
            self._linger(request_id)

    def find(self, request_id: str) -> Feed | None:
        """The feed of a request that is followed here already."""
        return None if request_id in self._starts else self._feeds.get(request_id)

    async def close(self) -> None:
        for closer in self._closers.values():
            closer.cancel()
        feeds, self._feeds = list(self._feeds.values()), {}
        for feed in feeds:
            await feed.stop()

    async def _open(self, request_id: str) -> Feed:
        feed = self._feeds.get(request_id)
        if feed is None:
            feed = self._feeds[request_id] = Feed(
                self._store,
                request_id,
                ring_chunks=self._settings.ring_chunks,
                ring_bytes=self._settings.ring_bytes,
                restore_grace_s=self._settings.restore_grace_s,
            )
            start = asyncio.create_task(self._start(feed))
            start.add_done_callback(_retrieve)
            self._starts[request_id] = start
        start = self._starts.get(request_id)
        if start is not None:
            await asyncio.shield(start)
        if feed.gone:
            raise LostRequest if feed.lost else UnknownRequest
        return feed

    async def _start(self, feed: Feed) -> None:
        try:
            await feed.start(wait_s=self._wait_s(partition_of(feed.request_id)))
        except BaseException:
            del self._feeds[feed.request_id]
            raise
        finally:
            del self._starts[feed.request_id]

    def notice_losses(self) -> None:
        """See whether the store may have lost data since this was last called."""
        now = asyncio.get_running_loop().time()
        for partition, before in enumerate(self._run_ids):
            found = self._run_ids[partition] = self._store.run_id(partition)
            if before not in ("", found):  # the first life that is seen is no change
                self._restored_s[partition] = now + self._settings.restore_grace_s

    def _wait_s(self, partition: int) -> float:
        """How long to wait for a request that is not there: a store that has lost its data is
        given back what its generators know (P3)."""
        self.notice_losses()
        return max(0.0, self._restored_s[partition] - asyncio.get_running_loop().time())

    def _linger(self, request_id: str) -> None:
        """Keep an unused feed for a moment: most readers that leave come back at once."""
        if request_id in self._feeds:
            self._closers[request_id] = asyncio.get_running_loop().call_later(
                self._settings.linger_s, self._drop, request_id
            )

    def _drop(self, request_id: str) -> None:
        del self._closers[request_id]
        stop = asyncio.create_task(self._feeds.pop(request_id).stop())
        self._stops.add(stop)
        stop.add_done_callback(self._stops.discard)


def _retrieve(task: asyncio.Task[None]) -> None:
    """Its waiters hear of a failure; when they are all gone, nobody needs to."""
    if not task.cancelled():
        task.exception()

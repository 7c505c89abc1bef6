"""All feeds of this edge, one for each request with a reader.

A feed also belongs to a subject: Bob's calls for Alice's request never reach her feed. His own feed
finds nothing, in the same steps as for an unknown id (A12).
"""

import asyncio

from lore.protocol.follower_types import FollowerConfig
from lore.protocol.restores import Restores
from lore.store.base import Store
from lore.store.keys import PARTITIONS, partition_of
from lore_edge.delivery.feed import Feed, retrieve
from lore_edge.settings import EdgeSettings

Key = tuple[str, str]
"""A request's id, and the subject on whose behalf it is read."""


class Use:
    """The context manager of ``use``. A class, because a generator's frame would be kept for each
    reader.
    """

    __slots__ = ("_feeds", "_key")

    def __init__(self, feeds: "Feeds", key: Key) -> None:
        self._feeds = feeds
        self._key = key

    async def __aenter__(self) -> Feed:
        return await self._feeds.take(self._key)

    async def __aexit__(self, *_: object) -> None:
        self._feeds.give_back(self._key)


class Feeds:
    def __init__(self, store: Store, settings: EdgeSettings) -> None:
        self._store = store
        self._settings = settings
        self._feeds: dict[Key, Feed] = {}
        self._starts: dict[Key, asyncio.Task[None]] = {}
        self._users: dict[Key, int] = {}
        self._closers: dict[Key, asyncio.TimerHandle] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._config = FollowerConfig(
            restore_grace_s=settings.restore_grace_s, look_every_s=settings.heartbeat_s
        )
        self._restores = Restores(settings.restore_grace_s)

    def __len__(self) -> int:
        return len(self._feeds)

    def use(self, request_id: str, subject: str) -> Use:
        """The feed of the subject's request, kept at least until the end of the block.

        Raises StoreUnavailable, and UnknownRequest, also for somebody else's request.
        """
        return Use(self, (request_id, subject))

    async def take(self, key: Key) -> Feed:
        """Get a feed for one more user."""
        # Counted before the first await, so that a feed is not dropped while somebody waits for it.
        self._users[key] = self._users.get(key, 0) + 1
        if (closer := self._closers.pop(key, None)) is not None:
            closer.cancel()
        try:
            return await self._open(key)
        except BaseException:
            self.give_back(key)
            raise

    def give_back(self, key: Key) -> None:
        """Release a feed that ``take`` returned."""
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]
            self._linger(key)

    def find(self, request_id: str, subject: str) -> Feed | None:
        """The feed of a request that is already followed here, or None."""
        key = request_id, subject
        return None if key in self._starts else self._feeds.get(key)

    def close(self) -> None:
        for closer in self._closers.values():
            closer.cancel()
        feeds, self._feeds = list(self._feeds.values()), {}
        for feed in feeds:
            feed.stop()

    async def _open(self, key: Key) -> Feed:
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = Feed(
                self._store,
                *key,
                self._config,
                ring_chunks=self._settings.ring_chunks,
                ring_bytes=self._settings.ring_bytes,
                wait_s=self._wait_s(partition_of(key[0])),
            )
            start = asyncio.create_task(self._start(key, feed))
            start.add_done_callback(retrieve)  # those who wait for it, if any, get its exception
            self._starts[key] = start
        feed.on_readers(some=True)
        start = self._starts.get(key)
        if start is not None:
            await asyncio.shield(start)
        feed.check()
        return feed

    async def _start(self, key: Key, feed: Feed) -> None:
        try:
            await feed.start()
        except BaseException:
            del self._feeds[key]
            raise
        finally:
            del self._starts[key]

    def notice_losses(self) -> None:
        """Check whether the store may have lost data since the last call."""
        now = asyncio.get_running_loop().time()
        for partition in range(PARTITIONS):
            self._restores.notice(partition, self._store.run_id(partition), now)

    def _wait_s(self, partition: int) -> float:
        now = asyncio.get_running_loop().time()
        return self._restores.wait_s(partition, self._store.run_id(partition), now)

    def _linger(self, key: Key) -> None:
        """Keep an unused feed for a moment: most readers that leave come back at once."""
        if (feed := self._feeds.get(key)) is not None:
            feed.on_readers(some=False)
            self._closers[key] = asyncio.get_running_loop().call_later(
                self._settings.linger_s, self._drop, key
            )

    def _drop(self, key: Key) -> None:
        del self._closers[key]
        feed = self._feeds.pop(key)
        if not feed.follower.is_left_unread:
            feed.stop()
            return
        leaving = asyncio.create_task(feed.leave())
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

"""Reads an answer for a caller who wants it whole: the edge itself is the reader.

It acknowledges what it has while the caller's connection is up. So a caller who leaves pauses the
answer after one window, as any reader does (protocol P7, P14, O8).
"""

import asyncio

from lore.protocol.lifecycle import Status
from lore.request import AckKind
from lore.store.base import StoreUnavailable, View
from lore.tracing import Span
from lore_edge.delivery.feed import Feed
from lore_edge.delivery.ring import EncodedChunk
from lore_edge.delivery.waker import Waker
from lore_edge.wire.asgi import Disconnected, Receive, until_disconnect
from lore_edge.wire.errors import UnknownRequest, history_lost, lost

ACK_INTERVAL_S = 0.05
STORE_RETRY_S = 0.5


class _Collector:
    """Listens to a feed (``FeedListener``)."""

    def __init__(self, span: Span) -> None:
        self.waker = Waker()
        self._span = span

    def on_news(self) -> None:
        self.waker.wake()

    def on_chunk(self, piece: EncodedChunk, now: float) -> None:
        del piece, now
        self.waker.wake()

    def on_state(self, status: Status, reason: str) -> None:
        del status
        self._span.event(reason)
        self.waker.wake()

    def on_acked(self, seq: int) -> None:
        pass


async def collect(feed: Feed, receive: Receive, span: Span) -> tuple[View, str]:
    """Return the view and the text of the answer once it has ended.

    Raises Disconnected, UnknownRequest and ApiError 410 ``history_lost`` or ``given_up``.
    """
    collector = _Collector(span)
    feed.readers.add(collector)
    watch = asyncio.create_task(until_disconnect(receive))
    watch.add_done_callback(lambda _: collector.on_news())
    try:
        while not watch.done():
            if feed.follower.gone:
                raise history_lost() if feed.follower.lost else UnknownRequest
            try:
                text = await feed.text() if feed.last_seq is not None else None
                if text is not None:
                    return feed.view, text
                if feed.follower.holes or feed.view.given_up_ms:
                    raise lost(feed.view)
                pause_s = await _go_on(feed)
            except StoreUnavailable:
                pause_s = STORE_RETRY_S
            if pause_s:
                await asyncio.sleep(pause_s)  # for more chunks in an ack, or for the store
            else:
                await collector.waker.wait()
        raise Disconnected
    finally:
        watch.cancel()
        feed.readers.discard(collector)
        collector.waker.cancel()


async def _go_on(feed: Feed) -> float:
    """Keep the answer coming. Returns the seconds until the next call, 0 to wait for news."""
    view = feed.view
    if feed.last_seq is not None:
        return STORE_RETRY_S  # the text could not be read
    if view.status is Status.REAPED and feed.head == view.next_seq - 1:
        await feed.revive()
        return ACK_INTERVAL_S
    if view.ack != AckKind.NONE and feed.head > feed.acked_seq:
        await feed.acknowledge(feed.head)
        return ACK_INTERVAL_S
    return 0.0

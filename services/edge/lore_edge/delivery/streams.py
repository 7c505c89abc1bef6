"""Opens streams, from a GET to a running ``Stream``, and holds all that run here."""

import asyncio
import random
from collections.abc import Iterator

import structlog

from lore.metrics import (
    ANSWERS,
    BLOCKED_CONNECTIONS,
    CONNECTIONS,
    DELIVERY_LAG,
    EDGE_BUFFER_UTILIZATION,
    FEEDS,
    RESUMES,
    STREAMS_ENDED,
    TOKENS_DELIVERED,
)
from lore.protocol.delivery import DeliveryConfig, Opening
from lore.protocol.sender import Sender, SenderConfig
from lore.request import AckKind
from lore.store.base import Store, View
from lore.tracing import Span
from lore_edge.delivery.collect import collect
from lore_edge.delivery.dialect import Dialect, Native
from lore_edge.delivery.feed import Feed
from lore_edge.delivery.feeds import Feeds
from lore_edge.delivery.polls import Polls
from lore_edge.delivery.reader import Reader
from lore_edge.delivery.store_watch import StoreWatch
from lore_edge.delivery.stream import Stream
from lore_edge.delivery.views import stream_url
from lore_edge.delivery.waker import Waker
from lore_edge.settings import EdgeSettings
from lore_edge.wire import call_trace
from lore_edge.wire.asgi import (
    COMMON_HEADERS,
    TRANSPORT,
    Disconnected,
    Headers,
    Receive,
    Scope,
    Send,
    answer,
    read_body,
)
from lore_edge.wire.errors import ApiError, LostRequest, history_lost, lost, store_unavailable
from lore_edge.wire.prefix import prefix_of
from lore_edge.wire.resume import ResumePoint, heartbeat_of, wanted
from lore_edge.wire.sockets import SocketAcks, StreamSocket, notice_death

_log = structlog.get_logger()

AGE_SPREAD = (0.8, 1.2)
HEARTBEATS_PER_SILENCE = 2
BLOCKED_S = 1.0  # a reader that takes no farewell in this time is cut off
CUT_EARLY_S = 1.0  # before the server would cut what is left, with an error


class Streams:
    def __init__(
        self, store: Store, feeds: Feeds, settings: EdgeSettings, sender: SenderConfig
    ) -> None:
        self._feeds = feeds
        self._settings = settings
        self._sender = sender
        self._delivery = DeliveryConfig(
            heartbeat_s=min(settings.heartbeat_s, settings.silence_s / HEARTBEATS_PER_SILENCE)
        )
        self._native = Native(settings.edge_id, settings.silence_s)
        self._open: set[Stream] = set()
        self._staying: set[asyncio.Transport] = set()
        self._draining = False
        self.polls = Polls(feeds, settings, self._native, self.check_open)
        self.store_watch = StoreWatch(store, settings.store_lost_s, self._on_store_lost)

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._open)

    async def serve(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        request_id: str,
        owner: str,
        dialect: Dialect | None = None,
        where: ResumePoint | None = None,
    ) -> None:
        """Answer with the stream of this subject's request, from where the call says, or from
        ``where``.

        Raises ApiError, UnknownRequest or StoreUnavailable before the stream begins.
        """
        self.check_open()
        if scope["method"] == "GET":  # with an unread body, the reader's leaving would go unnoticed
            await read_body(receive, self._settings.max_body_bytes)
        dialect, heartbeat = dialect or self._native, heartbeat_of(scope)
        where = where or wanted(scope)
        try:
            async with self._feeds.use(request_id, owner) as feed:
                stream = await self._begin(scope, send, feed, dialect, where, heartbeat)
                if stream is not None:
                    await self._run(stream, send, scope)
        except LostRequest:
            if where.position:
                call_trace.begin(scope).event("history_lost")
                raise history_lost() from None
            raise

    async def collect(
        self, scope: Scope, receive: Receive, request_id: str, owner: str
    ) -> tuple[View, str]:
        """Return this subject's answer once it has ended, for callers who want it whole.

        Raises ApiError, UnknownRequest, StoreUnavailable, and Disconnected when the caller left.
        """
        self.check_open()
        transport = scope["extensions"][TRANSPORT]
        async with self._feeds.use(request_id, owner) as feed:
            if transport.is_closing():
                raise Disconnected  # a closed socket has no options to set
            notice_death(transport, self._settings.tcp_user_timeout_s)
            span = call_trace.about(scope, feed.view)
            self._staying.add(transport)
            try:
                view, text = await collect(feed, receive, span)
            finally:
                self._staying.discard(transport)
        ANSWERS[view.status].inc()
        TOKENS_DELIVERED.inc(view.generated_tokens)
        return view, text

    async def _begin(
        self,
        scope: Scope,
        send: Send,
        feed: Feed,
        dialect: Dialect,
        where: ResumePoint,
        heartbeat: bytes,
    ) -> Stream | None:
        """Returns the stream; None when there was nothing to stream, and that was answered."""
        waker = Waker()
        span = call_trace.about(scope, feed.view)
        if where.position:
            span.set({"lore.resumed_after": where.position})
        reader = self._reader(feed, dialect, where, waker, span)
        opening = reader.opening(asked=where.position is not None)
        if opening is Opening.LOST:  # this edge may not know the reader's log yet (P4.6)
            await feed.look()
            opening = reader.opening(asked=where.position is not None)
        if opening is Opening.LOST:
            error = lost(feed.view)
            span.event(error.code)
            raise error
        if opening is Opening.COMPLETE:
            await answer(send, 204)
            return None
        if where.position:
            feed.on_resumed(where.position)
            RESUMES[where.said].inc()
        _log.debug("stream opened", after=where.position)
        return self._stream(scope["extensions"][TRANSPORT], reader, waker, heartbeat)

    def check_open(self) -> None:
        """Raises ApiError 503 while readers are sent away, for good or until the store is back."""
        if self.store_watch.is_lost:
            raise store_unavailable()
        if self._draining:
            raise ApiError(
                503, "draining", "this edge is shutting down", headers={"Retry-After": "0"}
            )

    def _on_store_lost(self) -> None:
        leaving = [one for one in self._open if self.store_watch.sends_away(one.opened_at)]
        self.polls.send_away("store_lost", 0.0)  # each next poll may go to any edge
        _log.warning("store lost, readers sent elsewhere", streams=len(leaving))
        loop = asyncio.get_running_loop()
        for stream in leaving:
            delay_s = random.uniform(0, self._settings.drain_spread_s / 2)  # they have waited
            loop.call_later(delay_s, self._send_elsewhere, stream)

    def _send_elsewhere(self, stream: Stream) -> None:
        """Send the reader elsewhere, unless the store is back or the reader has left."""
        if not self.store_watch.is_lost or stream not in self._open:
            return
        if stream.returns:
            stream.leave("store_lost")
        else:
            ANSWERS["cut"].inc()
            stream.socket.abort()

    async def drain(self, spread_s: float) -> None:
        """Send every reader elsewhere, one after the other, within about ``spread_s`` seconds.

        Readers who would take that for the end of the answer stay until the edge has to exit. Then
        they are cut: every client takes an aborted connection for an error (O13).
        """
        self._draining = True
        loop = asyncio.get_running_loop()
        returning = [stream for stream in self._open if stream.returns]
        for stream in returning:
            loop.call_later(random.uniform(0, spread_s), stream.leave)
        self.polls.send_away("drain", spread_s)
        await asyncio.sleep(spread_s)  # the timers above send them away
        blocked = [stream for stream in returning if stream.socket.is_blocked]
        await asyncio.sleep(BLOCKED_S)  # a farewell may be on its way
        for stream in blocked:  # the others are only late, because this edge is short of CPU
            if stream in self._open and stream.socket.is_blocked:
                stream.socket.abort()
        if self._staying:
            settings = self._settings
            rest_s = settings.grace_s - settings.drain_delay_s - spread_s - BLOCKED_S - CUT_EARLY_S
            await asyncio.sleep(max(0.0, rest_s))  # as long as this edge may live
            for transport in self._staying:
                ANSWERS["cut"].inc()
                transport.abort()

    def measure(self) -> None:
        """Set the gauges of how far this edge is behind its readers. Call it often."""
        now = asyncio.get_running_loop().time()
        waiting = blocked = 0
        longest_s = 0.0
        for stream in self._open:
            if stream.socket.is_blocked:  # the reader is slow, not the edge
                blocked += 1
            lag_s = stream.lag_s(now)
            if lag_s is not None:
                waiting += stream.reader.waiting_bytes()
                longest_s = max(longest_s, lag_s)
        room = (len(self._open) - blocked) * self._settings.ring_bytes
        EDGE_BUFFER_UTILIZATION.set(min(1.0, waiting / room) if room else 0.0)
        DELIVERY_LAG.set(longest_s)
        BLOCKED_CONNECTIONS.set(blocked)
        FEEDS.set(len(self._feeds))

    def _reader(
        self, feed: Feed, dialect: Dialect, where: ResumePoint, waker: Waker, span: Span
    ) -> Reader:
        has = where.position or 0
        position = has if where.begin is None else where.begin
        acks = feed.view.ack == AckKind.CLIENT
        return Reader(
            feed,
            dialect,
            self._delivery,
            position=position,
            log_id=where.log_id or feed.view.first_log_id,
            sender=Sender(self._sender, position=position) if acks else None,
            now=asyncio.get_running_loop().time,
            on_news=waker.wake,
            span=span,
            has=has,
        )

    def _stream(
        self, transport: asyncio.Transport, reader: Reader, waker: Waker, heartbeat: bytes
    ) -> Stream:
        settings, feed = self._settings, reader.feed
        if transport.is_closing():
            raise Disconnected  # a closed socket has no options to set
        socket = StreamSocket(transport, buffer_bytes=settings.socket_buffer_bytes)
        socket_acks = None
        if feed.view.ack == AckKind.SOCKET:
            socket_acks = SocketAcks(socket, feed.acknowledge)
        return Stream(reader, socket, waker, socket_acks=socket_acks, heartbeat=heartbeat)

    async def _run(self, stream: Stream, send: Send, scope: Scope) -> None:
        reader, feed, transport = stream.reader, stream.reader.feed, scope["extensions"][TRANSPORT]
        connections = CONNECTIONS[feed.view.ack]
        self._open.add(stream)
        feed.readers.add(reader)
        if not stream.returns:
            self._staying.add(transport)
        connections.inc()
        ageing = self._age(stream)
        try:
            headers = _headers(feed, prefix_of(scope, self._settings))
            await stream.run(send, headers, scope["headers"])
            if stream.is_leaving:
                transport.close()  # else the reader comes back on this connection
        finally:
            if ageing is not None:
                ageing.cancel()
            connections.dec()
            STREAMS_ENDED[stream.end].inc()
            feed.readers.discard(reader)
            self._staying.discard(transport)
            self._open.discard(stream)
        _log.debug("stream ended", seq=reader.position, whole=reader.is_over)

    def _age(self, stream: Stream) -> asyncio.TimerHandle | None:
        """End the stream at about its maximum age, with jitter, so that readers who came together
        do not leave together.
        """
        age_s = self._settings.max_connection_age_s
        if not age_s or not stream.returns:
            return None
        loop = asyncio.get_running_loop()
        return loop.call_later(age_s * random.uniform(*AGE_SPREAD), stream.leave)


def _headers(feed: Feed, prefix: str) -> Headers:
    return [
        *(header for header in COMMON_HEADERS if header[0] != b"cache-control"),
        (b"cache-control", b"no-store, no-transform"),  # compressing proxies would wait for more
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"x-accel-buffering", b"no"),
        (b"x-request-id", feed.request_id.encode()),
        (b"location", stream_url(feed.view, prefix).encode()),
    ]

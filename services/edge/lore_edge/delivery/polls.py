"""Polls: finished responses for readers whose stream is held back on the way (P18).

A poll is one response of known length with what follows a position. It waits if there is nothing
yet.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Any

from lore.metrics import ANSWERS, CHUNKS_SENT, POLLS, POLLS_WAITING, TOKENS_DELIVERED
from lore.protocol.delivery import DeliveryConfig, Opening, Step
from lore.protocol.poll import Poll
from lore.request import AckKind
from lore.store.base import StoreUnavailable
from lore_edge.delivery.dialect import Native, Plain, ending
from lore_edge.delivery.feed import Feed
from lore_edge.delivery.feeds import Feeds
from lore_edge.delivery.reader import Batch, Reader
from lore_edge.delivery.ring import EncodedChunk, shown_ids
from lore_edge.delivery.waker import Waker
from lore_edge.settings import EdgeSettings
from lore_edge.wire import call_trace, sse
from lore_edge.wire.asgi import (
    TRANSPORT,
    Headers,
    Receive,
    Scope,
    Send,
    answer,
    read_body,
    until_disconnect,
)
from lore_edge.wire.errors import LostRequest, history_lost, lost
from lore_edge.wire.resume import ResumePoint, wanted
from lore_edge.wire.sockets import arrival, notice_death

SETTLE_S = 1.0  # so long the peer's TCP gets to acknowledge an answer
_NO_HEARTBEAT = DeliveryConfig(heartbeat_s=float("inf"))


class _Waiting:
    """One poll that waits for its answer."""

    def __init__(self, feed: Feed, where: ResumePoint, wait_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._waker = Waker()
        self._words = Plain()
        self._poll = Poll(self._loop.time(), wait_s)
        self.feed = feed
        self.batches: list[Batch] = []
        self.sent_away = ""
        """The reason, if its reader is to go on elsewhere."""
        self._work: asyncio.Task[None] | None = None
        self.reader = Reader(
            feed,
            self._words,
            _NO_HEARTBEAT,
            position=where.position or 0,
            log_id=where.log_id or feed.view.first_log_id,
            sender=None,
            now=self._loop.time,
            on_news=self._waker.wake,
        )

    def leave(self, reason: str) -> None:
        """Answer now, without waiting for a store that is away."""
        self.sent_away = reason
        if self._work is not None:
            self._work.cancel()

    async def begin(self) -> None:
        """Begin. Raises ApiError 410 for a reader that cannot continue from its position (P4,
        P17).
        """
        if self.reader.opening(asked=True) is Opening.LOST:
            await self.feed.look()  # this edge may not know its log yet
            if self.reader.opening(asked=True) is Opening.LOST:
                raise lost(self.feed.view)

    async def gather(self, receive: Receive) -> bool:
        """Gather text. Returns whether the answer is complete; False when its reader left before.

        Raises ApiError and UnknownRequest.
        """
        work = self._work = asyncio.create_task(self._gather())
        leaving = asyncio.create_task(until_disconnect(receive))
        try:
            await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            leaving.cancel()
        if work.done() and not work.cancelled():
            work.result()
            return True
        return bool(self.sent_away)

    async def _gather(self) -> None:
        reader, poll = self.reader, self._poll
        self.feed.readers.add(reader)
        try:
            while not reader.is_over and poll.room_bytes:
                match step := reader.next():
                    case Step.SEND:
                        self._take()
                    case Step.LOAD:
                        await reader.fetch(step)
                    case Step.LOST | Step.GONE:
                        self._end_early()
                        return
                    case _:
                        if poll.is_due(self._loop.time(), self.feed.view.status):
                            return
                        await self._waker.wait(min(poll.deadline, reader.deadline()))
        finally:
            self.feed.readers.discard(reader)
            self._waker.cancel()

    @property
    def outcome(self) -> str:
        """The label value for ``lore.metrics.POLLS``."""
        if self.sent_away:
            return "sent_away"
        if self.reader.is_over:
            return "end"
        if self.batches:
            return "text"
        return "state" if self._poll.has_state else "nothing"

    def describe(self, native: Native, after: int) -> dict[str, Any]:
        reader, view = self.reader, self.feed.view
        reason = self.sent_away or self._words.reason
        tokens = self.batches[-1].pieces[-1].tokens if self.batches else None
        pieces = [piece for batch in self.batches for piece in batch.pieces]
        scored = [one.as_json() for piece in pieces for one in piece.scored]
        return {
            **({"logprobs": scored} if scored else {}),
            **_ids_of(pieces),
            "request_id": view.request_id,
            "log_id": reader.delivery.log_id,
            "after": after,
            "seq": reader.position,
            "text": b"".join(batch.data for batch in self.batches).decode(),
            "tokens": tokens if self.batches else self.feed.tokens_at(reader.position),
            "state": native.describe(self.feed, None, view.status, reason),
            "end": ending(view) if reader.is_over else None,
        }

    def _take(self) -> None:
        told = bool(self.reader.delivery.states)
        batch = self.reader.take(self._poll.room_bytes)
        if batch.pieces:
            self.batches.append(batch)
        self._poll.on_text(len(batch.data), self._loop.time())
        if told:
            self._poll.on_state()

    def _end_early(self) -> None:
        """Send the text that exists before the error that says that no more will come."""
        if self.batches:
            return
        self.feed.check()
        raise lost(self.feed.view)


class Polls:
    def __init__(
        self, feeds: Feeds, settings: EdgeSettings, native: Native, check_open: Callable[[], None]
    ) -> None:
        """``check_open`` raises ApiError 503 when readers are sent elsewhere."""
        self._feeds = feeds
        self._settings = settings
        self._native = native
        self._check_open = check_open
        self._waiting: set[_Waiting] = set()

    def send_away(self, reason: str, spread_s: float) -> None:
        """Answer each waiting poll within about ``spread_s``, so that its reader goes on
        elsewhere.
        """
        loop = asyncio.get_running_loop()
        for one in self._waiting:
            loop.call_later(random.uniform(0, spread_s), one.leave, reason)

    async def serve(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        request_id: str,
        owner: str,
        wait_s: float,
    ) -> None:
        """Answer this subject's poll. Raises ApiError, UnknownRequest and StoreUnavailable."""
        where = wanted(scope)
        self._check_open()
        await read_body(receive, self._settings.max_body_bytes)
        try:
            async with self._feeds.use(request_id, owner) as feed:
                call_trace.about(scope, feed.view)
                await self._serve(scope, receive, send, _Waiting(feed, where, wait_s), where)
        except LostRequest:
            if where.position:
                raise history_lost() from None
            raise

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, one: _Waiting, where: ResumePoint
    ) -> None:
        transport, feed, after = scope["extensions"][TRANSPORT], one.feed, where.position or 0
        await one.begin()
        if after > feed.acked_seq:
            feed.on_resumed(after)
        if not await self._gathered(one, receive, transport):
            POLLS["left"].inc()
            return
        body = sse.encode_json(one.describe(self._native, after)).encode()
        POLLS[one.outcome].inc()
        if pieces := [piece for batch in one.batches for piece in batch.pieces]:
            CHUNKS_SENT.inc(len(pieces))
            TOKENS_DELIVERED.inc(one.reader.count(pieces[0], pieces[-1]))
        if one.reader.is_over:
            ANSWERS[one.reader.outcome].inc()
        headers: Headers = [(b"x-request-id", feed.request_id.encode())]
        if one.sent_away:
            headers.append((b"connection", b"close"))  # else the reader comes back here
        await answer(send, 200, body, headers)
        if feed.view.ack == AckKind.SOCKET and one.reader.position > feed.acked_seq:
            await _acknowledge(feed, one.reader.position, transport)

    async def _gathered(
        self, one: _Waiting, receive: Receive, transport: asyncio.Transport
    ) -> bool:
        """Return whether the answer is complete; False when its reader left before."""
        if transport.is_closing():
            return False
        notice_death(transport, self._settings.tcp_user_timeout_s)
        waiting = POLLS_WAITING[one.feed.view.ack]
        self._waiting.add(one)
        waiting.inc()
        try:
            return await one.gather(receive)
        finally:
            waiting.dec()
            self._waiting.discard(one)


def _ids_of(pieces: Sequence[EncodedChunk]) -> dict[str, Sequence[int]]:
    """The members that show the token ids of these chunks."""
    if not pieces:
        return {}
    return shown_ids([one for piece in pieces for one in piece.token_ids], pieces[0].prompt_ids)


async def _acknowledge(feed: Feed, seq: int, transport: asyncio.Transport) -> None:
    """Acknowledge what the peer's TCP has, for a reader that cannot (P8.2). Its next poll does so,
    too.
    """
    if await arrival(transport, SETTLE_S):
        with contextlib.suppress(StoreUnavailable):
            await feed.acknowledge(seq)

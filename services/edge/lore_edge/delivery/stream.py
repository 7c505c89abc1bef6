"""A stream: one reader's HTTP response, from the first event to the last.

One task writes. It sleeps until there is news, a chunk must be sent again (protocol P11), it has
been silent for too long, or the reader has left. The most frequent news is the next chunk for a
reader that has all before it and is not blocked. That chunk is written where it is heard, and the
task sleeps on: waking it would cost as much as all the rest.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from lore.metrics import (
    ANSWERS,
    CHUNK_TRANSMISSION,
    CHUNKS_SENT,
    RETRANSMISSIONS,
    TOKENS_DELIVERED,
)
from lore.protocol.delivery import Step
from lore.protocol.sender import Action
from lore.store.base import StoreUnavailable
from lore_edge.delivery.reader import Batch, Reader
from lore_edge.delivery.ring import EncodedChunk
from lore_edge.delivery.waker import Waker
from lore_edge.wire import sse
from lore_edge.wire.asgi import Headers, Send
from lore_edge.wire.sockets import SocketAcks, StreamSocket

MAX_JOINED_BYTES = 16_384
SETTLE_S = 1.0  # so long the peer's TCP gets to acknowledge the end
OPENING_S = 0.8
"""How long the head and the opening wait for the first chunks. After 1 s, clients poll (P18.10)."""
RETRY_MS = {"drain": (100, 1000), "store_lost": (50, 250)}
"""When to come back, in ms. Readers whose edge lost the store have waited already, and leave one by
one.
"""
BROKEN = frozenset({"history_lost", "gone"})


class Stream:
    def __init__(
        self,
        reader: Reader,
        socket: StreamSocket,
        waker: Waker,
        *,
        socket_acks: SocketAcks | None,
        heartbeat: bytes = sse.HEARTBEAT,
    ) -> None:
        self.reader = reader
        self.socket = socket
        self._waker = waker
        self._socket_acks = socket_acks
        self._heartbeat = heartbeat
        self._open: Callable[[], Coroutine[Any, Any, None]] | None = None
        """Sends the head, with what is at hand; None once it is sent."""
        self._opening: asyncio.Task[None] | None = None
        """It does so already, because the store takes long."""
        self._now = asyncio.get_running_loop().time
        self.opened_at = self._now()
        self._began_ms = time.time() * 1000
        self._stood: tuple[int, float] | None = None  # the chunk at which it stands, and since when
        self._gone = False
        self._reason = ""
        self._work: asyncio.Task[None] | None = None
        reader.on_news = waker.wake
        reader.on_chunk = self._on_chunk
        waker.ring(self._on_alarm)
        self._is_acknowledged = reader.sender is not None or socket_acks is not None
        """Whether this edge minds what has arrived; with ack ``none``, nobody does."""

    @property
    def returns(self) -> bool:
        """Whether its reader comes back by itself when told to."""
        return self.reader.dialect.returns

    @property
    def is_leaving(self) -> bool:
        return self.reader.delivery.is_leaving

    @property
    def end(self) -> str:
        """Why it ended (``lore.metrics.STREAMS_ENDED``)."""
        if self._gone:
            return "disconnect"
        if self.is_leaving:
            return "sent_away"
        outcome = self.reader.outcome
        return "unresponsive" if not outcome else "error" if outcome in BROKEN else "end"

    def lag_s(self, now: float) -> float | None:
        """For how many seconds this reader, although it is ready, has got nothing of what there is
        for it; None if it has everything, or is not ready. The caller samples this, so it is
        approximate.
        """
        position, follower = self.reader.delivery.position, self.reader.feed.follower
        last_seq = max(follower.head, follower.view.next_seq - 1)
        if position >= last_seq or self.socket.is_blocked:
            self._stood = None
            return None
        if self._stood is None or self._stood[0] != position:
            self._stood = position, now
        return now - self._stood[1]

    def leave(self, reason: str = "drain") -> None:
        """Tell the reader to come back elsewhere, and end."""
        self._reason = reason
        if self._work is not None:
            self._work.cancel()
            self._work = None  # a second reason to leave must not cancel the farewell
        self.reader.delivery.leave()
        self.reader.span.event("sent_away")
        self._waker.wake()

    async def run(self, send: Send, headers: Headers, asked: Headers) -> None:
        """Write until the answer's end, the reader's disconnect or ``leave``. ``headers``: of the
        response. ``asked``: of the call; they are emptied, because browsers send many, once nobody
        needs them.
        """
        self.socket.watch(self._on_lost)
        self._open = partial(self._begin, send, headers, asked)
        try:
            if (step := self.reader.next()) is Step.LOAD:
                await self._unless_leaving(self.reader.fetch(step), self._now() + OPENING_S)
            await (self._opening or self._open())
            self._opening = None
            while not (self._gone or self.reader.is_over) and await self._step(send):
                pass
            if self._socket_acks is not None and not self._gone:
                await self._socket_acks.settle(SETTLE_S)
            if self.reader.is_over and not self._gone:
                ANSWERS[self.reader.outcome].inc()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self.socket.watch(None)
            if self._socket_acks is not None:
                self._socket_acks.close()
            self._waker.cancel()

    async def _begin(self, send: Send, headers: Headers, asked: Headers) -> None:
        """Write the head, the opening and the chunks at hand at once: each write costs as much as
        tens of chunks.
        """
        reader, batch = self.reader, Batch(b"")
        opening = reader.open()
        if reader.next() is Step.SEND:
            batch = reader.take(MAX_JOINED_BYTES)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        self._open = None
        asked.clear()  # until now, middleware might have read them
        await self._write(send, Batch(opening + batch.data, batch.pieces))

    async def _step(self, send: Send) -> bool:
        """Do the one thing that is due, or wait for the next; False at the end."""
        reader = self.reader
        match step := reader.next():
            case Step.SEND:
                batch = reader.take(MAX_JOINED_BYTES)
                if batch.data:
                    await self._write(send, batch)
                elif batch.pieces:  # this format has no event for them: the reader has them
                    self._on_written(batch.pieces)
            case Step.LOAD | Step.REPEAT | Step.REVIVE:
                await self._unless_leaving(reader.fetch(step))
            case Step.CHECK:
                return await self._retransmit(send)
            case Step.HEARTBEAT:
                await self._write(send, Batch(self._heartbeat))
            case Step.WAIT:
                await self._waker.wait(reader.deadline())
            case Step.FAREWELL:
                await self._write(send, self._farewell())
                return False
            case Step.LOST | Step.GONE:
                await self._write(send, reader.last_word(step))
        return not reader.is_over

    def _on_chunk(self, piece: EncodedChunk, now: float) -> None:
        reader, waker, socket = self.reader, self._waker, self.socket
        delivery, sender = reader.delivery, reader.delivery.sender
        if not (waker.is_waiting and socket.is_idle and delivery.pass_on(piece.seq, now)):
            waker.wake()
            return
        reader.is_level = True
        if data := reader.dialect.chunk(piece):  # nothing at all ends a chunked body
            socket.exchange.write_part(data)
        self._count(piece, piece, 1)
        if sender is not None and sender.timer_from == now:  # it began with this chunk
            waker.set(sender.deadline())

    async def _unless_leaving(
        self, work: Coroutine[Any, Any, None], alarm_at: float | None = None
    ) -> bool:
        """Return whether the work was done: a reader who is sent elsewhere does not wait for a
        store that is away. Nor does a reader hear nothing meanwhile (E5).
        """
        task = self._work = asyncio.current_task()
        self._waker.set(alarm_at or self.reader.delivery.heartbeat_at)
        try:
            await work
        except asyncio.CancelledError:
            if task is None or not self.is_leaving or task.uncancel():
                raise  # the whole call is cancelled
            return False
        finally:
            self._work = None
        return True

    def _on_alarm(self) -> None:
        """Send a heartbeat, or wait on after an alarm that came early, without waking the writing
        task: there are many readers.
        """
        waker, reader = self._waker, self.reader
        if self._work is not None:
            self._fill_silence()
            return
        step = reader.next() if waker.is_waiting and self.socket.is_idle else None
        if step is Step.HEARTBEAT:
            self.socket.exchange.write_part(self._heartbeat)
            self._on_written()
        if step is Step.HEARTBEAT or step is Step.WAIT:
            waker.set(reader.deadline())
        else:
            waker.wake()

    def _fill_silence(self) -> None:
        """The store takes long to answer: send what can be sent without it."""
        delivery = self.reader.delivery
        if self._open is not None:
            self._opening = self._opening or asyncio.create_task(self._open())
        elif self._now() >= delivery.heartbeat_at:
            if self.socket.is_idle:
                self.socket.exchange.write_part(self._heartbeat)
            self._on_written()
        self._waker.set(delivery.heartbeat_at)

    async def _write(self, send: Send, batch: Batch) -> None:
        await send({"type": "http.response.body", "body": batch.data, "more_body": True})
        self._on_written(batch.pieces)

    def _on_written(self, pieces: Sequence[EncodedChunk] = ()) -> None:
        self.reader.delivery.on_written(pieces, self._now())
        if pieces:
            self._count(pieces[0], pieces[-1], len(pieces))

    def _count(self, first: EncodedChunk, last: EncodedChunk, chunks: int) -> None:
        reader = self.reader
        tokens = reader.count(first, last)
        if self._is_acknowledged:
            self.socket.on_written(last.seq)
            if self._socket_acks is not None:
                self._socket_acks.on_written(last.seq, tokens, reader.feed.follower.view.window)
        CHUNKS_SENT.value += chunks
        TOKENS_DELIVERED.value += tokens
        if reader.is_level and last.at_ms >= self._began_ms:  # else it is history
            age_s = time.time() - last.at_ms / 1000
            CHUNK_TRANSMISSION.observe(age_s if age_s > 0 else 0.0, exemplar=reader.span.exemplar)

    # sending again

    async def _retransmit(self, send: Send) -> bool:
        """Send the oldest chunk again, because it is overdue. False when the cap is reached."""
        reader = self.reader
        assert reader.sender is not None
        away = True
        with contextlib.suppress(StoreUnavailable):  # check whether news of its ack was lost
            away = not await self._unless_leaving(reader.feed.look())
        reason = "partial_ack" if reader.sender.knows_of_loss else "timeout"
        arrived = self.socket.arrived()
        action = reader.delivery.on_checked(self._now(), away=away, arrived=arrived)
        if isinstance(action, int) and (piece := await reader.piece(action)) is not None:
            reader.span.event("retransmission", seq=piece.seq)
            pad = sse.padding(reader.delivery.padding_bytes())
            await self._write(send, Batch(piece.data + pad))
            RETRANSMISSIONS[reason].inc()
        return action is not Action.CLOSE

    # the end

    def _farewell(self) -> Batch:
        state = self.reader.state(self.reader.feed.view.status, self._reason)
        return Batch(sse.retry(random.randint(*RETRY_MS[self._reason])) + state)

    def _on_lost(self) -> None:
        self._gone = True
        self._waker.wake()

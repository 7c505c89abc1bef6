"""A stream: one reader's HTTP response, from the first event to the last.

One task writes. It sleeps until there is news, a chunk has to be sent again (protocol
P11), it has been silent for too long, or the reader has left. The most usual news, the next
chunk for a reader who has all before it and takes what it is given, is passed on where it is
heard, and the writing task sleeps on: its turn would cost as much as all the rest.
"""

import asyncio
import random
import time

from lore.metrics import (
    ANSWERS,
    CHUNK_TRANSMISSION,
    CHUNKS_SENT,
    RETRANSMISSIONS,
    TOKENS_DELIVERED,
)
from lore.protocol.sender import Action
from lore.store.base import StoreUnavailable
from lore_edge import sse
from lore_edge.reader import Batch, Reader
from lore_edge.sockets import SocketAcks, StreamSocket
from lore_edge.waker import Waker
from lore_edge.wire import Send

MAX_JOINED_BYTES = 16_384
LOG_RETRY_S = 0.5
SETTLE_S = 1.0  # for the peer's TCP to acknowledge the end
DRAIN_RETRY_MS = (100, 1000)
BROKEN = frozenset({"history_lost", "gone"})


class Stream:
    def __init__(
        self,
        reader: Reader,
        socket: StreamSocket,
        waker: Waker,
        *,
        socket_acks: SocketAcks | None,
        heartbeat_s: float,
    ) -> None:
        self.reader = reader
        self.socket = socket
        self._waker = waker
        self._socket_acks = socket_acks
        self._heartbeat_s = heartbeat_s
        self._now = asyncio.get_running_loop().time
        self._heartbeat_at = 0.0
        self._log_at = 0.0  # not before this is the log read again
        self._began_ms = time.time() * 1000
        self._stood: tuple[int, float] | None = None  # at which chunk, and since when
        self._gone = False
        self._leaving = False
        reader.on_news = self._on_news

    @property
    def returns(self) -> bool:
        """Whether its reader can be told to come back."""
        return self.reader.dialect.returns

    @property
    def is_leaving(self) -> bool:
        return self._leaving

    @property
    def end(self) -> str:
        """Why it ended (``lore.metrics.STREAMS_ENDED``)."""
        if self._gone:
            return "disconnect"
        if self._leaving:
            return "sent_away"
        outcome = self.reader.outcome
        return "unresponsive" if not outcome else "error" if outcome in BROKEN else "end"

    def lag_s(self, now: float) -> float:
        """How long a reader who would take it has had nothing of what there is for it, as far as
        those who ask now and then can tell."""
        reader = self.reader
        last_seq = max(reader.feed.head, reader.feed.view.next_seq - 1)
        if self.socket.is_blocked or reader.position >= last_seq:
            self._stood = None
            return 0.0
        if self._stood is None or self._stood[0] != reader.position:
            self._stood = reader.position, now
        return now - self._stood[1]

    def leave(self) -> None:
        """Tell the reader to come back elsewhere, and end."""
        self._leaving = True
        self.reader.span.event("sent_away")
        self._waker.wake()

    async def run(self, send: Send) -> None:
        """Write until the answer's end, the reader's disconnect or ``leave``."""
        self.socket.watch(self._on_lost)
        try:
            await self._write(send, Batch(self.reader.open(), []))
            while not self._gone and await self._step(send):
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
            self._waker.close()

    async def _step(self, send: Send) -> bool:
        """Do the one thing that is due, or wait for the next; False at the end."""
        reader = self.reader
        if self._leaving:
            await self._write(send, self._farewell())
            return False
        batch = reader.take(MAX_JOINED_BYTES)
        if batch.data:
            await self._write(send, batch)
        if batch.data or reader.is_over:
            return not reader.is_over
        now = self._now()
        if reader.needs_store and now >= self._log_at:
            await self._load()
        elif (due := self._retransmit_at()) is not None and due <= now:
            return await self._retransmit(send)
        elif self._heartbeat_at <= now:
            reader.feed.look_soon()  # so long a silence may be lost news
            await self._write(send, Batch(sse.HEARTBEAT, []))
        else:
            await self._waker.wait(self._next_deadline())
        return True

    def _next_deadline(self) -> float:
        deadlines = [self._heartbeat_at]
        if (due := self._retransmit_at()) is not None:
            deadlines.append(due)
        if self.reader.needs_store:
            deadlines.append(self._log_at)
        return min(deadlines)

    async def _load(self) -> None:
        try:
            loaded = await self.reader.load()
        except StoreUnavailable:
            loaded = False
        if not loaded:
            self._log_at = self._now() + LOG_RETRY_S

    def _on_news(self) -> None:
        piece = None
        if self._waker.is_waiting and self.socket.is_idle:
            piece = self.reader.next_live()
        if piece is None:
            self._waker.wake()
            return
        batch = self.reader.pass_on(piece)
        self.socket.write(batch.data)
        self._on_written(batch)
        if (due := self._retransmit_at()) is not None:
            self._waker.arm(due)

    async def _write(self, send: Send, batch: Batch) -> None:
        await send({"type": "http.response.body", "body": batch.data, "more_body": True})
        self._on_written(batch)

    def _on_written(self, batch: Batch) -> None:
        now = self._now()
        self._heartbeat_at = now + self._heartbeat_s
        pieces = batch.pieces
        self.socket.on_written(len(batch.data), pieces[-1].seq if pieces else None)
        if not pieces:
            return
        if self.reader.sender is not None:
            for piece in pieces:
                self.reader.sender.on_sent(piece.seq, now)
        if self._socket_acks is not None:
            window = self.reader.feed.view.window
            self._socket_acks.on_written(pieces[-1].seq, batch.tokens, window)
        CHUNKS_SENT.inc(len(pieces))
        TOKENS_DELIVERED.inc(batch.tokens)
        last_ms = pieces[-1].at_ms
        if self.reader.is_level and last_ms >= self._began_ms:  # else it is history to this reader
            transmission_s = max(0.0, time.time() - last_ms / 1000)
            CHUNK_TRANSMISSION.observe(transmission_s, exemplar=self.reader.span.exemplar)

    # sending again

    def _retransmit_at(self) -> float | None:
        return self.reader.sender.deadline() if self.reader.sender else None

    async def _retransmit(self, send: Send) -> bool:
        """The oldest chunk is overdue: False when this reader has been told often enough."""
        sender, feed = self.reader.sender, self.reader.feed
        assert sender is not None
        try:
            await feed.look()  # news of its ack may have been lost
            store_away = False
        except StoreUnavailable:
            store_away = True  # no ack can get through: nothing shows that the chunk was lost
        if (seq := sender.oldest) is None:
            return True
        waiting = store_away or self.socket.arrived() < seq
        reason = "partial_ack" if sender.knows_of_loss else "timeout"
        action = sender.on_timer(self._now(), socket_pending=waiting)
        if action is Action.RETRANSMIT and await self._send_again(send, seq):
            RETRANSMISSIONS[reason].inc()
        return action is not Action.CLOSE

    async def _send_again(self, send: Send, seq: int) -> bool:
        feed = self.reader.feed
        piece = feed.piece(seq)
        if piece is None:
            try:
                piece = next(iter(await feed.page(seq - 1, 1)), None)
            except StoreUnavailable:
                return False
        if piece is None or self.reader.lost_history():
            return False
        self.reader.span.event("retransmission", seq=seq)
        await self._write(send, Batch(piece.data, []))
        return True

    # the end

    def _farewell(self) -> Batch:
        state = self.reader.state(self.reader.feed.view.status, "drain")
        return Batch(sse.retry(random.randint(*DRAIN_RETRY_MS)) + state, [])

    def _on_lost(self) -> None:
        self._gone = True
        self._waker.wake()

"""One reader: the next bytes for it.

``Delivery`` decides what they are. A reader that is further behind than the feed's ring, because it
came back or reads slowly, loads a page of the log after it has sent the one before. So it costs the
memory of a page, however far behind it is.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from lore.metrics import ACK_ROUND_TRIP, SLOW_READERS
from lore.protocol.delivery import Delivery, DeliveryConfig, Opening, Step
from lore.protocol.lifecycle import Status
from lore.protocol.sender import Sender
from lore.store.base import StoreUnavailable
from lore.tracing import NOTHING, Span
from lore_edge.delivery.dialect import Dialect
from lore_edge.delivery.feed import Feed
from lore_edge.delivery.ring import EncodedChunk
from lore_edge.wire.errors import GIVEN_UP, GIVEN_UP_CODE, HISTORY_LOST

PAGE_CHUNKS = 256
FIRST_PAGE_CHUNKS = 64  # small, so it is soon sent; the next is read meanwhile
LAST_WORDS = {
    Step.LOST: ("history_lost", "history_lost", HISTORY_LOST),
    Step.GONE: ("gone", "not_found", "the request is no longer kept"),
}
"""For each final step: the outcome, and the code and message of the error."""


class Batch(NamedTuple):
    """Events joined for one write, and the chunks in them."""

    data: bytes
    pieces: Sequence[EncodedChunk] = ()


class Reader:
    """Listens to a feed (``FeedListener``)."""

    def __init__(
        self,
        feed: Feed,
        dialect: Dialect,
        config: DeliveryConfig,
        *,
        position: int,
        log_id: str,
        sender: Sender | None,
        now: Callable[[], float],
        on_news: Callable[[], None],
        span: Span = NOTHING,
        has: int = 0,
    ) -> None:
        """``position``, ``log_id``: the last seq that the reader has, and the log of that seq.
        ``has``: the last seq that the reader has, where ``position`` is earlier because the dialect
        still has to count through what lies between.
        """
        self.feed = feed
        self.dialect = dialect
        self.delivery = Delivery[EncodedChunk](
            config,
            feed.follower,
            position=position,
            log_id=log_id,
            sender=sender,
            returns=dialect.returns,
            repeats_text=dialect.repeats_text,
            now=now(),
            has=has,
        )
        self.on_news = on_news
        self.span = span
        """The span of the reader's call."""
        self.is_over = False
        """Whether the last event was taken."""
        self.outcome = ""
        """How the answer ended according to that event (``lore.metrics.ANSWERS``)."""
        self.is_level = False
        """Whether what was taken last came from the ring: this reader waits for news, not for
        pages.
        """
        self._text = ""
        self._now = now
        self._has_loaded = False
        self._tokens = feed.tokens_at(position)

    @property
    def position(self) -> int:
        return self.delivery.position

    @property
    def sender(self) -> Sender | None:
        return self.delivery.sender

    def opening(self, *, asked: bool) -> Opening:
        return self.delivery.opening(asked=asked)

    # from the feed

    def on_chunk(self, piece: EncodedChunk, now: float) -> None:
        """``Stream`` overrides this."""
        del piece, now
        self.on_news()

    def on_state(self, status: Status, reason: str) -> None:
        self.delivery.on_state(status, reason)
        self.span.event(reason)
        self.on_news()

    def on_acked(self, seq: int) -> None:
        rtt_s, looks = self.delivery.on_acked(seq, self._now())
        if rtt_s is not None:
            ACK_ROUND_TRIP.observe(rtt_s, exemplar=self.span.exemplar)
        if looks:
            self.on_news()

    # what to send

    def next(self) -> Step:
        return self.delivery.next(self._now(), at_hand=self._is_at_hand)

    def deadline(self) -> float:
        return self.delivery.deadline(at_hand=self._is_at_hand)

    @property
    def _is_at_hand(self) -> bool:
        return self.feed.piece(self.position + 1) is not None

    def open(self) -> bytes:
        return self.dialect.open(self.feed, self.sender)

    def state(self, status: Status, reason: str) -> bytes:
        return self.dialect.state(self.feed, self.sender, status, reason)

    def take(self, max_bytes: int) -> Batch:
        """Everything that can be sent now, in order, up to about ``max_bytes``."""
        delivery = self.delivery
        parts = [self.state(*state) for state in delivery.states]
        delivery.states = []
        pieces = self._take_pieces(max_bytes)
        parts += map(self.dialect.chunk, pieces)
        if delivery.is_at_end:
            parts.append(self.dialect.end(self.feed.view, self._text))
            self.is_over, self.outcome = True, self.feed.view.status
        return Batch(b"".join(parts), pieces)

    def last_word(self, step: Step) -> Batch:
        self.outcome, code, message = LAST_WORDS[step]
        if step is Step.LOST and self.feed.view.given_up_ms:
            self.outcome, code, message = GIVEN_UP_CODE, GIVEN_UP_CODE, GIVEN_UP
        self.is_over = True
        self.span.event(self.outcome)
        return Batch(self.dialect.error(code, message, self.position), [])

    async def fetch(self, step: Step) -> None:
        """Carry out LOAD, REPEAT or REVIVE."""
        try:
            if step is Step.LOAD:
                self.delivery.on_page(await self._page(), self._now())
                return
            if step is Step.REPEAT:
                text = await self.feed.text()
                if text is not None:
                    self._text = text
                    self.delivery.on_text()
                    return
            else:
                self.span.event("revive")
                await self.feed.revive()
                if not self.delivery.is_to_revive():
                    return
        except StoreUnavailable:
            pass
        self.delivery.on_nothing(self._now())

    async def _page(self) -> list[EncodedChunk]:
        if self.is_level:
            self.is_level = False
            SLOW_READERS.inc()
            self.span.event("slow_reader", seq=self.position)
        limit = PAGE_CHUNKS if self._has_loaded else FIRST_PAGE_CHUNKS
        page = await self.feed.page(self.position, limit)
        self._has_loaded = True
        return page

    async def piece(self, seq: int) -> EncodedChunk | None:
        """A chunk to send again; None when it cannot be had."""
        piece = self.feed.piece(seq)
        if piece is None:
            try:
                piece = next(iter(await self.feed.page(seq - 1, 1)), None)
            except StoreUnavailable:
                return None
        return None if self.delivery.loses_history() else piece

    def waiting_bytes(self) -> int:
        """The bytes in memory that could be written now."""
        ready = sum(len(piece.data) for piece in self.delivery.loaded)
        return ready + sum(len(piece.data) for piece in self.feed.pieces_after(self.position))

    def _take_pieces(self, max_bytes: int) -> list[EncodedChunk]:
        pieces: list[EncodedChunk] = []
        size = 0
        loaded = self.delivery.loaded
        for piece in loaded:
            if size >= max_bytes:
                break
            pieces.append(piece)
            size += len(piece.data)
            self.is_level = False
        del loaded[: len(pieces)]
        if not loaded:
            after = pieces[-1].seq if pieces else self.position
            for piece in self.feed.pieces_after(after):
                if size >= max_bytes:
                    break
                pieces.append(piece)
                size += len(piece.data)
                self.is_level = True
        if pieces:
            self.delivery.on_taken(pieces[-1].seq)
        return pieces

    def count(self, first: EncodedChunk, last: EncodedChunk) -> int:
        """Count the tokens of what was sent. At a position that a reader named, this edge may not
        know how many came before: the first chunk then counts for none.
        """
        before = first.tokens if self._tokens is None else self._tokens
        self._tokens = last.tokens
        return last.tokens - before

"""A reader: a position in a feed, and what has to be said to it next.

What is in the feed's ring is taken from there. A reader that is further behind, because
it came back or because it reads slowly, loads a page of the log when it has sent the one
before: it costs the memory of a page, however far behind it is.
"""

from collections.abc import Callable
from typing import NamedTuple

from lore.metrics import ACK_ROUND_TRIP, SLOW_READERS
from lore.protocol.lifecycle import Status
from lore.protocol.sender import Sender
from lore.tracing import NOTHING, Span
from lore_edge.dialect import Dialect
from lore_edge.errors import HISTORY_LOST
from lore_edge.feed import Feed
from lore_edge.hearing import PAGE_CHUNKS
from lore_edge.ring import Piece

FIRST_PAGE_CHUNKS = 64  # soon read and encoded: what follows is, while this is on its way
MAX_STATES = 16  # a reader slower than the request's changes of state hears of the latest


class Batch(NamedTuple):
    """Events joined for one write, and the chunks among them."""

    data: bytes
    pieces: list[Piece]
    tokens: int = 0
    """Of those chunks."""


class Reader:
    """A ``Follower``; ``sender`` is None when the reader does not acknowledge by itself."""

    def __init__(
        self,
        feed: Feed,
        dialect: Dialect,
        *,
        position: int,
        log_id: str,
        sender: Sender | None,
        now: Callable[[], float],
        on_news: Callable[[], None],
        span: Span = NOTHING,
    ) -> None:
        self.feed = feed
        self.dialect = dialect
        self.position = position
        """The last seq written on this connection, or had before it."""
        self.sender = sender
        self.on_news = on_news
        self.span = span
        """Of the call that it reads with."""
        self.is_over = False
        """The last event has been taken."""
        self.outcome = ""
        """What that event says of the answer (``lore.metrics.ANSWERS``)."""
        self.is_level = False
        """What was taken last came from the ring: this reader waits for news, and not for pages."""
        self._log_id = log_id
        self._text = None if dialect.repeats_text else ""
        self._now = now
        # Lists, of which one that is empty is a tenth of an empty deque: there are many readers.
        self._states: list[tuple[Status, str]] = []
        self._loaded: list[Piece] = []
        self._has_loaded = False
        self._was_in_ring = False
        self._tokens = feed.tokens_at(position)
        if sender is not None:
            sender.on_ack(feed.acked_seq, now())

    def lost_history(self) -> bool:
        """Whether this reader has text that the log does not have and will not have (P4), or
        needs some that the log lost."""
        view = self.feed.view
        if (self.feed.gone and self.feed.lost) or self.position + 1 in self.feed.holes:
            return True
        if self._log_id != view.log_id:
            if self.position > view.shared(self._log_id):
                return True
            self._log_id = view.log_id
            self._loaded.clear()
        last_seq = self.feed.last_seq
        return last_seq is not None and self.position > last_seq

    def on_state(self, status: Status, reason: str) -> None:
        self._states = [*self._states, (status, reason)][-MAX_STATES:]
        self.span.event(reason)
        self.on_news()

    def on_acked(self, seq: int) -> None:
        if self.sender is None:
            return
        now = self._now()
        rtt_s = self.sender.on_ack(seq, now)
        if rtt_s is not None:
            ACK_ROUND_TRIP.observe(rtt_s, exemplar=self.span.exemplar)
        if (due := self.sender.deadline()) is not None and due <= now:
            self.on_news()  # an ack may show what was lost, too

    def open(self) -> bytes:
        return self.dialect.open(self.feed, self.sender)

    def state(self, status: Status, reason: str) -> bytes:
        return self.dialect.state(self.feed, self.sender, status, reason)

    def take(self, max_bytes: int) -> Batch:
        """Everything that can be sent now, in order, up to about ``max_bytes``."""
        if self.lost_history():
            self.span.event("history_lost")
            return self._last("history_lost", self._error("history_lost", HISTORY_LOST))
        if self.feed.gone:
            return self._last("gone", self._error("not_found", "the request is no longer kept"))
        parts = [self.state(*state) for state in self._states]
        self._states = []
        pieces = self._take_pieces(max_bytes)
        tokens = self._count(pieces)
        parts += map(self.dialect.chunk, pieces)
        if self._text is not None and self.position == self.feed.last_seq:
            parts.append(self.dialect.end(self.feed.view, self._text))
            self.is_over, self.outcome = True, self.feed.view.status
        return Batch(b"".join(parts), pieces, tokens)

    def next_live(self) -> Piece | None:
        """The chunk that has just come, if it is all that there is to say to this reader."""
        feed, seq = self.feed, self.position + 1
        if (
            feed.head != seq
            or self._states
            or self._loaded
            or self._log_id != feed.view.log_id
            or feed.last_seq is not None
            or feed.gone
            or seq in feed.holes
        ):
            return None
        return feed.piece(seq)

    def pass_on(self, piece: Piece) -> Batch:
        """``next_live`` is sent."""
        self.position = piece.seq
        self.is_level = self._was_in_ring = True
        return Batch(self.dialect.chunk(piece), [piece], self._count([piece]))

    @property
    def needs_store(self) -> bool:
        """Nothing more can be sent before ``load``."""
        feed = self.feed
        if self.position == feed.last_seq:
            return self._text is None
        if self._is_to_revive():
            return True
        last_seq = max(feed.head, feed.last_seq or 0)
        return (
            self.position < last_seq and not self._loaded and feed.piece(self.position + 1) is None
        )

    async def load(self) -> bool:
        """Read the next page of the log, or what the end repeats of it, or revive the request;
        False when the store had nothing (yet) to give.

        Raises StoreUnavailable.
        """
        if self.position == self.feed.last_seq:
            self._text = await self.feed.text()
            return self._text is not None
        if self._is_to_revive():
            self.span.event("revive")
            await self.feed.revive()
            return not self._is_to_revive()
        if self._was_in_ring:
            self._was_in_ring = False
            SLOW_READERS.inc()
            self.span.event("slow_reader", seq=self.position)
        limit = PAGE_CHUNKS if self._has_loaded else FIRST_PAGE_CHUNKS
        self._loaded.extend(await self.feed.page(self.position, limit))
        self._has_loaded = True
        return bool(self._loaded)

    def _is_to_revive(self) -> bool:
        """Its generator was taken from it, and this reader, who cannot ask for it back, has all
        there is (P16)."""
        view = self.feed.view
        return (
            view.status is Status.REAPED
            and not self.dialect.returns
            and self.position == view.next_seq - 1
        )

    def waiting_bytes(self) -> int:
        """What could be written now, as far as it is in memory."""
        ready = sum(len(piece.data) for piece in self._loaded)
        return ready + sum(len(piece.data) for piece in self.feed.pieces_after(self.position))

    def _take_pieces(self, max_bytes: int) -> list[Piece]:
        pieces: list[Piece] = []
        size = 0
        self.is_level = not self._loaded
        for piece in self._loaded:
            if size >= max_bytes:
                break
            pieces.append(piece)
            size += len(piece.data)
        del self._loaded[: len(pieces)]
        if not self._loaded:
            after = pieces[-1].seq if pieces else self.position
            for piece in self.feed.pieces_after(after):
                if size >= max_bytes:
                    break
                pieces.append(piece)
                size += len(piece.data)
                self._was_in_ring = True
        if pieces:
            self.position = pieces[-1].seq
        return pieces

    def _count(self, pieces: list[Piece]) -> int:
        """The tokens of what is sent now. A reader who comes back may stand where this edge does
        not know how many came before: of its first chunk none are counted then."""
        if not pieces:
            return 0
        before = pieces[0].tokens if self._tokens is None else self._tokens
        self._tokens = pieces[-1].tokens
        return self._tokens - before

    def _last(self, outcome: str, data: bytes) -> Batch:
        self.is_over, self.outcome = True, outcome
        return Batch(data, [])

    def _error(self, code: str, message: str) -> bytes:
        return self.dialect.error(code, message, self.position)

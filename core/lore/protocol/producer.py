"""The generator's end of one request: pieces in, appends out (protocol P2, P3, P5, P15).

Events come in as method calls with ``now``; what to do comes out of ``outbox(now)`` and
``deadline()``; ``limit`` is the engine's credit. No I/O, no clock.

One append is in flight at a time. Whatever is generated meanwhile joins the next one,
so a slow store makes chunks larger and never a queue longer. An append whose answer was
lost is sent again as it was: the store skips what it has (P2). A store that has less
than this producer believes (a gap, or a position report that lies behind) gets the
missing chunks again, from the ones kept here (P3): all of them in one append, because the
store takes an append for the owner's word that its log then has what readers may have.
"""

from collections.abc import Sequence
from typing import NamedTuple

from lore.protocol.assembly import Assembler, CoalesceConfig
from lore.protocol.chunk import Chunk
from lore.protocol.window import Window


class Due(NamedTuple):
    """One append to send. With a ``finish_reason``, end the request once it is in."""

    chunks: tuple[Chunk, ...]
    window: int
    reopen_tokens: int
    next_seq: int
    finish_reason: str | None


class Producer:
    def __init__(
        self,
        history: Sequence[Chunk],
        window: Window,
        coalesce: CoalesceConfig,
    ) -> None:
        """``history`` is the log as it was at the claim, from seq 1."""
        self.window = window
        self._chunks = list(history)
        self._stored = len(history)  # chunks that the store is known to have
        self._assembler = Assembler(coalesce)
        self._generated = history[-1].tokens if history else 0
        self._finish_reason: str | None = None
        self._in_flight: Due | None = None
        self._told_reopen = 0  # what the store was last told of a closed window
        self.ended = False

    @property
    def limit(self) -> int | None:
        return self.window.limit

    @property
    def finish_reason(self) -> str | None:
        return self._finish_reason

    @property
    def generated_tokens(self) -> int:
        return self._generated

    @property
    def stored(self) -> Sequence[Chunk]:
        """The chunks that the store is known to have had, from seq 1 on."""
        return tuple(self._chunks[: self._stored])

    @property
    def made(self) -> Sequence[Chunk]:
        """All chunks, also those that the store may never have had."""
        return tuple(self._chunks)

    @property
    def is_sending(self) -> bool:
        return self._in_flight is not None

    @property
    def next_seq(self) -> int:
        """The seq that the next new chunk will have."""
        return len(self._chunks) + 1

    def on_piece(self, text: str, token_ids: tuple[int, ...], now: float) -> bool:
        """True when the credit is used up with it."""
        self._generated += len(token_ids)
        self._assembler.add(text, token_ids, now)
        closed = self.window.is_closed(self._generated)
        if closed:
            self.window.on_closed(now)
        return closed

    def on_finish(self, reason: str) -> None:
        """Generation ended; the rest is to be flushed and the request finished."""
        self._finish_reason = reason

    def on_acked(self, acked_tokens: int, now: float) -> None:
        """News of an ack, by whatever way; late news changes nothing."""
        self.window.on_ack(acked_tokens, self._generated, now)

    def on_position(self, next_seq: int, acked_tokens: int, now: float, *, paused: bool) -> None:
        """A renewal was answered: the request is alive in the store, and where it is there.

        A store that lost its tail lies behind, and an end that it lost is said again (P3).
        A closed window that it does not know of (it forgot, or an older append overtook the
        one that told it) is told again: only ``paused`` requests are woken by an ack.
        """
        self._stored = min(next_seq - 1, len(self._chunks))
        self.ended = False
        if not paused:
            self._told_reopen = 0
        self.on_acked(acked_tokens, now)

    def on_appended(self, next_seq: int, acked_tokens: int, now: float) -> None:
        """The append in flight, and the end that went with it, were answered: done, or a gap."""
        sent, self._in_flight = self._in_flight, None
        self._stored = min(next_seq - 1, len(self._chunks))
        if sent is not None and next_seq >= sent.next_seq:
            self._told_reopen = sent.reopen_tokens
            self.ended = sent.finish_reason is not None
        self.on_acked(acked_tokens, now)

    def on_lost(self) -> None:
        """The append in flight got no answer; it may or may not have happened."""
        self._in_flight = None

    def deadline(self) -> float | None:
        """When ``outbox`` will have something if nothing else happens; in the past when it has."""
        if self.ended or self._in_flight is not None:
            return None
        if self._must_flush():
            return float("-inf")
        return self._assembler.deadline()

    def outbox(self, now: float) -> Due | None:
        """What to append now, or None. The caller answers with on_appended or on_lost."""
        due = self.deadline()
        return None if due is None or due > now else self.take(now)

    def take(self, now: float) -> Due:
        """``outbox`` for a caller who has seen that the deadline is over."""
        reopen_tokens = self.window.reopen_tokens(self._generated)
        if self._assembler.pending and (
            reopen_tokens or self._finish_reason is not None or self._is_due(now)
        ):
            self._cut(now)
        self._in_flight = Due(
            chunks=tuple(self._chunks[self._stored :]),
            window=self.window.size,
            reopen_tokens=reopen_tokens if self._finish_reason is None else 0,
            next_seq=self.next_seq,
            finish_reason=self._finish_reason,
        )
        return self._in_flight

    def _must_flush(self) -> bool:
        """Something waits that no coalescing should hold back."""
        if self._finish_reason is not None or self._stored < len(self._chunks):
            return True
        # A closed window is told to the store even when there is no text to go with it:
        # only then does an ack that opens it find its way back.
        return self.window.reopen_tokens(self._generated) not in (0, self._told_reopen)

    def _is_due(self, now: float) -> bool:
        due = self._assembler.deadline()
        return due is not None and due <= now

    def _cut(self, now: float) -> None:
        text, token_ids = self._assembler.take(now)
        tokens = (self._chunks[-1].tokens if self._chunks else 0) + len(token_ids)
        self._chunks.append(Chunk(len(self._chunks) + 1, text, token_ids, tokens))

"""The generator's end of one request: pieces in, appends out (protocol P2, P3, P5, P15).

Events come in as method calls with ``now``, in seconds. ``outbox(now)`` and ``deadline()`` say what
to do and when; ``limit`` is the engine's credit. No I/O, no clock.

One append is in flight at a time. Text that is generated meanwhile joins the next one, so a slow
store makes chunks larger and never a queue longer. An append whose answer was lost is repeated
unchanged: the store skips what it has (P2.2). If the store has less than this producer believes (a
gap, or a position that lies behind), it gets the missing chunks again (P3.2): all of them in one
append, because the store takes an append as the owner's word that its log then has all that readers
may have.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from lore.protocol.assembly import Assembler, CoalesceConfig
from lore.protocol.chunk import Chunk
from lore.protocol.logprobs import Scored
from lore.protocol.window import Window


class Due(NamedTuple):
    """One append to send. If it has a ``finish_reason``, end the request once it is stored."""

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
        *,
        shows_ids: bool = False,
    ) -> None:
        """``history`` is the log as it was at the claim, from seq 1. ``shows_ids``: its readers are
        shown token ids.
        """
        self.window = window
        self._chunks = list(history)
        self._stored = len(history)  # chunks that the store is known to have
        self._assembler = Assembler(coalesce)
        self._scored: tuple[Scored, ...] = ()
        self._prompt_ids: tuple[int, ...] | None = () if shows_ids else None
        self._generated = history[-1].tokens if history else 0
        self._finish_reason: str | None = None
        self._in_flight: Due | None = None
        self._told_reopen = 0  # the ``reopen_tokens`` last reported to the store
        self.ended = False

    @property
    def limit(self) -> int | None:
        return self.window.limit

    @property
    def acked_tokens(self) -> int | None:
        """How many tokens its readers have; None where nobody acknowledges (P8.4)."""
        return self.window.acked_tokens if self.window.size else None

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
        """The seq of the next new chunk."""
        return len(self._chunks) + 1

    def on_prompt(self, prompt_ids: tuple[int, ...]) -> None:
        """The prompt is known, before its first token. A log that has begun has the ids."""
        if self._prompt_ids is not None and not self._chunks:
            self._prompt_ids = prompt_ids

    def on_piece(
        self,
        text: str,
        token_ids: tuple[int, ...],
        now: float,
        scored: tuple[Scored, ...] = (),
    ) -> bool:
        """Return True when the credit is used up with this piece."""
        self._generated += len(token_ids)
        if scored:
            self._scored += scored
        self._assembler.add(text, token_ids, now)
        window = self.window
        if not window.size or self._generated < window.granted:
            return False
        assert self._generated == window.granted, "P5.1: the engine went beyond its credit"
        window.on_closed(now)
        return True

    def on_finish(self, reason: str) -> None:
        """Generation ended: flush the rest, then finish the request."""
        self._finish_reason = reason

    def on_acked(self, acked_tokens: int, now: float) -> None:
        """An ack became known, in any way. Late news changes nothing."""
        self.window.on_ack(acked_tokens, self._generated, now)

    def on_position(self, next_seq: int, acked_tokens: int, now: float, *, paused: bool) -> None:
        """A renewal was answered: the request lives in the store, and this is where its log is.

        If the store lost the log's tail, or an end, it is sent again (P3). If the store does not
        know of a closed window (it forgot, or an older append overtook the report), it is reported
        again: an ack wakes only ``paused`` requests.
        """
        self._stored = min(next_seq - 1, len(self._chunks))
        self.ended = False
        if not paused:
            self._told_reopen = 0
        self.on_acked(acked_tokens, now)

    def on_appended(self, next_seq: int, acked_tokens: int, now: float) -> None:
        """The append in flight, and the end that went with it, were answered: stored, or a gap."""
        sent, self._in_flight = self._in_flight, None
        self._stored = min(next_seq - 1, len(self._chunks))
        if sent is not None and next_seq >= sent.next_seq:
            self._told_reopen = sent.reopen_tokens
            self.ended = sent.finish_reason is not None
        self.on_acked(acked_tokens, now)

    def on_passed(self, acked_tokens: int, now: float) -> None:
        """The append in flight succeeded. A fast path: same effect as ``on_appended``."""
        sent, self._in_flight = self._in_flight, None
        assert sent is not None, "P2.1: an answer belongs to an append"
        self._stored, self._told_reopen = sent.next_seq - 1, 0
        if acked_tokens > self.window.acked_tokens:
            self.window.on_ack(acked_tokens, self._generated, now)

    def on_lost(self) -> None:
        """The append in flight got no answer; it may or may not have been executed."""
        self._in_flight = None

    def deadline(self) -> float | None:
        """When ``outbox`` will have something if nothing else happens; in the past when it has
        now.
        """
        if self.ended or self._in_flight is not None:
            return None
        # These must not wait for coalescing.
        if self._finish_reason is not None or self._stored < len(self._chunks):
            return -math.inf
        window = self.window
        if window.size and self._generated >= window.granted and self._is_to_tell():
            return -math.inf
        due_s = self._assembler.due_s
        return due_s if due_s < math.inf else None

    def outbox(self, now: float) -> Due | None:
        """What to append now, or None. Answer with ``on_appended`` or ``on_lost``."""
        due = self.deadline()
        return None if due is None or due > now else self.take(now)

    def take(self, now: float) -> Due:
        """``outbox`` for a caller who knows that the deadline has passed."""
        window, assembler, ends = self.window, self._assembler, self._finish_reason is not None
        closed = window.size and self._generated >= window.granted
        reopen_tokens = window.reopen_tokens(self._generated) if closed else 0
        is_due = reopen_tokens or ends or assembler.due_s <= now
        if is_due and (assembler.text or assembler.token_ids):
            self._cut(now)
        assert self._in_flight is None, "P2.1: an append waits for the answer to the one before"
        self._in_flight = Due(
            chunks=tuple(self._chunks[self._stored :]),
            window=window.size,
            reopen_tokens=0 if ends else reopen_tokens,
            next_seq=len(self._chunks) + 1,
            finish_reason=self._finish_reason,
        )
        return self._in_flight

    def _is_to_tell(self) -> bool:
        """Whether the store must hear of a closed window. It is reported even without text:
        otherwise no ack that opens it would reach this owner.
        """
        return self.window.reopen_tokens(self._generated) not in (0, self._told_reopen)

    def _cut(self, now: float) -> None:
        text, token_ids = self._assembler.take(now)
        tokens = (self._chunks[-1].tokens if self._chunks else 0) + len(token_ids)
        seq, more = len(self._chunks) + 1, (self._scored, self._prompt_ids)
        self._chunks.append(Chunk(seq, text, token_ids, tokens, *more))
        self._scored, self._prompt_ids = (), self._prompt_ids and ()

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
from dataclasses import dataclass
from typing import NamedTuple

from lore.protocol.chunk import Chunk, make
from lore.protocol.logprobs import Scored
from lore.protocol.window import Window


@dataclass(frozen=True, slots=True)
class CoalesceConfig:
    """How pieces of text are joined into chunks: at once after a pause, else by size or delay.

    The first word decides how fast an answer feels, and slow text gains nothing by waiting. For
    fast text, a chunk per token would cost more than it brings. The engine hands over whole
    characters, so text is never cut here.
    """

    max_delay_s: float = 0.03
    """The minimum time between two chunks, in seconds, unless the second is long enough."""
    max_chars: int = 256


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
        self.generated_tokens = history[-1].tokens if history else 0
        self.finish_reason: str | None = None
        """Why generation ended; None before that."""
        self.ended = False
        """Whether the store has the end."""
        self._chunks = list(history)
        self._stored = len(history)  # chunks that the store is known to have
        self._count = len(history)  # chunks made
        self._coalesce = coalesce
        self._text = ""
        self._token_ids: tuple[int, ...] = ()
        self._scored: tuple[Scored, ...] = ()
        self._prompt_ids: tuple[int, ...] | None = () if shows_ids else None
        self._pending_s: float | None = None
        """Since when a piece has waited to become part of a chunk."""
        self._due_s = math.inf
        """When the waiting text is due; infinite while there is none, or no whole character."""
        self._next_s = -math.inf
        """From when on a short text is due at once."""
        self.is_sending = False
        """Whether an append waits for its answer."""
        self.sent_seq = 0
        """The next seq behind what was sent last."""
        self.sent_end: str | None = None
        """The ``finish_reason`` that was sent with it."""
        self._sent_reopen = 0
        self._told_reopen = 0  # the ``reopen_tokens`` last reported to the store

    @property
    def limit(self) -> int | None:
        return self.window.limit

    @property
    def acked_tokens(self) -> int | None:
        """How many tokens its readers have; None where nobody acknowledges (P8.4)."""
        return self.window.acked_tokens if self.window.size else None

    @property
    def stored(self) -> Sequence[Chunk]:
        """The chunks that the store is known to have had, from seq 1 on."""
        return tuple(self._chunks[: self._stored])

    @property
    def made(self) -> Sequence[Chunk]:
        """All chunks, also those that the store may never have had."""
        return tuple(self._chunks)

    @property
    def next_seq(self) -> int:
        """The seq of the next new chunk."""
        return self._count + 1

    def on_prompt(self, prompt_ids: tuple[int, ...]) -> None:
        """The prompt is known, before its first token. A log that has begun has the ids."""
        if self._prompt_ids is not None and not self._chunks:
            self._prompt_ids = prompt_ids

    def pass_on(
        self, text: str, token_ids: tuple[int, ...], now: float, scored: tuple[Scored, ...]
    ) -> Chunk | None:
        """Take a piece and send it at once, with what has waited for it. A fast path for nearly
        all pieces behind the first: same effect as ``on_piece`` and ``take``. None: it is not
        taken, because something else is to be decided.
        """
        window, count = self.window, self._count
        tokens = self.generated_tokens + len(token_ids)
        if (
            not text
            or now < self._next_s
            or self.is_sending
            or (window.size and tokens >= window.granted)
            or self._stored != count
            or not count
            or self.finish_reason is not None
            or self._prompt_ids is not None
        ):
            return None
        self._count = count = count + 1
        self.generated_tokens, self._next_s = tokens, now + self._coalesce.max_delay_s
        if self._pending_s is not None:
            text, token_ids = self._text + text, self._token_ids + token_ids
            scored = self._scored + scored
            self._clear()
        chunk = make(Chunk, (count, text, token_ids, tokens, scored, None))
        self._chunks.append(chunk)
        self.is_sending, self.sent_seq, self.sent_end, self._sent_reopen = True, count + 1, None, 0
        return chunk

    def on_piece(
        self,
        text: str,
        token_ids: tuple[int, ...],
        now: float,
        scored: tuple[Scored, ...] = (),
    ) -> bool:
        """Return True when the credit is used up with this piece."""
        self.generated_tokens += len(token_ids)
        self._text += text
        self._token_ids += token_ids
        self._scored += scored
        if self._pending_s is None:
            self._pending_s = now
        if text:
            is_long = len(self._text) >= self._coalesce.max_chars
            at_once = is_long or self._pending_s >= self._next_s
            self._due_s = self._pending_s if at_once else self._next_s
        window = self.window
        if not window.size or self.generated_tokens < window.granted:
            return False
        assert self.generated_tokens == window.granted, "P5.1: the engine went beyond its credit"
        window.on_closed(now)
        return True

    def on_finish(self, reason: str) -> None:
        """Generation ended: flush the rest, then finish the request."""
        self.finish_reason = reason

    def on_acked(self, acked_tokens: int, now: float) -> None:
        """An ack became known, in any way. Late news changes nothing."""
        self.window.on_ack(acked_tokens, self.generated_tokens, now)

    def on_position(self, next_seq: int, acked_tokens: int, now: float, *, paused: bool) -> None:
        """A renewal was answered: the request lives in the store, and this is where its log is.

        If the store lost the log's tail, or an end, it is sent again (P3). If the store does not
        know of a closed window (it forgot, or an older append overtook the report), it is reported
        again: an ack wakes only ``paused`` requests.
        """
        self._stored = min(next_seq - 1, self._count)
        self.ended = False
        if not paused:
            self._told_reopen = 0
        self.on_acked(acked_tokens, now)

    def on_appended(self, next_seq: int, acked_tokens: int, now: float) -> None:
        """The append in flight, and the end that went with it, were answered: stored, or a gap."""
        was_sending, self.is_sending = self.is_sending, False
        self._stored = min(next_seq - 1, self._count)
        if was_sending and next_seq >= self.sent_seq:
            self._told_reopen = self._sent_reopen
            self.ended = self.sent_end is not None
        self.on_acked(acked_tokens, now)

    def on_passed(self, acked_tokens: int, now: float) -> bool:
        """The append in flight succeeded. A fast path: same effect as ``on_appended``. Returns
        whether anything more is to be sent, now or later.
        """
        assert self.is_sending, "P2.1: an answer belongs to an append"
        self.is_sending, self._stored, self._told_reopen = False, self.sent_seq - 1, 0
        window = self.window
        if acked_tokens > window.acked_tokens:
            window.on_ack(acked_tokens, self.generated_tokens, now)
        is_closed = window.size and self.generated_tokens >= window.granted
        return bool(is_closed or self.finish_reason is not None or self._due_s < math.inf)

    def on_lost(self) -> None:
        """The append in flight got no answer; it may or may not have been executed."""
        self.is_sending = False

    def deadline(self) -> float | None:
        """When ``outbox`` will have something if nothing else happens; in the past when it has
        now.
        """
        if self.ended or self.is_sending:
            return None
        # These must not wait for coalescing.
        if self.finish_reason is not None or self._stored < self._count:
            return -math.inf
        # The store must hear of a closed window, also without text: otherwise no ack that opens it
        # would reach this owner.
        reopen_tokens = self.window.reopen_tokens(self.generated_tokens)
        if reopen_tokens and reopen_tokens != self._told_reopen:
            return -math.inf
        return self._due_s if self._due_s < math.inf else None

    def outbox(self, now: float) -> Due | None:
        """What to append now, or None. Answer with ``on_appended`` or ``on_lost``."""
        due = self.deadline()
        return None if due is None or due > now else self.take(now)

    def take(self, now: float) -> Due:
        """``outbox`` for a caller who knows that the deadline has passed."""
        ends = self.finish_reason is not None
        reopen_tokens = self.window.reopen_tokens(self.generated_tokens)
        is_due = reopen_tokens or ends or self._due_s <= now
        if is_due and (self._text or self._token_ids):
            self._cut(now)
        assert not self.is_sending, "P2.1: an append waits for the answer to the one before"
        self.is_sending, self.sent_seq = True, self._count + 1
        self.sent_end, self._sent_reopen = self.finish_reason, 0 if ends else reopen_tokens
        chunks = tuple(self._chunks[self._stored :])
        return Due(chunks, self.window.size, self._sent_reopen, self.sent_seq, self.sent_end)

    def _cut(self, now: float) -> None:
        """Make a chunk of everything pending."""
        text, token_ids = self._text, self._token_ids
        tokens = (self._chunks[-1].tokens if self._chunks else 0) + len(token_ids)
        self._count += 1
        more = self._scored, self._prompt_ids
        self._chunks.append(Chunk(self._count, text, token_ids, tokens, *more))
        self._prompt_ids = self._prompt_ids and ()
        self._clear()
        if text:
            self._next_s = now + self._coalesce.max_delay_s

    def _clear(self) -> None:
        """Nothing is pending."""
        self._text, self._token_ids, self._scored = "", (), ()
        self._pending_s, self._due_s = None, math.inf

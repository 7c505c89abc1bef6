"""The reader's end: chunks in, text and acknowledgments out (protocol P1, P9, P11).

Acks are delayed as TCP delays them (RFC 9293 section 3.8.6.3), but sent at once for a duplicate,
for a filled gap and at the end. They carry credit, as QUIC's MAX_STREAM_DATA does, so the window
decides how many are needed: one for each quarter keeps it open for a reader whose round trip it
holds, and a slow stream needs no more. In any case, an ack comes soon enough that the edge does not
take the silence for a loss.
"""

from dataclasses import dataclass

ACKS_PER_WINDOW = 4


def is_worth_an_ack(news_tokens: int, window_tokens: int) -> bool:
    """Whether the tokens that came since the last ack open enough of the window (P9.4)."""
    return news_tokens * ACKS_PER_WINDOW >= window_tokens


@dataclass(frozen=True, slots=True)
class ReceiverConfig:
    window_tokens: int = 32
    """The window's size until the edge says it."""
    ack_delay_s: float = 0.4
    """Less than half a second (RFC 9293), because the edge waits a second and more (P11)."""
    ack_retry_s: float = 0.1
    reorder_limit: int = 256
    """How many chunks to keep that came early. More are dropped, and sent again."""
    gap_timeout_s: float = 3.0
    """After so many seconds with an unfilled gap, reconnect at ``position``."""


class Receiver:
    def __init__(self, config: ReceiverConfig, *, position: int = 0, log_id: str = "") -> None:
        """``position``: the last seq whose text the reader already has. ``log_id``: the log of that
        seq.
        """
        self._config = config
        self.position = position
        self.log_id = log_id
        self.duplicates = 0
        self.tokens = 0
        """The answer's tokens up to ``position``, as far as the edge says them."""
        self._acked_tokens = 0
        self._window_tokens = config.window_tokens
        self._early: dict[int, tuple[str, int, str]] = {}
        self._highest = position  # on this connection; a gap lies below it
        self._gap_since: float | None = None
        self._acked = position
        self._ack_at: float | None = None

    def on_window(self, tokens: int, now: float) -> None:
        """The edge says how large the window is; 0 if there is none."""
        self._window_tokens = tokens or self._window_tokens
        if self.position > self._acked:
            self._schedule_ack(now)

    def on_chunk(
        self, seq: int, text: str, now: float, *, tokens: int = 0, log_id: str = ""
    ) -> str:
        """Take a chunk; return the text that now follows what the reader has.

        ``tokens`` is how many the answer has up to here; an older edge does not say it. ``log_id``
        is the log that the chunk's id names, if any. The reader adopts the log of the last chunk
        that it took, never that of a late one (P4).
        """
        if seq <= self.position or seq in self._early:
            self.duplicates += 1
            if self.position:
                self._ack_at = now
            return ""
        if seq != self.position + 1:
            if len(self._early) < self._config.reorder_limit:
                self._early[seq] = (text, tokens, log_id)
            self._highest = max(self._highest, seq)
            if self._gap_since is None:
                self._gap_since = now
            return ""
        parts = [text]
        self._advance(tokens)
        while (early := self._early.pop(self.position + 1, None)) is not None:
            text, tokens, log_id = early
            self._advance(tokens)
            parts.append(text)
        self.log_id = log_id or self.log_id
        filled = self._gap_since is not None
        if filled:
            self._gap_since = now if self._highest > self.position else None
        self._schedule_ack(now, at_once=filled)
        return "".join(parts)

    def on_text(
        self, seq: int, text: str, now: float, *, tokens: int | None = None, log_id: str = ""
    ) -> str:
        """Take all chunks after ``position`` up to ``seq`` in one piece, as a poll brings them
        (P18).

        Returns the text that now follows what the reader has.
        """
        if seq <= self.position:
            return ""
        self.tokens = tokens or self.tokens + seq - self.position
        self.position, self.log_id = seq, log_id or self.log_id
        self.on_reconnect()
        self._schedule_ack(now)
        return text

    def on_end(self, now: float) -> None:
        """The answer ended: everything is acknowledged at once."""
        if self.position > self._acked:
            self._ack_at = now

    @property
    def gap_deadline(self) -> float | None:
        """When to give up waiting for missing chunks and reconnect, or None without a gap."""
        return None if self._gap_since is None else self._gap_since + self._config.gap_timeout_s

    def on_reconnect(self) -> None:
        """A new connection starts after ``position``."""
        self._early.clear()
        self._highest = self.position
        self._gap_since = None

    def deadline(self) -> float | None:
        """When an ack is due, or None."""
        return self._ack_at

    def take_ack(self, now: float) -> int | None:
        """The seq to acknowledge when an ack is due, else None. If an ack is lost, the next one
        makes up for it: acks are cumulative.
        """
        if self._ack_at is None or now < self._ack_at:
            return None
        self._ack_at = None
        self._acked, self._acked_tokens = self.position, self.tokens
        return self.position

    def on_ack_lost(self, now: float) -> None:
        """The ack did not arrive: it is due again soon."""
        self._ack_at = now + self._config.ack_retry_s

    def _advance(self, tokens: int) -> None:
        self.position += 1
        self.tokens = tokens or self.tokens + 1

    def _schedule_ack(self, now: float, *, at_once: bool = False) -> None:
        news = self.tokens - self._acked_tokens
        if at_once or is_worth_an_ack(news, self._window_tokens):
            self._ack_at = now
        elif self._ack_at is None:
            self._ack_at = now + self._config.ack_delay_s

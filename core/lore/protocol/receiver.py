"""The reader's end: chunks in, text and acknowledgments out (protocol P1, P9, P11).

Acks are delayed as TCP delays them (RFC 9293 section 3.8.6.3): every few chunks or after
a moment, but at once for a duplicate, for a filled gap and at the end.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReceiverConfig:
    ack_every_chunks: int = 8
    ack_delay_s: float = 0.1
    reorder_limit: int = 256
    """Chunks kept that came before their turn; more are dropped and come again."""
    gap_timeout_s: float = 3.0
    """A gap that no retransmission filled for this long: reconnect after ``position``."""


class Receiver:
    def __init__(self, config: ReceiverConfig, *, position: int = 0, log_id: str = "") -> None:
        """``position``: the last seq whose text the reader already has, ``log_id`` of which log."""
        self._config = config
        self.position = position
        self.log_id = log_id
        self.duplicates = 0
        self._early: dict[int, tuple[str, str]] = {}
        self._highest = position  # seen on this connection; a gap is what lies below it
        self._gap_since: float | None = None
        self._acked = position
        self._ack_at: float | None = None

    def on_chunk(self, seq: int, text: str, now: float, *, log_id: str = "") -> str:
        """Take a chunk; return the text that now follows what the reader has.

        ``log_id`` is the log that the chunk's id names, if any. The reader's own becomes that
        of the last chunk it took, never that of a chunk which comes late (P4).
        """
        if seq <= self.position or seq in self._early:
            self.duplicates += 1
            if self.position:
                self._ack_at = now
            return ""
        if seq != self.position + 1:
            if len(self._early) < self._config.reorder_limit:
                self._early[seq] = (text, log_id)
            self._highest = max(self._highest, seq)
            if self._gap_since is None:
                self._gap_since = now
            return ""
        parts = [text]
        self.position = seq
        while (early := self._early.pop(self.position + 1, None)) is not None:
            self.position += 1
            text, log_id = early
            parts.append(text)
        self.log_id = log_id or self.log_id
        filled = self._gap_since is not None
        if filled:
            self._gap_since = now if self._highest > self.position else None
        self._schedule_ack(now, at_once=filled)
        return "".join(parts)

    def on_end(self, now: float) -> None:
        """The answer ended; what is unacknowledged is acknowledged at once."""
        if self.position > self._acked:
            self._ack_at = now

    @property
    def gap_deadline(self) -> float | None:
        """When to give up waiting for missing chunks and reconnect, or None without a gap."""
        return None if self._gap_since is None else self._gap_since + self._config.gap_timeout_s

    def on_reconnect(self) -> None:
        """A new connection serves everything after ``position``."""
        self._early.clear()
        self._highest = self.position
        self._gap_since = None

    def deadline(self) -> float | None:
        """When an ack is due, or None."""
        return self._ack_at

    def take_ack(self, now: float) -> int | None:
        """The seq to acknowledge when an ack is due, else None. An ack that failed to reach
        an edge is made good by the next one: acks are cumulative."""
        if self._ack_at is None or now < self._ack_at:
            return None
        self._ack_at = None
        self._acked = self.position
        return self.position

    def on_ack_lost(self, now: float) -> None:
        """The ack did not arrive; say it again after the usual delay."""
        self._ack_at = now + self._config.ack_delay_s

    def _schedule_ack(self, now: float, *, at_once: bool) -> None:
        if at_once or self.position - self._acked >= self._config.ack_every_chunks:
            self._ack_at = now
        elif self._ack_at is None:
            self._ack_at = now + self._config.ack_delay_s

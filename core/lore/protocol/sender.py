"""The edge's end of one connection: what to send again, and when to give up (protocol P11).

The shell reports what was written and acknowledged. It gets the next deadline, and at that time
what to do. TCP already delivers what was written to a working connection. This finds what TCP
cannot: a proxy that swallowed an event, a page that dropped one, a path that died without a word.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum

from lore.protocol.rtt import RoundTrip, RttConfig


class Action(Enum):
    RETRANSMIT = "retransmit"  # send the chunk Sender.oldest again
    CLOSE = "close"  # the cap is reached: end the connection, and the reader reconnects


@dataclass(frozen=True, slots=True)
class SenderConfig:
    rtt: RttConfig = RttConfig()
    max_retransmits: int = 6


class Sender:
    def __init__(self, config: SenderConfig, *, position: int) -> None:
        """``position`` is the seq after which this reader is served."""
        self._config = config
        self.round_trip = RoundTrip(config.rtt)
        self.position = position
        self.acked = position
        self.retransmits = 0
        self.timer_from = 0.0
        """When the retransmission timer was last started."""
        self._unacked: deque[tuple[int, float]] = deque()  # seq, and when it was first written
        self._attempts = 0
        self._again = position
        """The last seq that was sent twice. It was the oldest then."""
        self._recover = position
        """The last seq sent before the last timeout; everything up to it may be lost."""
        self._resend = False

    @property
    def oldest(self) -> int | None:
        """The oldest seq that was sent here and is not acknowledged."""
        return self._unacked[0][0] if self._unacked else None

    @property
    def knows_of_loss(self) -> bool:
        """Whether an ack has shown that the oldest chunk was lost. Otherwise only its timeout
        tells.
        """
        return self._resend

    def on_sent(self, seq: int, now: float) -> None:
        """Chunk ``seq`` was written for the first time on this connection."""
        self.position = max(self.position, seq)
        if seq <= self.acked:
            return
        if not self._unacked:
            self.timer_from = now
        else:
            assert seq > self._unacked[-1][0], "P1.1: chunks are first sent in their order"
        self._unacked.append((seq, now))

    def on_ack(self, seq: int, now: float) -> float | None:
        """A cumulative ack arrived, at any edge. Late and duplicate ones change nothing.

        Returns the round trip that it measured, in seconds, if it measured one.
        """
        if seq <= self.acked:
            return None
        # Karn's rule: an ack that covers a chunk sent twice gives no round trip, also not for the
        # chunks after it that were sent once.
        is_sample = self._again <= self.acked
        self.acked, sent_at = seq, None
        while self._unacked and self._unacked[0][0] <= seq:
            _, sent_at = self._unacked.popleft()
        if sent_at is None:
            return None
        self._attempts = 0
        self.timer_from = now  # RFC 6298 section 5.3
        # A partial ack (RFC 6582 section 3.2): what was sent with the lost chunk is most likely
        # lost as well. One timeout for each chunk, doubled each time, would take minutes.
        self._resend = bool(self._unacked) and self._unacked[0][0] <= self._recover
        if not is_sample:
            return None
        rtt_s = now - sent_at
        self.round_trip.on_sample(rtt_s)
        return rtt_s

    def on_fork(self, acked: int) -> None:
        """Continue with another log (P4), acknowledged up to ``acked``. Of the old log, only chunks
        that both share were sent here.
        """
        self.acked = min(self.acked, acked)

    def deadline(self) -> float | None:
        """When to call on_timer, or None while nothing waits for an ack."""
        if not self._unacked:
            return None
        return self.timer_from + (0.0 if self._resend else self.round_trip.rto_s)

    def on_timer(self, now: float, *, socket_pending: bool = False) -> Action | None:
        """The deadline passed. ``socket_pending``: bytes still wait in the socket, so what was
        written is late rather than lost, and sending it again would only add to them (P11.5).
        """
        due = self.deadline()
        if due is None or now < due:
            return None
        if socket_pending:
            self.timer_from, self._resend = now, False
            return None
        if not self._resend:
            if self._attempts >= self._config.max_retransmits:
                return Action.CLOSE
            self._attempts += 1
            self._recover = self._unacked[-1][0]
            self.round_trip.on_timeout()
        self._resend = False
        self.retransmits += 1
        self._again = self._unacked[0][0]
        self.timer_from = now
        return Action.RETRANSMIT

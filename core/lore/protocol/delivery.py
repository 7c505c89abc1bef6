"""What to do next for one reader's stream of a followed request (P4, P10, P11, P12).

The shell asks ``next``, does what it says, and reports what was written and acknowledged. Chunks at
hand (just arrived or just read) go out from memory. A reader gets the rest from the log, in pages,
at its own pace.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, TypeVar

from lore.protocol.follower import Follower
from lore.protocol.follower_types import REASONS
from lore.protocol.lifecycle import LIVE, Status
from lore.protocol.sender import Action, Sender

PADS_BYTES = (16_384, 65_536, 65_536, 65_536)
"""The padding behind a chunk that is sent again (P11.7, P11.8), in bytes: more than proxies hold
back. A connection gets no more than this.
"""
MAX_STATES = 16  # a reader slower than the state changes gets the latest ones


class Numbered(Protocol):
    """A chunk, as the shell keeps it."""

    @property
    def seq(self) -> int: ...


Piece = TypeVar("Piece", bound=Numbered)


class Opening(Enum):
    """The answer to a reader that names a position."""

    STREAM = "stream"
    COMPLETE = "complete"  # the answer has ended and the reader has all of it
    LOST = "lost"  # it has text that the log lacks, or needs text that the log has lost (P4, P17)


class Step(Enum):
    SEND = "send"  # send states and chunks at hand, and the end behind the last one
    LOAD = "load"  # read a page of the log after ``position``
    REPEAT = "repeat"  # read the whole text, which the end repeats
    REVIVE = "revive"  # revive the request on behalf of the reader (P16)
    CHECK = "check"  # a chunk is overdue: check whether its ack arrived unnoticed (P11)
    HEARTBEAT = "heartbeat"
    WAIT = "wait"  # wait for news, or until ``deadline``
    FAREWELL = "farewell"  # final: the reader is to go on elsewhere
    LOST = "lost"  # final: ``history_lost``
    GONE = "gone"  # final: the request is no longer kept


@dataclass(frozen=True, slots=True)
class DeliveryConfig:
    """Times in seconds."""

    heartbeat_s: float = 15.0
    log_retry_s: float = 0.5


class Delivery(Generic[Piece]):
    """``sender`` is None when the reader does not acknowledge by itself."""

    def __init__(
        self,
        config: DeliveryConfig,
        follower: Follower,
        *,
        position: int,
        log_id: str,
        sender: Sender | None,
        returns: bool,
        repeats_text: bool,
        now: float,
        has: int = 0,
    ) -> None:
        """``position``: the last seq that the reader had before, in the log ``log_id``. ``has``:
        the same, where ``position`` is earlier because the shell still has to count through what
        lies between.

        ``returns``: the reader reconnects by itself when told to. ``repeats_text``: its end event
        contains the whole text.
        """
        self.follower = follower
        self.position = position
        """The last seq that was taken for this connection, or that the reader had before."""
        self.sender = sender
        self.states: list[tuple[Status, str]] = []
        # Lists, because there are many readers: an empty list takes a tenth of the memory of an
        # empty deque.
        self.loaded: list[Piece] = []
        self.is_leaving = False
        self._config = config
        self.log_id = log_id
        """The log to which ``position`` refers."""
        self._returns = returns
        self._has = has
        self._has_text = not repeats_text
        self.heartbeat_at = now + config.heartbeat_s
        """When this reader is to hear something, at the latest (E5)."""
        self._log_at = now
        self._heard_from = position
        self._pads = list(PADS_BYTES)
        if sender is not None:
            sender.on_ack(follower.acked_seq, now)

    def opening(self, *, asked: bool) -> Opening:
        """How to answer the reader at its start. ``asked``: the reader named its position."""
        if self.loses_history():
            return Opening.LOST
        if self._returns and asked and self.position == self.follower.last_seq:
            return Opening.COMPLETE
        return Opening.STREAM

    # what is due

    def next(self, now: float, *, at_hand: bool) -> Step:
        """The next step. ``at_hand``: the shell has the chunk after ``position``."""
        if self.is_leaving:
            return Step.FAREWELL
        if self.loses_history():
            return Step.LOST
        if self.follower.gone:
            return Step.GONE
        if self.states or self.loaded or at_hand or self.is_at_end:
            return Step.SEND
        if now >= self._log_at and (step := self._from_store()) is not None:
            return step
        if self.sender is not None and (due := self.sender.deadline()) is not None and due <= now:
            return Step.CHECK
        if self.heartbeat_at > now:
            return Step.WAIT
        if self.follower.view.status is Status.REAPED:
            # The reader has to revive it, and may have missed the event that said so (E16).
            self.on_state(Status.REAPED, REASONS[Status.REAPED])
            return Step.SEND
        return Step.HEARTBEAT

    def deadline(self, *, at_hand: bool) -> float:
        """The time at which ``next`` returns something else than WAIT without any news."""
        deadline = self.heartbeat_at
        if self.sender is not None and (due := self.sender.deadline()) is not None:
            deadline = min(deadline, due)
        if not at_hand and self._from_store() is not None:
            deadline = min(deadline, self._log_at)
        return deadline

    @property
    def is_at_end(self) -> bool:
        """Whether only the end is left to send."""
        return self._has_text and self.position == self.follower.last_seq

    def pass_on(self, seq: int, now: float) -> bool:
        """Whether this reader needs nothing but the chunk that has just arrived. If so, the chunk
        counts as written.
        """
        follower = self.follower
        if not (
            seq == self.position + 1
            and not self.states
            and not self.loaded
            and not self.is_leaving
            and self.log_id == (view := follower.view).log_id
            and view.status in LIVE  # the end is sent behind it; a reaped request is revived
            and not follower.gone
        ):
            return False
        self.position = seq
        self.heartbeat_at = now + self._config.heartbeat_s
        if self.sender is not None:
            self.sender.on_sent(seq, now)
        return True

    def loses_history(self) -> bool:
        """Whether this reader has text that the log lacks for good (P4), or needs text that the log
        has lost or given up (P4.10, P17.11).
        """
        follower = self.follower
        if (follower.gone and follower.lost) or self.position + 1 in follower.holes:
            return True
        view, has = follower.view, max(self.position, self._has)
        if view.given_up_ms and not self.is_at_end:
            return True
        if self.log_id != view.log_id:
            if has > view.shared(self.log_id):
                return True
            self._go_over(view.log_id)
        last_seq = follower.last_seq
        return last_seq is not None and has > last_seq

    def _go_over(self, log_id: str) -> None:
        """Switch to a log that has all that this reader has."""
        self.log_id = log_id
        self.loaded.clear()
        if self.sender is not None:
            self.sender.on_fork(self.follower.acked_seq)
            self._heard_from = min(self._heard_from, self.sender.acked)

    def is_to_revive(self) -> bool:
        """Whether the request was reaped, and this reader, who cannot revive it, has all its text
        (O10).
        """
        view = self.follower.view
        has_all = self.position == view.next_seq - 1
        return view.status is Status.REAPED and not self._returns and has_all

    def _from_store(self) -> Step | None:
        """What to read from the store before anything more can be sent."""
        follower = self.follower
        if self.position == follower.last_seq:
            return None if self._has_text else Step.REPEAT
        if self.is_to_revive():
            return Step.REVIVE
        return Step.LOAD if self.position < max(follower.head, follower.last_seq or 0) else None

    # what happened

    def leave(self) -> None:
        """Send the reader elsewhere."""
        self.is_leaving = True

    def on_state(self, status: Status, reason: str) -> None:
        self.states = [*self.states, (status, reason)][-MAX_STATES:]

    def on_acked(self, seq: int, now: float) -> tuple[float | None, bool]:
        """Return the round trip that the ack measured, in seconds, if it measured one; and whether
        to look at once: a chunk is overdue, or the next one is sooner than it was before.
        """
        if self.sender is None:
            return None, False
        before = self.sender.deadline()
        rtt_s = self.sender.on_ack(seq, now)
        due = self.sender.deadline()
        return rtt_s, before is not None and due is not None and (due <= now or due < before)

    def on_page(self, pieces: list[Piece], now: float) -> None:
        """Take what the log had after ``position`` when the page was asked for; empty when it had
        nothing, or when the store is away.
        """
        self.loaded += [piece for piece in pieces if piece.seq > self.position]
        if not pieces:
            self.on_nothing(now)

    def on_text(self) -> None:
        """The whole text was read."""
        self._has_text = True

    def on_nothing(self, now: float) -> None:
        """The store had nothing to give (yet)."""
        self._log_at = now + self._config.log_retry_s

    def on_taken(self, seq: int) -> None:
        """Chunks up to ``seq`` are on their way to be written."""
        self.position = seq

    def on_written(self, pieces: Sequence[Piece], now: float) -> None:
        self.heartbeat_at = now + self._config.heartbeat_s
        if self.sender is not None:
            for piece in pieces:
                self.sender.on_sent(piece.seq, now)

    def on_checked(self, now: float, *, away: bool, arrived: int) -> int | Action | None:
        """Return what to do after a CHECK: the seq to send again, ``Action.CLOSE``, or None.

        ``away``: the check did not reach the store. Acks cannot either, so nothing shows that the
        chunk was lost. ``arrived``: the last seq that has left the socket.
        """
        sender = self.sender
        if sender is None or (seq := sender.oldest) is None:
            return None
        action = sender.on_timer(now, socket_pending=away or arrived < seq)
        if action is Action.RETRANSMIT and not self._pads and sender.acked <= self._heard_from:
            return Action.CLOSE  # whatever holds a response back passes it on when it ends
        return seq if action is Action.RETRANSMIT else action

    def padding_bytes(self) -> int:
        """How many bytes of padding to send behind a chunk that is sent again (P11.7). A proxy that
        waits for more bytes would otherwise hold the chunk back, while the window waits for its
        ack.
        """
        if self.sender is None or self.sender.acked > self._heard_from:
            self._heard_from = self.sender.acked if self.sender is not None else 0
            return 0
        return self._pads.pop(0) if self._pads else 0

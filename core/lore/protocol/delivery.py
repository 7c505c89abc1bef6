"""One reader's stream of a followed request: the next step (P4, P10, P11, P12).

The shell asks ``next``, does what it says, and tells it what was written and acknowledged. What
is at hand, because it has just come or was read, goes out from memory; the rest a reader takes
from the log, in pages, at its own pace.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, TypeVar

from lore.protocol.follower import Follower
from lore.protocol.follower_words import REASONS
from lore.protocol.lifecycle import LIVE, Status
from lore.protocol.sender import Action, Sender

PADS_BYTES = (16_384, 65_536, 65_536, 65_536)
"""What is sent behind a chunk that nobody acknowledges, although the peer's TCP has it: more than
proxies hold back, and no more than this for a connection."""
MAX_STATES = 16  # a reader slower than the request's changes of state hears of the latest


class Numbered(Protocol):
    """A chunk, as the shell keeps it."""

    @property
    def seq(self) -> int: ...


Piece = TypeVar("Piece", bound=Numbered)


class Opening(Enum):
    """What a reader is answered who comes with a position."""

    STREAM = "stream"
    COMPLETE = "complete"  # it has all of an answer that ended
    LOST = "lost"  # it has what the log does not have, or needs what the log has lost (P4, P17)


class Step(Enum):
    SEND = "send"  # states and chunks at hand, and the end behind the last one
    LOAD = "load"  # read a page of the log after ``position``
    REPEAT = "repeat"  # read the whole text, which the end repeats
    REVIVE = "revive"  # ask for the request's continuation in the reader's place (P16)
    CHECK = "check"  # a chunk's time is over: look whether news of its ack was lost (P11)
    HEARTBEAT = "heartbeat"
    WAIT = "wait"  # for news, or until ``deadline``
    FAREWELL = "farewell"  # the last word, to a reader who is to go on elsewhere
    LOST = "lost"  # the last word: ``history_lost``
    GONE = "gone"  # the last word: the request is no longer kept


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
    ) -> None:
        """``position``: the last seq that the reader had before, of the log ``log_id``.

        ``returns``: it comes back by itself when told so. ``repeats_text``: its end has the
        whole text in it."""
        self.follower = follower
        self.position = position
        """The last seq taken for this connection, or had before it."""
        self.sender = sender
        self.states: list[tuple[Status, str]] = []
        # Lists, of which one that is empty is a tenth of an empty deque: there are many readers.
        self.loaded: list[Piece] = []
        self.is_leaving = False
        self._config = config
        self.log_id = log_id
        """The log that ``position`` counts in."""
        self._returns = returns
        self._has_text = not repeats_text
        self._heartbeat_at = now + config.heartbeat_s
        self._log_at = now
        self._heard_from = position
        self._pads = list(PADS_BYTES)
        if sender is not None:
            sender.on_ack(follower.acked_seq, now)

    def opening(self, *, asked: bool) -> Opening:
        """``asked``: the reader named its position."""
        if self.loses_history():
            return Opening.LOST
        if self._returns and asked and self.position == self.follower.last_seq:
            return Opening.COMPLETE
        return Opening.STREAM

    # what is due

    def next(self, now: float, *, at_hand: bool) -> Step:
        """``at_hand``: the shell has the chunk after ``position``."""
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
        if self._heartbeat_at > now:
            return Step.WAIT
        if self.follower.view.status is Status.REAPED:
            # It has to ask for the rest, and the word to do so may have been lost.
            self.on_state(Status.REAPED, REASONS[Status.REAPED])
            return Step.SEND
        return Step.HEARTBEAT

    def deadline(self, *, at_hand: bool) -> float:
        """When ``next`` says something else than WAIT without any news."""
        deadline = self._heartbeat_at
        if self.sender is not None and (due := self.sender.deadline()) is not None:
            deadline = min(deadline, due)
        if not at_hand and self._from_store() is not None:
            deadline = min(deadline, self._log_at)
        return deadline

    @property
    def is_at_end(self) -> bool:
        """The end is all that is left to say."""
        return self._has_text and self.position == self.follower.last_seq

    def passes(self, seq: int) -> bool:
        """Whether the chunk that has just come is all that there is to say to this reader."""
        follower = self.follower
        return (
            follower.head == seq == self.position + 1
            and not self.states
            and not self.loaded
            and not self.is_leaving
            and self.log_id == (view := follower.view).log_id
            and view.status in LIVE  # an end is told behind it, and a reaped request revived
            and not follower.gone
        )

    def loses_history(self) -> bool:
        """Whether this reader has text that the log does not have and will not have (P4), or
        needs some that the log lost, or that was given up (P17)."""
        follower = self.follower
        if (follower.gone and follower.lost) or self.position + 1 in follower.holes:
            return True
        view = follower.view
        if view.given_up_ms and not self.is_at_end:
            return True
        if self.log_id != view.log_id:
            if self.position > view.shared(self.log_id):
                return True
            self._go_over(view.log_id)
        last_seq = follower.last_seq
        return last_seq is not None and self.position > last_seq

    def _go_over(self, log_id: str) -> None:
        """To a log that has all that this reader has."""
        self.log_id = log_id
        self.loaded.clear()
        if self.sender is not None:
            self.sender.on_fork(self.follower.acked_seq)
            self._heard_from = min(self._heard_from, self.sender.acked)

    def is_to_revive(self) -> bool:
        """Its generator was taken from it, and this reader, who cannot ask for it back, has all
        there is (P16)."""
        view = self.follower.view
        has_all = self.position == view.next_seq - 1
        return view.status is Status.REAPED and not self._returns and has_all

    def _from_store(self) -> Step | None:
        """What the reader needs of the store before anything more can be sent."""
        follower = self.follower
        if self.position == follower.last_seq:
            return None if self._has_text else Step.REPEAT
        if self.is_to_revive():
            return Step.REVIVE
        return Step.LOAD if self.position < max(follower.head, follower.last_seq or 0) else None

    # what happened

    def leave(self) -> None:
        """The reader is to go on elsewhere."""
        self.is_leaving = True

    def on_state(self, status: Status, reason: str) -> None:
        self.states = [*self.states, (status, reason)][-MAX_STATES:]

    def on_acked(self, seq: int, now: float) -> float | None:
        """Returns the round trip that it measured, in seconds, if it measured one."""
        return self.sender.on_ack(seq, now) if self.sender is not None else None

    def is_overdue(self, now: float) -> bool:
        """A chunk's time is over; an ack may show what was lost, too."""
        due = self.sender.deadline() if self.sender is not None else None
        return due is not None and due <= now

    def on_page(self, pieces: list[Piece], now: float) -> None:
        """What the log had after ``position``, as it was when the page was asked for; nothing
        when it had nothing, or is away."""
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
        self._heartbeat_at = now + self._config.heartbeat_s
        if self.sender is not None:
            for piece in pieces:
                self.sender.on_sent(piece.seq, now)

    def on_checked(self, now: float, *, away: bool, arrived: int) -> int | Action | None:
        """After a CHECK: the seq to send again, ``Action.CLOSE``, or None.

        ``away``: the look did not get through, and so can no ack: nothing shows that the chunk
        was lost. ``arrived``: the last seq that has left the socket."""
        sender = self.sender
        if sender is None or (seq := sender.oldest) is None:
            return None
        action = sender.on_timer(now, socket_pending=away or arrived < seq)
        if action is Action.RETRANSMIT and not self._pads and sender.acked <= self._heard_from:
            return Action.CLOSE  # a response that ends is passed on, whoever holds it back
        return seq if action is Action.RETRANSMIT else action

    def padding_bytes(self) -> int:
        """How much to send behind a chunk that is sent again, so that it does not lie in a proxy
        that waits for more, while the window waits for its ack."""
        if self.sender is None or self.sender.acked > self._heard_from:
            self._heard_from = self.sender.acked if self.sender is not None else 0
            return 0
        return self._pads.pop(0) if self._pads else 0

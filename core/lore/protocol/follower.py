"""A request as an edge follows it: calls to the store, and news for readers (P10, P12).

News is a hint. It becomes doubtful by a gap, a lost subscription, or a chunk of a log that the view
does not know. The edge then reads the view and the log until nothing is missing, and sends nothing
later before that.

Events come in as method calls with ``now``, in seconds on any one clock. ``take()`` returns what to
do, and ``deadline()`` says when to call ``on_timer``. One call to the store is under way at a time;
its reply, or ``on_failed``, is an event like the others. ``delivery.py`` decides what one reader of
the request is sent.
"""

from collections.abc import Sequence

from lore.protocol.follower_types import (
    REASONS,
    Acked,
    Acknowledge,
    Call,
    Check,
    Clear,
    Command,
    FollowerConfig,
    Hole,
    Notify,
    ReadPage,
    ReadView,
    Return,
    StateChange,
)
from lore.protocol.holes import SuspectedHole, counts_after, in_sequence
from lore.protocol.lifecycle import ENDED, LIVE, Status
from lore.protocol.merge import Arrival, Merge
from lore.protocol.messages import ChunkMessage, Message, StateMessage, View
from lore.protocol.restores import Absence


class Follower:
    """One request on behalf of one subject; a request of another subject is unknown to it (A12)."""

    view: View
    """The view that was read last; it may be slightly outdated. It is not set before the first
    read.
    """

    def __init__(
        self, config: FollowerConfig, subject: str, *, now: float, wait_s: float = 0.0
    ) -> None:
        """Looks at once, while the subscription is made. If the store does not have the request, it
        looks again for ``wait_s``, because its owner may be about to give it back (P4.7).
        """
        self._config = config
        self._subject = subject
        self.acked_seq = 0
        self.is_open = False
        """Whether it was seen and subscribed: readers may be served."""
        self.gone = False
        """Whether the store does not have the request (any more)."""
        self.holes: frozenset[int] = frozenset()
        """Chunks that the log of the ended answer has lost for good (P4.10)."""
        self.is_read = False
        """Whether it has a reader here."""
        self.looks = 0
        """How many looks were answered or have failed."""
        self._merge = Merge()
        self._subscribed = False
        self._seen = False
        self._reads_log = False
        """Whether the log has more of a chunk than its message, which is then only a hint."""
        self._absence = Absence(config.restore_grace_s, now=now, wait_s=wait_s)
        self._run_id = ""
        """The life of the server that last had it."""
        self._states: list[StateMessage] = []
        self._wants_look = True
        self._look_again_at: float | None = None
        self._heard_at = now
        self._suspected: SuspectedHole | None = None
        self._not_before = now
        self._delay_s = config.retry_s
        self._asked: Call | None = None
        self._looks_asked = 0
        self._out: list[Command] = []
        self._go_on(now)

    # what it is

    @property
    def head(self) -> int:
        """The last seq that every reader here may have."""
        return self._merge.head

    @property
    def lost(self) -> bool:
        """Whether the store lost it with its data, so that it was neither deleted nor has
        expired.
        """
        return self._absence.lost

    @property
    def last_seq(self) -> int | None:
        """The answer's last chunk, once it has ended."""
        return self.view.next_seq - 1 if self.view.status in ENDED else None

    @property
    def is_settled(self) -> bool:
        """Whether no call is under way, and none is due before something happens."""
        return self._asked is None and not self._wants_call

    @property
    def _wants_call(self) -> bool:
        if not self.is_open:
            return self._wants_look and not self._seen
        return self._wants_look or self._suspected is not None or self._merge.missing

    def take(self) -> list[Command]:
        """The commands to carry out now, in this order."""
        commands, self._out = self._out, []
        return commands

    def deadline(self) -> float | None:
        """When to call ``on_timer``; None while a call is under way, or nothing is due."""
        if self.gone or self._asked is not None:
            return None
        if self._wants_call:
            return self._not_before
        if self._look_again_at is not None:
            return self._look_again_at
        return self._heard_at + self._config.look_every_s if self.is_open else None

    # from readers

    def look(self, now: float) -> int:
        """Read the view now. It is read when ``looks`` has reached the number returned."""
        if self.gone:
            return self.looks
        number = self._looks_asked + 1
        self._not_before = now
        self.look_soon(now)
        return number

    def look_soon(self, now: float) -> None:
        """Read the view when convenient: a hint may have been lost."""
        self._wants_look = True
        self._go_on(now)

    def on_readers(self, now: float, *, some: bool) -> None:
        """The first reader has come, or the last one has left."""
        self.is_read = some
        if some and self.is_open and self._is_unread:
            self.look_soon(now)

    @property
    def is_left_unread(self) -> bool:
        """Whether the store must be told that the readers here left before there was any text
        (P7.2).
        """
        return self.is_open and not self.gone and self.head == 0 and self.view.status in LIVE

    @property
    def _is_unread(self) -> bool:
        """Whether the request is unread: nothing else pauses a request without text."""
        return self.view.status is Status.PAUSED and self.view.next_seq == 1

    def on_acked(self, seq: int) -> None:
        """A reader acknowledged ``seq``."""
        if seq > self.acked_seq:
            self.acked_seq = seq
            self._out.append(Acked(seq))

    def on_resumed(self, seq: int, now: float) -> None:
        """A reader that resumes after ``seq`` has everything up to it (P9.6)."""
        seq = min(seq, self.head)
        if seq > self.view.acked_seq:
            self.on_acked(seq)
            self.look_soon(now)

    def judge_page(
        self, after: int, chunks: Sequence[ChunkMessage], now: float
    ) -> Sequence[ChunkMessage]:
        """The part of a page that may go to the reader for whom it was read after ``after``: no
        chunk of another log (P4), and none behind a hole (P10.1).
        """
        view = self.view
        others = {chunk.log_id for chunk in chunks} - {view.log_id}
        if others and any(is_foreign(chunk, view) for chunk in chunks):
            self.look_soon(now)
            return ()
        whole = in_sequence(chunks, after)
        if not whole:
            self._suspect(after)
            self._go_on(now)
        return whole

    # news from the store

    def on_subscribed(self, now: float) -> None:
        self._subscribed = True
        self._begin(now)

    def on_reset(self, now: float) -> None:
        """The lost subscription is back, and so is the store: look at once."""
        self._delay_s = self._config.retry_s
        self._not_before = now
        self._distrust(now)

    def on_message(self, message: Message, now: float) -> ChunkMessage | None:
        """Return the message if it is the next chunk: pass it on. Nearly every chunk comes this way
        and causes no command. The look that opens the follower covers what arrives before.
        """
        if type(message) is ChunkMessage:
            merge = self._merge
            follows = self.is_open and message.seq == merge.head + 1
            if follows and message.log_id == self.view.log_id and not self._reads_log:
                self._heard_at, merge.head = now, message.seq
                return message
            return message if self._on_chunk(message, now) else None
        if isinstance(message, StateMessage):
            # Readers are told once the view is read, because it has the details.
            self._states.append(message)
            self._heard_at = now
            self.look_soon(now)
        else:
            self.on_acked(message.acked_seq)
        return None

    def _on_chunk(self, chunk: ChunkMessage, now: float) -> bool:
        if not self.is_open:
            return False
        self._heard_at = now
        if is_foreign(chunk, self.view):
            self._distrust(now)
            return False
        if self._reads_log:
            if chunk.seq > self.head:
                self._merge.on_reset()
                self._go_on(now)
            return False
        arrival = self._merge.on_live(chunk.seq)
        if arrival is Arrival.GAP:
            self._go_on(now)
        return arrival is Arrival.NEXT

    # answers of the store

    def on_view(self, view: View | None, run_id: str, now: float) -> None:
        """``run_id``: the life of the server that was asked (``Store.run_id``)."""
        self._asked = None
        self.looks += 1
        self._heard_at = now
        if view is None or view.subject != self._subject:
            self._on_unknown(run_id, now)
        else:
            first, self._seen = not self._seen, True
            self._run_id = run_id
            self._absence.end()
            if first:
                self.view, self._reads_log = view, view.has_more
                self._begin(now)
            else:
                self._look_again_at = None
                self._on_view(view)
                self._judge_doubt(view, run_id)
                self._acknowledge_again()
                if self.is_read and self._is_unread:
                    self._ask(Return())
        self._go_on(now)

    def on_log(self, chunks: Sequence[ChunkMessage], now: float) -> list[ChunkMessage]:
        """Return the chunks that come next, for all readers here."""
        self._asked = None
        following: list[ChunkMessage] = []
        for chunk in chunks:
            if is_foreign(chunk, self.view):
                self._merge.on_reset()
                self._wants_look = True
                break
            arrival = self._merge.on_log(chunk.seq)
            if arrival is Arrival.NEXT:
                following.append(chunk)
            elif arrival is Arrival.GAP:
                if not self._suspect(self.head):
                    self._merge.on_reset()
                break
        if len(chunks) == self._config.page_chunks and following:
            self._merge.on_reset()
        if self._merge.missing and not following:
            self._wait(now)
        if chunks:
            self._out.append(Notify())
        self._go_on(now)
        return following

    def on_checked(self, chunks: Sequence[ChunkMessage], now: float) -> None:
        self._asked = None
        suspected = self._suspected and self._suspected.read(chunks, self.view, self._run_id)
        if suspected is None:
            self._drop_doubt()
        else:
            self._suspected, self._wants_look = suspected, True
        self._go_on(now)

    def on_acknowledged(self, now: float) -> None:
        self._asked = None
        self._go_on(now)

    def on_returned(self, now: float) -> None:
        self._asked = None
        self._go_on(now)

    def on_failed(self, now: float) -> None:
        """The call under way, or its answer, was lost. A follower that is not open yet does not try
        again: callers get an error and begin anew.
        """
        if isinstance(self._asked, ReadView):
            self.looks += 1
        elif isinstance(self._asked, ReadPage):
            self._merge.on_reset()
        self._asked = None
        self._wants_look = True
        self._wait(now)

    def on_timer(self, now: float) -> None:
        """The deadline passed. A call before the deadline does nothing."""
        due = self._look_again_at
        if due is None and self.is_open:
            due = self._heard_at + self._config.look_every_s
        if due is not None and due <= now and self._asked is None:
            self._look_again_at, self._heard_at = None, now
            self._wants_look = True
        self._go_on(now)

    # decisions

    def _distrust(self, now: float) -> None:
        """Messages may have been missed, and the view may be outdated."""
        self._merge.on_reset()
        self.look_soon(now)

    def _go_on(self, now: float) -> None:
        """Make the next call, unless one is under way or it is too early."""
        if self._asked is not None or self.gone:
            return
        if not self._wants_call:
            self._delay_s = self._config.retry_s
        elif now >= self._not_before:
            if self._wants_look:
                self._wants_look = False
                self._looks_asked += 1
                self._ask(ReadView())
            elif self._suspected is not None:
                self._ask(Check(self._suspected.after))
            else:
                self._ask(ReadPage(self._merge.start_read(), self._config.page_chunks))

    def _ask(self, call: Call) -> None:
        assert self._asked is None, "P12.2: one call to the store at a time"
        self._asked = call
        self._out.append(call)

    def _wait(self, now: float) -> None:
        """The call brought nothing: wait before the next one, longer each time."""
        self._not_before = now + self._delay_s
        self._delay_s = min(2 * self._delay_s, self._config.max_retry_s)

    def _begin(self, now: float) -> None:
        """Open the follower once it was both looked at and subscribed to. Another look covers what
        came between the two (P12.2); no reader waits for it.
        """
        if self._seen and self._subscribed and not self.is_open:
            self.is_open = True
            self._merge = Merge(self.view.next_seq - 1)
            self.acked_seq = max(self.acked_seq, self.view.acked_seq)
            self._wants_look = False
            self._look_again_at = now + self._config.look_again_s

    def _on_unknown(self, run_id: str, now: float) -> None:
        """It was deleted, or lost with the store's data: then its owner gives it back (P3.3)."""
        waits = self._absence.on_missed(run_id, self._run_id, now)
        if self._seen:
            self._wait(now)
        else:
            self._not_before = now + self._config.unknown_retry_s
        self._wants_look = True
        if not waits:
            self.gone = True
            self._out.append(Notify())

    def _on_view(self, view: View) -> None:
        before, self.view = self.view, view
        if view.log_id != before.log_id:
            self._fork(view.shared(before.log_id))
        if view.next_seq - 1 > self.head:
            self._merge.on_reset()
        self.on_acked(view.acked_seq)
        states, self._states = self._states, []
        if not states and view.status is not before.status and view.status in REASONS:
            states = [StateMessage(view.status, REASONS[view.status])]
        self._out += [
            StateChange(one.status, one.reason) for one in states if one.reason != "ended"
        ]
        if view.status in ENDED:
            self._out.append(Notify())

    def _fork(self, shared: int) -> None:
        """The chunks after ``shared`` have changed, and each id names its log (P4, E3)."""
        self._merge = Merge(min(self._merge.head, shared))
        self.acked_seq = min(self.acked_seq, shared)
        self._out += [Clear(), Notify()]

    def _acknowledge_again(self) -> None:
        """Repeat acks that the store lost with its data: their window would stay closed for ever
        (P9.7).
        """
        seq = min(self.acked_seq, self.view.next_seq - 1)
        if seq > self.view.acked_seq and self.view.status in LIVE:
            self._ask(Acknowledge(seq))

    # holes (``holes.py``)

    def _suspect(self, after: int) -> bool:
        """Whether the chunk after ``after`` is lost for good, or is being checked for that."""
        if not counts_after(self.view, after):
            return False
        if after + 1 not in self.holes:
            if self._suspected is not None and self._suspected.after != after:
                return False
            self._suspected, self._wants_look = SuspectedHole(after), True
        return True

    def _judge_doubt(self, view: View, run_id: str) -> None:
        is_lost = self._suspected and self._suspected.is_lost(view, run_id)
        if self._suspected is not None and is_lost:
            seq = self._suspected.after + 1
            self.holes |= {seq}
            self._out += [Hole(seq), Notify()]
            self._suspected = None
        elif is_lost is False:
            self._drop_doubt()

    def _drop_doubt(self) -> None:
        self._suspected = None
        self._merge.on_reset()  # a gap for all readers still has to be filled


def is_foreign(chunk: ChunkMessage, view: View) -> bool:
    """Whether the chunk is of another log than the view. One of the two is then outdated (P4)."""
    return chunk.log_id != view.log_id and chunk.seq > view.shared(chunk.log_id)

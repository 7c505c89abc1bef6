"""A request as an edge follows it: what to ask of the store, and what to tell readers (P10, P12).

News is a hint. Whatever makes it doubtful (a gap, a subscription that was lost, a chunk of a log
that the view does not know) makes the edge read the view and the log until nothing is missing,
and nothing later goes out before.

Events come in as method calls with ``now``, in seconds on any one clock. What to do comes out of
``take()``, and ``deadline()`` says when to call ``on_timer``. One call of the store is under way
at a time; its reply, or ``on_failed``, is an event like the others. What one reader of the
request is sent decides ``delivery.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lore.protocol.lifecycle import ENDED, LIVE, Status
from lore.protocol.merge import Arrival, Merge
from lore.protocol.messages import ChunkMessage, StateMessage, View

REASONS = {
    Status.QUEUED: "released",
    Status.GENERATING: "resumed",
    Status.PAUSED: "paused",
    Status.REAPED: "reaped",
}
"""What to say of a change whose message was lost."""


@dataclass(frozen=True, slots=True)
class FollowerConfig:
    """Times in seconds."""

    page_chunks: int = 256
    restore_grace_s: float = 5.0
    """How long a request that went with the store's data is waited for (P4)."""
    unknown_retry_s: float = 0.2
    look_again_s: float = 0.02
    """After the subscription; the reader who has just come is served first."""
    look_every_s: float = 15.0
    """After so long without news, or a look, news may have been lost."""
    retry_s: float = 0.05
    max_retry_s: float = 1.0


# What to ask of the store. Each is answered by the method that is named.


class Look(NamedTuple):
    """Read the view: ``on_view``."""


class Read(NamedTuple):
    """Read the log after ``after``, of the primary: ``on_log``."""

    after: int
    limit: int


class Check(NamedTuple):
    """The same, to see whether a chunk is there at all: ``on_checked``."""

    after: int
    limit: int = 1


class Acknowledge(NamedTuple):
    """Say an ack again that the store has forgotten (P9): ``on_acknowledged``."""

    seq: int


# What to tell this edge's readers.


class News(NamedTuple):
    """There is more to send, or to say."""


class State(NamedTuple):
    status: Status
    reason: str


class Acked(NamedTuple):
    seq: int


class Clear(NamedTuple):
    """The chunks kept in memory are of another log (P4)."""


class Hole(NamedTuple):
    """The ended answer's log lacks this chunk for good."""

    seq: int


Call = Look | Read | Check | Acknowledge
Command = Call | News | State | Acked | Clear | Hole


class Follower:
    """One request on behalf of one subject, to whom somebody else's is none."""

    view: View
    """The last one read; it may be a little old. There is none before the first."""

    def __init__(
        self, config: FollowerConfig, subject: str, *, now: float, wait_s: float = 0.0
    ) -> None:
        """Looks at once, while it is subscribed to, and for ``wait_s`` when it is not there: its
        owner may be about to give it back (P3)."""
        self._config = config
        self._subject = subject
        self.acked_seq = 0
        self.is_open = False
        """Seen and subscribed to: readers may be served."""
        self.gone = False
        """The store does not have the request, or no longer."""
        self.lost = False
        """It went with the store's data, and not because its time was over."""
        self.holes: frozenset[int] = frozenset()
        """Chunks of the ended answer that its log lacks for good."""
        self.looks = 0
        """Looks that were answered, or have failed."""
        self._merge = Merge()
        self._subscribed = False
        self._seen = False
        self._waits = wait_s > 0
        self._give_up_at = now + wait_s
        self._run_id = ""
        self._missed_in = ""
        """The life of the store in which it was missed last; '' while it is there."""
        self._states: list[StateMessage] = []
        self._wants_look = True
        self._look_again_at: float | None = None
        self._heard_at = now
        self._doubt: int | None = None
        """The chunk after this one may be lost for good."""
        self._proof: tuple[View, str] | None = None
        """What the view was around a reading of the log that did not show it."""
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
    def last_seq(self) -> int | None:
        """The answer's last chunk, once it ended."""
        return self.view.next_seq - 1 if self.view.status in ENDED else None

    @property
    def is_settled(self) -> bool:
        """Nothing is asked of the store, nor will be before something happens."""
        return self._asked is None and not self._wants_call

    @property
    def _wants_call(self) -> bool:
        if not self.is_open:
            return self._wants_look and not self._seen
        return self._wants_look or self._doubt is not None or self._merge.missing

    def take(self) -> list[Command]:
        """What is to be done now, in this order."""
        commands, self._out = self._out, []
        return commands

    def deadline(self) -> float | None:
        """When to call ``on_timer``; None while a call is under way, or nothing is to come."""
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

    def on_acked(self, seq: int) -> None:
        """Somebody acknowledged ``seq``."""
        if seq > self.acked_seq:
            self.acked_seq = seq
            self._out.append(Acked(seq))

    def on_resumed(self, seq: int, now: float) -> None:
        """A reader that comes back after ``seq`` has everything up to it (P9)."""
        seq = min(seq, self.head)
        if seq > self.view.acked_seq:
            self.on_acked(seq)
            self.look_soon(now)

    def judge_page(
        self, after: int, chunks: Sequence[ChunkMessage], now: float
    ) -> Sequence[ChunkMessage]:
        """What of the log, read after ``after`` for one reader, may go to that reader: nothing of
        another log (P4), and nothing behind a hole."""
        if any(is_foreign(chunk, self.view) for chunk in chunks):
            self.look_soon(now)
            return ()
        whole = in_sequence(chunks, after)
        if not whole:
            self._suspect(after)
            self._go_on(now)
        return whole

    # from the store, unasked

    def on_subscribed(self, now: float) -> None:
        self._subscribed = True
        self._begin(now)

    def on_reset(self, now: float) -> None:
        """The subscription was lost and is back, and so is the store: no more waiting for it."""
        self._delay_s = self._config.retry_s
        self._not_before = now
        self._distrust(now)

    def on_state(self, message: StateMessage, now: float) -> None:
        """Told to readers once the view is read, which has the rest of it."""
        self._states.append(message)
        self._heard_at = now
        self.look_soon(now)

    def on_chunk(self, chunk: ChunkMessage, now: float) -> bool:
        """Whether it is the next one: pass it on. This is the way of nearly every chunk, and
        leaves no command behind. What comes before it is open, the look that follows shows."""
        if not self.is_open:
            return False
        self._heard_at = now
        if is_foreign(chunk, self.view):
            self._distrust(now)
            return False
        arrival = self._merge.on_live(chunk.seq)
        if arrival is Arrival.GAP:
            self._go_on(now)
        return arrival is Arrival.NEXT

    # from the store, asked

    def on_view(self, view: View | None, run_id: str, now: float) -> None:
        """``run_id``: of the server that was asked (``Store.run_id``)."""
        self._asked = None
        self.looks += 1
        self._heard_at = now
        if view is None or view.subject != self._subject:
            self._on_unknown(run_id, now)
        else:
            first, self._seen = not self._seen, True
            self._run_id, self._missed_in = run_id, ""
            if first:
                self.view = view
                self._begin(now)
            else:
                self._look_again_at = None
                self._on_view(view)
                self._judge_doubt(view, run_id)
                self._acknowledge_again()
        self._go_on(now)

    def on_log(self, chunks: Sequence[ChunkMessage], now: float) -> list[ChunkMessage]:
        """The chunks that come next, for all readers here."""
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
            self._out.append(News())
        self._go_on(now)
        return following

    def on_checked(self, chunks: Sequence[ChunkMessage], now: float) -> None:
        """No chunk: it is lost if the view is still the same afterwards, as nothing was written
        in between. Otherwise nothing is known."""
        self._asked = None
        if self._doubt is None or in_sequence(chunks, self._doubt):
            self._drop_doubt()
        else:
            self._proof = (self.view, self._run_id)
            self._wants_look = True
        self._go_on(now)

    def on_acknowledged(self, now: float) -> None:
        self._asked = None
        self._go_on(now)

    def on_failed(self, now: float) -> None:
        """The call under way did not get through, or its answer did not. Before it is open,
        nobody waits for another try: whoever asked is told, and begins anew."""
        if isinstance(self._asked, Look):
            self.looks += 1
        elif isinstance(self._asked, Read):
            self._merge.on_reset()
        self._asked = None
        self._wants_look = True
        self._wait(now)

    def on_timer(self, now: float) -> None:
        """The deadline passed; one that is called early does nothing."""
        due = self._look_again_at
        if due is None and self.is_open:
            due = self._heard_at + self._config.look_every_s
        if due is not None and due <= now and self._asked is None:
            self._look_again_at, self._heard_at = None, now
            self._wants_look = True
        self._go_on(now)

    # deciding

    def _distrust(self, now: float) -> None:
        """Anything may have been missed, and the view may be of another time."""
        self._merge.on_reset()
        self.look_soon(now)

    def _go_on(self, now: float) -> None:
        """Ask for the next thing, unless something is asked already or it is too early."""
        if self._asked is not None or self.gone:
            return
        if not self._wants_call:
            self._delay_s = self._config.retry_s
        elif now >= self._not_before:
            if self._wants_look:
                self._wants_look = False
                self._looks_asked += 1
                self._ask(Look())
            elif self._doubt is not None:
                self._ask(Check(self._doubt))
            else:
                self._ask(Read(self._merge.start_read(), self._config.page_chunks))

    def _ask(self, call: Call) -> None:
        self._asked = call
        self._out.append(call)

    def _wait(self, now: float) -> None:
        """Nothing came of it: not again for a while, and for longer each time."""
        self._not_before = now + self._delay_s
        self._delay_s = min(2 * self._delay_s, self._config.max_retry_s)

    def _begin(self, now: float) -> None:
        """Looked at and subscribed to, in whichever order. What came between the two shows in
        the next look (P12), which no reader waits for."""
        if self._seen and self._subscribed and not self.is_open:
            self.is_open = True
            self._merge = Merge(self.view.next_seq - 1)
            self.acked_seq = max(self.acked_seq, self.view.acked_seq)
            self._wants_look = False
            self._look_again_at = now + self._config.look_again_s

    def _on_unknown(self, run_id: str, now: float) -> None:
        """Deleted, or forgotten with the store's data: its owner gives it back then (P3)."""
        grace_s = self._config.restore_grace_s
        if self._missed_in not in ("", run_id):
            self._give_up_at = now + grace_s  # once more: owners have to come back to this one
        elif self._seen and not self._missed_in:
            self._give_up_at = now + grace_s
        self._missed_in = run_id
        if self._seen:
            self.lost = run_id != self._run_id
            self._wait(now)
        else:
            self.lost = self._waits
            self._not_before = now + self._config.unknown_retry_s
        waits = self.lost and now < self._give_up_at
        self._wants_look = True
        if not waits:
            self.gone = True
            self._out.append(News())

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
        self._out += [State(one.status, one.reason) for one in states if one.reason != "ended"]
        if view.status in ENDED:
            self._out.append(News())

    def _fork(self, shared: int) -> None:
        """The chunks after ``shared`` are others now, and each id names its log (P4)."""
        self._merge = Merge(min(self._merge.head, shared))
        self.acked_seq = min(self.acked_seq, shared)
        self._out += [Clear(), News()]

    def _acknowledge_again(self) -> None:
        """Acks that went with the store's data would leave a window closed for ever (P9)."""
        seq = min(self.acked_seq, self.view.next_seq - 1)
        if seq > self.view.acked_seq and self.view.status in LIVE:
            self._ask(Acknowledge(seq))

    # holes: only an ended log, which grows no more, shows one

    def _suspect(self, after: int) -> bool:
        """Whether it is found out, or known, that what follows ``after`` is lost for good."""
        last_seq = self.last_seq
        if last_seq is None or after >= last_seq:
            return False
        if after + 1 not in self.holes:
            if self._doubt not in (None, after):
                return False
            self._doubt, self._proof, self._wants_look = after, None, True
        return True

    def _judge_doubt(self, view: View, run_id: str) -> None:
        if self._doubt is None:
            return
        if self._proof is not None and self._proof == (view, run_id):
            seq = self._doubt + 1
            self.holes |= {seq}
            self._out += [Hole(seq), News()]
            self._doubt = self._proof = None
        elif self._proof is not None or self.last_seq is None or self._doubt >= self.last_seq:
            self._drop_doubt()

    def _drop_doubt(self) -> None:
        self._doubt = self._proof = None
        self._merge.on_reset()  # if it was a gap for all, it is one still


def is_foreign(chunk: ChunkMessage, view: View) -> bool:
    """Of another log than the view's, which is then too old, or the chunk is (P4)."""
    return chunk.log_id != view.log_id and chunk.seq > view.shared(chunk.log_id)


def in_sequence(chunks: Sequence[ChunkMessage], after: int) -> Sequence[ChunkMessage]:
    """Those that follow ``after`` without a gap: nothing behind a hole may go out."""
    whole = 0
    while whole < len(chunks) and chunks[whole].seq == after + whole + 1:
        whole += 1
    return chunks[:whole]


class Restores:
    """For how long a request that is not there is waited for, as the store may have lost it with
    its data and be about to be given it back (P3, P4)."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._run_ids: dict[int, str] = {}
        self._until: dict[int, float] = {}

    def notice(self, partition: int, run_id: str, now: float) -> None:
        """The partition's server lives this life now. The first that is seen is no change."""
        before = self._run_ids.get(partition, "")
        if run_id != before:
            self._run_ids[partition] = run_id
            if before:
                self._until[partition] = now + self._grace_s

    def wait_s(self, partition: int, run_id: str, now: float) -> float:
        self.notice(partition, run_id, now)
        return max(0.0, self._until.get(partition, 0.0) - now)

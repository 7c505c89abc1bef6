"""One request under a generator's lease: everything that its owner decides (P2, P3, P15).

Events come in as method calls with ``now`` in seconds on any steady clock; ``take`` gives the
next command for the store, and ``deadline`` says when there is one. A shell carries it out and
says what came of it: ``on_answer``, or ``on_lost`` when there was no answer. No I/O, no clock.

    working -> ended             the store has the end; the chunks are kept (P3)
    ended -> working             the store forgot the end: it is said again
    working -> leaving -> releasing -> gone    handed back (P15)
    any -> gone                  it is another's, or nobody's any more

One call is under way at a time, renewals aside: they are joined for many requests (``leases.py``)
and decide nothing while a call is under way, whose own answer tells. Two calls may reach the
store in either order: a refusal counts only if it was asked for after the last *ok* was heard.

What an answer means, whatever it was to:

* *ok*: the lease runs on from when it was asked for; the log and the acks are where it says.
* *gap*: the store has less than we thought; all that it lacks goes out in one append (P3).
* *fenced*: the lease is another's, or over. The request is dropped at once, with one exception:
  what it refuses with our own end already made may be the echo of that end, whose answer was
  lost. ``finish`` tells, as it may be repeated.
  Nor does a refused fork (P4) say that the log is lost: the store may have it as we know it.
  A renewal tells.
* *unknown* of another life of the store (its run id differs): it forgot the request, which is
  given back. Of the same life: it was deleted or has expired, and is dropped.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from lore.protocol.chunk import Chunk
from lore.protocol.commands import Append, Finish, Reinstate, Release
from lore.protocol.fork import fork
from lore.protocol.lifecycle import ENDED, Status, end_status
from lore.protocol.messages import Claimed, News, Outcome, Position, View
from lore.protocol.producer import Due, Producer

AT_ONCE = -math.inf

Call = Append | Finish | Reinstate | Release


@dataclass(frozen=True, slots=True)
class Terms:
    """What all leases of one generator have in common."""

    owner: str
    """The generator's name; must be unique in the fleet."""
    lease_s: float
    retention_ms: int

    @property
    def lease_ms(self) -> int:
        return round(self.lease_s * 1000)


class State(StrEnum):
    WORKING = "working"
    LEAVING = "leaving"  # everything made is appended, then it is handed back
    RELEASING = "releasing"  # the release is asked for: nothing more is appended
    ENDED = "ended"
    GONE = "gone"


class Errand(StrEnum):
    """What is to be asked before any other append."""

    GIVE_BACK = "give_back"
    FINISH = "finish"


class Turn(StrEnum):
    """What an event made of a request, for whoever keeps count of them."""

    ENDED = "ended"
    ALIVE_AGAIN = "alive_again"  # it had ended, and the store forgot that
    GIVEN_BACK = "given_back"  # to a store that had forgotten it, which has it again
    HANDED_BACK = "handed_back"
    LET_GO = "let_go"  # ended, and nobody can need its chunks any more
    TAKEN = "taken"  # the store says that it is not ours, or not as we know it
    DOUBTED = "doubted"  # it may be taken: the store is to be asked


class Owner:
    __slots__ = (
        "_asked_s",
        "_asks_first",
        "_call",
        "_due",
        "_errand",
        "_failed",
        "_given",
        "_heard_s",
        "_life",
        "alarm_s",
        "body",
        "config",
        "doubtful",
        "epoch",
        "error",
        "finished",
        "guarded",
        "partition",
        "producer",
        "prompt_tokens",
        "renewed_s",
        "request_id",
        "run_id",
        "state",
        "view",
    )

    def __init__(
        self, claimed: Claimed, partition: int, producer: Producer, config: Terms, asked_s: float
    ) -> None:
        """``asked_s``: when the claim was asked for. Its lease ends no sooner than it does here."""
        self.view: View = claimed.view
        """As the store had it at the claim, or as it was given back to it since."""
        self.body = claimed.body
        self.run_id = claimed.run_id
        """The server's life in which the store last knew the request (P4)."""
        self.partition = partition
        self.producer = producer
        self.config = config
        self.request_id = claimed.view.request_id
        self.epoch = claimed.view.epoch
        self.state = State.WORKING
        self.renewed_s = asked_s
        """When the lease was asked for that the store last gave."""
        self.doubtful = claimed.view.tries > 1
        """It was claimed before and nothing came of it, and nothing has yet (P15)."""
        self.guarded = True
        """Its channel is subscribed."""
        self.finished = False
        """The engine has said its last piece."""
        self.error = ""
        self.prompt_tokens = claimed.view.prompt_tokens
        self.alarm_s: float | None = None
        """The earliest alarm that is set for it (``leases.py``)."""
        self._call: Call | None = None
        self._due: Due | None = None
        self._asked_s = asked_s
        self._heard_s = asked_s
        """When we last heard from the store that the request is ours."""
        self._life = ""
        self._given: Reinstate | None = None
        self._asks_first = False
        self._errand: Errand | None = None
        self._failed = False

    @property
    def log_id(self) -> str:
        return self.view.log_id

    @property
    def parked(self) -> bool:
        """Out of credit: its place in the batch is someone else's (P5)."""
        return self.producer.window.is_closed(self.producer.generated_tokens)

    @property
    def is_held(self) -> bool:
        """Whether this generator works on it."""
        return self.state is State.WORKING or self.state is State.LEAVING

    @property
    def failed(self) -> bool:
        """It is handed back because the engine failed."""
        return self._failed

    @property
    def is_calling(self) -> bool:
        return self._call is not None

    def is_alone(self, now: float) -> bool:
        """Whether the lease still runs, so that nobody else can have added to the log (P3)."""
        return now < self.renewed_s + self.config.lease_s

    # from the engine

    def on_piece(
        self,
        text: str,
        token_ids: tuple[int, ...],
        now: float,
        *,
        finish_reason: str | None = None,
        error: str = "",
        prompt_tokens: int = 0,
    ) -> bool:
        """True when it is the last for now: the credit is used up, or the answer ends."""
        moved = text or token_ids
        parked = self.producer.on_piece(text, token_ids, now) if moved else self.parked
        if prompt_tokens:
            self.prompt_tokens = prompt_tokens
        if finish_reason is not None:
            self.finished, self.error = True, error
            self.producer.on_finish(finish_reason)
        return parked or self.finished

    def hand_back(self, *, failed: bool) -> None:
        """Append what there is, held back or not, then release it to whoever has room (P15).

        ``failed``: the engine did, and what it was working on may be why.
        """
        if self.state is State.WORKING:
            self.state, self._failed = State.LEAVING, failed

    # to the store

    def deadline(self) -> float | None:
        """When ``take`` has a command if nothing else happens; in the past when it has."""
        if self._call is not None or self.state is State.GONE:
            return None
        if self._errand is None:
            if self.state is State.WORKING:
                return self.producer.deadline()
            if self.state is State.ENDED:
                return None
        return AT_ONCE

    def take(self, now: float, run_id: str) -> Call:
        """The command that is due, for a caller who has seen that the deadline is over.

        ``run_id``: the life of the store that will be asked.
        """
        self._asked_s = now
        self._call = call = self._next(now, run_id)
        return call

    def _next(self, now: float, run_id: str) -> Call:
        if self._errand is Errand.GIVE_BACK:
            return self._reinstate(now, run_id)
        if self._errand is Errand.FINISH:
            return self._finish()
        if self.state is State.WORKING:
            return self._append(self.producer.take(now))
        due = self.producer.outbox(math.inf) if self.state is State.LEAVING else None
        if due is not None:
            return self._append(due)
        # Nothing more is appended: once a release is under way, somebody else may go on.
        self.state = State.RELEASING
        return Release(self.request_id, self.config.owner, self.epoch, self._failed)

    def _reinstate(self, now: float, run_id: str) -> Reinstate:
        """Repeated as it was, if it is to the same life of the store: it may have it, and then
        takes another name for another log. Nobody can have gone on there meanwhile."""
        if self._given is None or self._life != run_id:
            self._life = run_id
            view, chunks = self.known(run_id, alone=self.is_alone(now))
            self._given = Reinstate(view, self.body, chunks, self.config.lease_ms)
        return self._given

    def _append(self, due: Due) -> Append | Finish:
        self._due = due
        if not due.chunks and due.finish_reason is not None and not self._asks_first:
            return self._finish()
        return Append(
            self.request_id,
            self.config.owner,
            self.epoch,
            self.view.log_id,
            due.window,
            due.reopen_tokens,
            self.config.lease_ms,
            due.chunks,
        )

    def _finish(self) -> Finish:
        assert self._due is not None
        assert self._due.finish_reason is not None
        return Finish(
            self.request_id,
            self.config.owner,
            self.epoch,
            self._due.next_seq,
            self.end_status,
            self._due.finish_reason,
            self.error,
            self.prompt_tokens,
            self.config.retention_ms,
            self.view.log_id,
        )

    @property
    def end_status(self) -> Status:
        return end_status(self.producer.finish_reason or "")

    def known(self, run_id: str, *, alone: bool) -> tuple[View, Sequence[Chunk]]:
        """What this owner can tell a store, ``run_id``, that has forgotten the request (P3).

        ``alone``: all that was ever sent may be in the log. Otherwise somebody may have gone on
        in it behind what the store is known to have had, and the log forks there (P4). The fork
        has the same name when the call has to be repeated.
        """
        log = self.producer.made if alone else self.producer.stored
        window = self.producer.window
        acked_seq = next((c.seq for c in log if 0 < window.acked_tokens == c.tokens), 0)
        view = replace(
            self.view,
            window=window.size,
            acked_seq=acked_seq,
            acked_tokens=window.acked_tokens if acked_seq else 0,
            prompt_tokens=self.prompt_tokens,
        )
        if alone:
            return view, log
        name = f"{view.log_id} {view.epoch} {run_id}".encode()
        forked = replace(
            view,
            log_id=hashlib.blake2b(name, digest_size=8).hexdigest(),
            forks=fork(view.forks, view.log_id, len(log) + 1),
        )
        return forked, log

    # from the store

    def on_answer(self, position: Position, run_id: str, now: float) -> Turn | None:
        """The command that was taken last is answered. ``run_id``: the life of the store."""
        call, self._call = self._call, None
        if self.state is State.GONE:
            return None
        if position.outcome is Outcome.OK:
            self._heard_s = now
        kind = type(call)
        if kind is Append and position.outcome is Outcome.OK:
            return self._on_appended(position, run_id, now)
        if kind is not Reinstate and self._is_forgotten(position, run_id):
            self._forget_call()
            self._errand = Errand.GIVE_BACK
            return None
        if kind is Release:
            ok = position.outcome is Outcome.OK
            return self._go(Turn.HANDED_BACK if ok else Turn.TAKEN)
        if kind is Reinstate:
            return self._on_reinstated(call, position, run_id, now)
        return self._on_judged(kind, position, run_id, now)

    def _on_appended(self, position: Position, run_id: str, now: float) -> None:
        due = self._due
        assert due is not None
        self.renewed_s, self.run_id, self._asks_first = self._asked_s, run_id, False
        if due.chunks or due.reopen_tokens:
            self.doubtful = False
        if due.finish_reason is None:
            self.producer.on_appended(position.next_seq, position.acked_tokens, now)
        else:
            self._errand = Errand.FINISH

    def _on_judged(self, kind: type, position: Position, run_id: str, now: float) -> Turn | None:
        """An append was refused, or an end answered."""
        outcome, due = position.outcome, self._due
        assert due is not None
        self._errand = None
        if outcome in (Outcome.OK, Outcome.GAP):
            self.run_id = run_id
            self.producer.on_appended(position.next_seq, position.acked_tokens, now)
            if self.producer.ended and outcome is Outcome.OK:
                self.state = State.ENDED
                return Turn.ENDED
            return None
        if kind is Append and outcome is Outcome.FENCED and due.finish_reason is not None:
            self._errand = Errand.FINISH  # perhaps our own end is in: finish tells
            return None
        is_other_life = outcome is Outcome.FENCED and run_id != self.run_id
        if kind is Finish and is_other_life and not self._asks_first:
            # Another life of the store, which may have forgotten the claim: an end does not say
            # how long that lasts, so an append asks first.
            self._asks_first = True
            self.producer.on_lost()
            return None
        return self._go(Turn.TAKEN)

    def _on_reinstated(
        self, call: Call | None, position: Position, run_id: str, now: float
    ) -> Turn | None:
        assert isinstance(call, Reinstate)
        self._errand = self._given = None
        if position.outcome is Outcome.FENCED and call.view.log_id != self.view.log_id:
            return Turn.DOUBTED  # the store may have what we know, and not the fork of it
        if position.outcome is not Outcome.OK:
            return self._go(Turn.TAKEN)
        self.view, self.run_id = call.view, self._life
        if self.state is State.ENDED:
            self.state = State.WORKING
        self._go_on(position, self._asked_s, run_id, now)
        return Turn.GIVEN_BACK

    def on_lost(self) -> None:
        """The command that was taken last got no answer; it may or may not have happened."""
        call, self._call = self._call, None
        if isinstance(call, Release):
            self.renewed_s = -math.inf  # somebody else may have it
        elif not isinstance(call, Reinstate):
            self._forget_call()

    def _forget_call(self) -> None:
        self.producer.on_lost()
        self._errand = None

    def on_renewed(
        self, position: Position, asked_s: float, log_id: str, run_id: str, now: float
    ) -> Turn | None:
        """The store said where the request is, asked at ``asked_s`` with this log's name."""
        if self.state in (State.GONE, State.RELEASING) or log_id != self.view.log_id:
            return None
        if position.outcome is not Outcome.OK and asked_s < self._heard_s:
            return None  # the store may have said so before it said that the request is ours
        if self._is_forgotten(position, run_id):
            if self._call is None:
                self._errand = Errand.GIVE_BACK
        elif position.outcome is Outcome.OK:
            self._go_on(position, asked_s, run_id, now)
            if self.state is State.ENDED:
                self.state = State.WORKING
                return Turn.ALIVE_AGAIN
        elif self._call is not None or self._errand is Errand.GIVE_BACK:
            pass  # its own answer tells
        elif self.state is State.ENDED:
            return self._on_kept(position, run_id)
        elif not (self.finished and position.status in ENDED):
            # Of what ended, our own end may be in and its answer lost: finish tells.
            return self._go(Turn.TAKEN)
        return None

    def _on_kept(self, position: Position, run_id: str) -> Turn | None:
        """P3: a chunk is kept until its request has ended and is acknowledged."""
        self.run_id = run_id
        if position.status in ENDED and position.acked_seq < position.next_seq - 1:
            return None
        return self._go(Turn.LET_GO)

    def on_news(self, news: News, now: float) -> Turn | None:
        """The store tells the owner of an epoch: an ack opened the window, or the request was
        taken away. News of another lease is not for this one. Stores of an older release name
        no epoch (0): an ack is one all the same, and of the rest the store is asked."""
        if not self.is_held or news.epoch not in (0, self.epoch):
            return None
        if news.position.outcome is Outcome.OK:
            self.producer.on_acked(news.position.acked_tokens, now)
            return None
        return self._go(Turn.TAKEN) if news.epoch else Turn.DOUBTED

    def let_go(self) -> None:
        """Nothing that still comes for it means anything."""
        self._go(Turn.LET_GO)

    def _go_on(self, position: Position, asked_s: float, run_id: str, now: float) -> None:
        self.renewed_s, self.run_id, self._heard_s = asked_s, run_id, now
        self.producer.on_position(
            position.next_seq,
            position.acked_tokens,
            now,
            paused=position.status is Status.PAUSED,
        )

    def _is_forgotten(self, position: Position, run_id: str) -> bool:
        """Lost with the store's data; what expired or was deleted stays unknown."""
        return position.outcome is Outcome.UNKNOWN and run_id != self.run_id

    def _go(self, turn: Turn) -> Turn:
        self.state = State.GONE
        self._errand = None
        return turn

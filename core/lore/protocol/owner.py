"""One request under a generator's lease: everything that its owner decides (P2, P3, P15).

Events come in as method calls with ``now`` in seconds on any steady clock. ``take`` returns the
next command for the store, and ``deadline`` says when there is one. A shell carries it out and
reports the result: ``on_answer``, or ``on_lost`` when there was no answer. No I/O, no clock.

    working -> ended             the store has the end; the chunks are kept (P3)
    ended -> working             the store forgot the end: it is sent again
    working -> leaving -> releasing -> gone    handed back (P15)
    any -> gone                  it belongs to another owner, or to nobody

One call is under way at a time. Renewals are apart: they are joined for many requests
(``leases.py``), and change nothing while a call is under way, because that call's own answer
decides. Two calls may reach the store in either order: a refusal counts only if the call was made
after the last *ok* was heard (P3.13).

What an answer means, to any call (``tests/unit/test_protocol_owner.py``, by rule):

* *ok*: the answer says where the log and the acks are. Only a renewal prolongs the lease (P15.1).
* *gap* (P2.4): the store has less than we thought. All that it lacks goes out in one append (P3.2).
* *fenced* (P2.3): the lease is another owner's, or over. The request is dropped at once, with two
  exceptions. If our own end was sent and its answer lost, the request may have ended by it: the
  owner repeats ``finish``, which tells. If a fork (P4) was refused, the store may still have the
  log as we know it: a renewal tells (P3.12).
* *unknown* (P3) in another life of the store (its run id differs): it has forgotten the request,
  which is given back. In the same life: the request was deleted or has expired, and is dropped.
"""

import math
from dataclasses import replace

from lore.protocol.chunk import make
from lore.protocol.commands import Append, Finish, Reinstate, Release
from lore.protocol.give_back import known
from lore.protocol.lifecycle import ENDED, Status, end_status
from lore.protocol.logprobs import Scored
from lore.protocol.messages import Claimed, News, Outcome, Position, View
from lore.protocol.owner_types import Errand, OwnerState, Terms, Update
from lore.protocol.producer import Due, Producer

AT_ONCE = -math.inf

Call = Append | Finish | Reinstate | Release


class Owner:
    def __init__(
        self,
        claimed: Claimed,
        partition: int,
        producer: Producer,
        config: Terms,
        asked_s: float,
        pace: float | None = None,
    ) -> None:
        """``asked_s``: when the claim was asked for. In the store, its lease ends no sooner than
        counted from then (P3.7). ``pace``: the most tokens a second that its reader takes; None for
        a machine (P20).
        """
        self.view: View = claimed.view
        """The view at the claim, or as it was last given back."""
        self.body = claimed.body
        self.run_id = claimed.run_id
        """The server life in which the store last knew the request (P4)."""
        self.partition = partition
        self.producer = producer
        self.config = config
        self.pace = pace
        self.request_id = claimed.view.request_id
        self.epoch = claimed.view.epoch
        self.state = OwnerState.WORKING
        self.renewed_s = asked_s
        """When the last lease that the store granted was asked for (P3.7)."""
        self.suspect = claimed.view.tries > 1
        """It was claimed in vain before, and has produced nothing yet (P15.17)."""
        self.subscribed = True
        """Its channel is subscribed."""
        self.unread = claimed.view.status is Status.PAUSED
        """Its readers left before there was any text: its prompt waits for a reader (P7.3)."""
        self.finished = False
        """The engine has emitted its last piece."""
        self.error = ""
        self.prompt_tokens = claimed.view.prompt_tokens
        self.alarm_s: float | None = None
        """The earliest alarm that ``leases.py`` has set for it."""
        self._call: Call | None = None
        self._asked_s = asked_s
        self._heard_s = asked_s
        """When the store last said that the request is ours (P3.13)."""
        self._told_s = -math.inf
        """When the last news arrived."""
        self._life = ""
        self._given: Reinstate | None = None
        self._may_be_forked = False
        """A fork that was asked for in an earlier life of the store got no answer."""
        self._asks_first = False
        self._errand: Errand | None = None
        self._failed = False

    @property
    def log_id(self) -> str:
        return self.view.log_id

    @property
    def parked(self) -> bool:
        """Out of credit, or unread: it has no place in the batch (P5.3, P7.3)."""
        return self.unread or self.producer.window.is_closed(self.producer.generated_tokens)

    @property
    def is_held(self) -> bool:
        """Whether this generator works on it."""
        return self.state is OwnerState.WORKING or self.state is OwnerState.LEAVING

    @property
    def failed(self) -> bool:
        """Whether it is handed back because the engine failed."""
        return self._failed

    @property
    def is_calling(self) -> bool:
        return self._call is not None

    def is_alone(self, now: float) -> bool:
        """Whether the lease still runs, so that nobody else can have appended to the log (P3.6)."""
        return now < self.renewed_s + self.config.lease_s

    # from the engine

    def pass_on(
        self, text: str, token_ids: tuple[int, ...], now: float, scored: tuple[Scored, ...] = ()
    ) -> Append | None:
        """Take a piece and return the append that carries it. A fast path for nearly all pieces:
        same effect as ``on_piece`` and ``take``. None: it is not taken, because something else is
        to be decided.
        """
        if self._call is not None or self._errand is not None or self.unread:
            return None
        if self.state is not OwnerState.WORKING:
            return None
        producer, config = self.producer, self.config
        chunk = producer.pass_on(text, token_ids, now, scored)
        if chunk is None:
            return None
        self._asked_s, size = now, producer.window.size
        head = self.request_id, config.owner, config.lease_ms, self.epoch, self.view.log_id
        self._call = call = make(Append, (*head, size, 0, (chunk,)))
        return call

    def on_piece(
        self,
        text: str,
        token_ids: tuple[int, ...],
        now: float,
        *,
        finish_reason: str | None = None,
        error: str = "",
        prompt_tokens: int = 0,
        scored: tuple[Scored, ...] = (),
    ) -> bool:
        """Return True when it is the last piece for now: the credit is used up, or the answer
        ends.
        """
        moved = text or token_ids
        if moved:
            self.unread = False  # from now on the window decides
        parked = self.parked
        if moved:
            parked = self.producer.on_piece(text, token_ids, now, scored)
        if prompt_tokens:
            self.prompt_tokens = prompt_tokens
        if finish_reason is not None:
            self.finished, self.error = True, error
            self.producer.on_finish(finish_reason)
        return parked or self.finished

    def on_prompt(self, tokens: int, model: str) -> None:
        """The engine has read the prompt: its number of tokens, and the model (P15.19)."""
        self.prompt_tokens = tokens
        self.view = replace(self.view, model=model)

    def hand_back(self, *, failed: bool) -> None:
        """Append everything produced, then release the request to whoever has room (P15.9).

        ``failed``: the engine failed, and this request may be why.
        """
        if self.state is OwnerState.WORKING:
            self.state, self._failed = OwnerState.LEAVING, failed

    # to the store

    def deadline(self) -> float | None:
        """When ``take`` has a command if nothing else happens; in the past when it has one now."""
        if self._call is not None:
            return None
        if self.state is OwnerState.WORKING and self._errand is None:
            return self.producer.deadline()
        if self.state is OwnerState.GONE or (
            self.state is OwnerState.ENDED and self._errand is None
        ):
            return None
        return AT_ONCE

    def take(self, now: float, run_id: str) -> Call:
        """The command that is due. Call it only after the deadline.

        ``run_id``: the life of the store that will be asked.
        """
        assert self._call is None, "P3: what an answer means depends on the call it answers"
        self._asked_s = now
        if self.state is OwnerState.WORKING and self._errand is None:
            self._call = call = self._append(self.producer.take(now))
        else:
            self._call = call = self._next(now, run_id)
        return call

    def _next(self, now: float, run_id: str) -> Call:
        if self._errand is Errand.GIVE_BACK:
            return self._reinstate(now, run_id)
        if self._errand is Errand.FINISH:
            return self._finish()
        due = self.producer.outbox(math.inf) if self.state is OwnerState.LEAVING else None
        if due is not None:
            return self._append(due)
        # After a release is asked for, nothing may be appended: another owner may continue (P3.9).
        self.state = OwnerState.RELEASING
        why = "failed" if self._failed else None
        return Release(self.request_id, self.config.owner, self.epoch, why)

    def _reinstate(self, now: float, run_id: str) -> Reinstate:
        """The give-back, repeated unchanged in the same life of the store (P3.11): the store may
        have executed it, and would take another name for another log. No other owner can have
        continued since.
        """
        if self._given is None or self._life != run_id:
            self._may_be_forked |= (
                self._given is not None and self._given.view.log_id != self.log_id
            )
            self._life = run_id
            known_of = self.view, self.producer, self.prompt_tokens
            view, chunks = known(*known_of, run_id, alone=self.is_alone(now))
            self._given = Reinstate(view, self.body, chunks, self.config.lease_ms)
        return self._given

    def _append(self, due: Due) -> Append | Finish:
        assert self.state is not OwnerState.RELEASING, (
            "P3.9: who asked for its release appends no more"
        )
        if not due.chunks and due.finish_reason is not None and not self._asks_first:
            return self._finish()
        config, log_id = self.config, self.view.log_id
        head = self.request_id, config.owner, config.lease_ms, self.epoch, log_id
        return Append(*head, due.window, due.reopen_tokens, due.chunks)

    def _finish(self) -> Finish:
        sent_end = self.producer.sent_end
        assert sent_end is not None
        return Finish(
            self.request_id,
            self.config.owner,
            self.epoch,
            self.producer.sent_seq,
            self.end_status,
            sent_end,
            self.error,
            self.prompt_tokens,
            self.config.retention_ms,
            self.view.log_id,
        )

    @property
    def end_status(self) -> Status:
        return end_status(self.producer.finish_reason or "")

    # from the store

    def on_answer(self, position: Position, run_id: str, now: float) -> Update | None:
        """The last command taken was answered. ``run_id``: the life of the store that answered."""
        call, self._call = self._call, None
        if self.state is OwnerState.GONE:
            return None
        if position.outcome is Outcome.OK:
            self._heard_s = now
        kind = type(call)
        if isinstance(call, Append) and position.outcome is Outcome.OK:
            return self._on_appended(call, position, run_id, now)
        if kind is not Reinstate and self._is_forgotten(position, run_id):
            self._forget_call()
            self._errand = Errand.GIVE_BACK
            return None
        if kind is Release:
            ok = position.outcome is Outcome.OK
            return self._go(Update.HANDED_BACK if ok else Update.TAKEN)
        if kind is Reinstate:
            return self._on_reinstated(call, position, run_id, now)
        return self._on_judged(kind, position, run_id, now)

    def on_passed(self, acked_tokens: int, run_id: str, now: float) -> bool:
        """The last append taken succeeded. A fast path: same effect as ``on_answer`` with *ok*.
        Returns whether the request may have more for the store, now or later.
        """
        self._call, producer = None, self.producer
        if self.state is OwnerState.GONE:
            return False
        self._heard_s = now
        self.run_id, self._asks_first, self.suspect = run_id, False, False
        if producer.sent_end is not None:
            self._errand = Errand.FINISH
            return True
        return producer.on_passed(acked_tokens, now) or self.state is not OwnerState.WORKING

    def _on_appended(self, call: Append, position: Position, run_id: str, now: float) -> None:
        self.run_id, self._asks_first = run_id, False
        if call.chunks or call.reopen_tokens:
            self.suspect = False
        if self.producer.sent_end is None:
            self.producer.on_appended(position.next_seq, position.acked_tokens, now)
        else:
            self._errand = Errand.FINISH

    def _on_judged(self, kind: type, position: Position, run_id: str, now: float) -> Update | None:
        """An append was refused, or an end was answered."""
        outcome, ends = position.outcome, self.producer.sent_end is not None
        self._errand = None
        if outcome in (Outcome.OK, Outcome.GAP):
            self.run_id = run_id
            self.producer.on_appended(position.next_seq, position.acked_tokens, now)
            if self.producer.ended and outcome is Outcome.OK:
                self.state, self.suspect = OwnerState.ENDED, False
                return Update.ENDED
            return None
        if kind is Append and outcome is Outcome.FENCED and ends:
            self._errand = Errand.FINISH  # our own end may have been executed: finish tells
            return None
        is_other_life = outcome is Outcome.FENCED and run_id != self.run_id
        if kind is Finish and is_other_life and not self._asks_first:
            # In another life, the store may have forgotten the claim. An end does not say how long
            # the claim lasts, so an append asks first (P2.9).
            self._asks_first = True
            self.producer.on_lost()
            return None
        return self._refused()

    def _refused(self) -> Update | None:
        """Somebody else has the request, or this owner by a log that it cannot name (P3.15)."""
        if not self._may_be_forked:
            return self._go(Update.TAKEN)
        self.state, self._errand = OwnerState.RELEASING, None
        return None

    def _on_reinstated(
        self, call: Call | None, position: Position, run_id: str, now: float
    ) -> Update | None:
        assert isinstance(call, Reinstate)
        self._errand = self._given = None
        self._may_be_forked &= position.outcome is not Outcome.OK
        if position.outcome is Outcome.FENCED and call.view.log_id != self.view.log_id:
            return Update.SUSPECTED  # the store may have the log as we know it, without this fork
        if position.outcome is not Outcome.OK:
            return self._refused()
        self.view, self.run_id = call.view, self._life
        if self.state is OwnerState.ENDED:
            self.state = OwnerState.WORKING
        self._go_on(position, self._asked_s, run_id, now)
        return Update.GIVEN_BACK

    def on_lost(self) -> None:
        """The last command taken got no answer; it may or may not have been executed."""
        call, self._call = self._call, None
        if isinstance(call, Release):
            self.renewed_s = -math.inf  # another owner may have it
        elif not isinstance(call, Reinstate):
            self._forget_call()

    def _forget_call(self) -> None:
        self.producer.on_lost()
        self._errand = None

    def on_renewed(
        self, position: Position, asked_s: float, log_id: str, run_id: str, now: float
    ) -> Update | None:
        """The store said where the request is. Asked at ``asked_s`` with the log name
        ``log_id``.
        """
        if self.state in (OwnerState.GONE, OwnerState.RELEASING) or log_id != self.view.log_id:
            return None
        if position.outcome is not Outcome.OK and asked_s < self._heard_s:
            return None  # the store may have judged this before it said that the request is ours
        if self._is_forgotten(position, run_id):
            if self._call is None:
                self._errand = Errand.GIVE_BACK
        elif position.outcome is Outcome.OK:
            self._go_on(position, asked_s, run_id, now)
            if self.state is OwnerState.ENDED:
                self.state = OwnerState.WORKING
                return Update.ALIVE_AGAIN
        elif self._call is not None or self._errand is Errand.GIVE_BACK:
            pass  # the answer to the call under way decides
        elif self.state is OwnerState.ENDED:
            return self._on_kept(position, run_id)
        elif not (self.finished and position.status in ENDED):
            # If the request has ended, our own end may have been executed and its answer lost:
            # finish tells.
            return self._refused()
        return None

    def _on_kept(self, position: Position, run_id: str) -> Update | None:
        """Apply P3.1: a chunk is kept until its request has ended and is acknowledged."""
        self.run_id = run_id
        if position.status in ENDED and position.acked_seq < position.next_seq - 1:
            return None
        return self._go(Update.LET_GO)

    def on_news(self, news: News, now: float) -> Update | None:
        """News for the owner of an epoch: an ack opened the window, or the request was taken away.

        News of another epoch is ignored. An older release names no epoch (0): then an ack counts,
        and the store is asked about the rest (P2.10).
        """
        if not self.is_held or news.epoch not in (0, self.epoch):
            return None
        if news.position.outcome is Outcome.OK:
            self._told_s = now
            self._note_readers(news.position)
            self.producer.on_acked(news.position.acked_tokens, now)
            return None
        return self._go(Update.TAKEN) if news.epoch else Update.SUSPECTED

    def let_go(self) -> None:
        """Ignore everything that still arrives for it."""
        self._go(Update.LET_GO)

    def _go_on(self, position: Position, asked_s: float, run_id: str, now: float) -> None:
        self.renewed_s, self.run_id, self._heard_s = asked_s, run_id, now
        if asked_s >= self._told_s:  # else the answer may be older than the news
            self._note_readers(position)
        self.producer.on_position(
            position.next_seq,
            position.acked_tokens,
            now,
            paused=position.status is Status.PAUSED,
        )

    def _note_readers(self, position: Position) -> None:
        """A request with an empty log is paused only for lack of a reader."""
        is_empty = position.next_seq == 1 and not self.producer.generated_tokens
        self.unread = is_empty and position.status is Status.PAUSED
        if self.unread:
            self.suspect = False  # a pause begins the count of its claims anew (P15.16)

    def _is_forgotten(self, position: Position, run_id: str) -> bool:
        """Whether it was lost with the store's data (P3.3); what expired or was deleted stays
        unknown (P3.4).
        """
        return position.outcome is Outcome.UNKNOWN and run_id != self.run_id

    def _go(self, turn: Update) -> Update:
        self.state = OwnerState.GONE
        self._errand = None
        return turn

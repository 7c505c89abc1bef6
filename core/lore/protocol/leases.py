"""All requests of one generator: renewals of their leases, and retries of the store.

Events come in with ``now``, in seconds. Afterwards, ``outbox`` holds pairs of (whom it is for,
command), ``appends`` holds those of appends, and ``turns`` the turns that requests took.
``deadline`` says when ``on_time`` has something to do. A shell drains the lists after each event
and reports the result of each command: ``on_step`` for appends, ``on_answer`` for others, or
``on_lost`` when there was no answer (P3, P15).

Leases are renewed by the clock, four times in each lease, in one call for each partition, whatever
is appended meanwhile. The answers say what the store has, which repairs lost wake-ups and a store
that forgot. The reports after a lost connection do the same. Ended requests are kept for a store
that forgets. Every third lease the store is asked about them, until it says that their readers have
everything.

While the store is away, nothing is lost and the store is not flooded: producers keep their chunks,
and one timer with backoff tries again.
"""

import heapq
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, cast

from lore.protocol.commands import Append, Finish, Reinstate, Release, Renew, Subscribe, Unsubscribe
from lore.protocol.logprobs import Scored
from lore.protocol.messages import News, Outcome, Position
from lore.protocol.owner import Owner
from lore.protocol.owner_types import OwnerState, Terms, Update
from lore.protocol.pace import Pacer
from lore.protocol.pace_types import PaceConfig

RENEWALS_PER_LEASE = 4
KEPT_EVERY_LEASES = 3
FIRST_RETRY_S, LAST_RETRY_S = 0.05, 0.5
"""Seconds between two attempts at a store that is away: text moves again soon after it is back."""
REPORT_RETRY_S = 0.25


class Renewing(NamedTuple):
    """The owners that a ``Renew`` is for, in its order, and when it was sent."""

    owners: tuple[Owner, ...]
    asked_s: float
    is_report: bool


Command = Append | Finish | Reinstate | Release | Renew | Subscribe | Unsubscribe
Subject = Owner | Renewing


class Leases:
    def __init__(
        self,
        config: Terms,
        *,
        max_kept: int,
        run_id: Callable[[int], str],
        jitter: Callable[[], float],
        now: float,
        pace: PaceConfig | None = None,
        slots: float = math.inf,
    ) -> None:
        """``run_id`` names the life of the store that has a partition (``Store.run_id``).
        ``jitter`` returns a new number between 0.5 and 1. ``pace``: how the engine's ``slots`` are
        shared while requests wait for one (P20); None: first come, first served.
        """
        self.pacer = Pacer[Owner](pace or PaceConfig(), slots if pace else math.inf, _generated)
        self.live: dict[str, Owner] = {}
        """The requests that this generator works on."""
        self.kept: dict[str, Owner] = {}
        """Ended requests that are kept (P3.1), the oldest first."""
        self.outbox: list[tuple[Subject, Command]] = []
        self.appends: list[tuple[Owner, Append]] = []
        """Due appends. They are apart because those of one step go out together."""
        self.turns: list[tuple[Owner, Update, Position | None]] = []
        self.config = config
        self._max_kept = max_kept
        self._run_id = run_id
        self._jitter = jitter
        self._trial: Owner | None = None
        self._leaving: dict[Owner, None] = {}
        self._interval_s = config.lease_s / RENEWALS_PER_LEASE
        self._beats = 0
        self._beat_s = now + self._interval_s
        self._report_s = math.inf
        self._attempts = 0
        self._retry_s = math.inf
        self._stuck: dict[Owner, None] = {}
        self._alarms: list[tuple[float, int, Owner]] = []
        self._alarms_set = 0

    # state

    @property
    def has_work(self) -> bool:
        """Whether a shell has commands to carry out."""
        return bool(self.appends or self.outbox or self.turns)

    @property
    def on_trial(self) -> bool:
        """Whether a request is here that was claimed in vain before (P15.17)."""
        trial = self._trial
        return trial is not None and trial.suspect and self.holds(trial)

    @property
    def leaving(self) -> int:
        """How many requests are being handed back."""
        return len(self._leaving)

    @property
    def decoding(self) -> int:
        """How many requests have a place in the batch. A parked one has none."""
        return self.pacer.decoding

    def holds(self, owner: Owner) -> bool:
        return self.live.get(owner.request_id) is owner

    def has_newer(self, request_id: str, epoch: int) -> bool:
        """Whether this generator works on a later claim of the request."""
        owner = self.live.get(request_id)
        return owner is not None and owner.epoch > epoch

    def note(self, owner: Owner, now: float) -> None:
        """Tell the pacer how far the request is, and may go."""
        pacer, producer = self.pacer, owner.producer
        if not self.holds(owner) or owner.finished or owner.unread:
            pacer.remove(owner)
        elif owner in pacer:
            pacer.on_tokens(owner, producer.generated_tokens, now)
            pacer.on_credit(owner, producer.limit, acked_tokens=producer.acked_tokens, now=now)
        else:
            pacer.add(
                owner,
                pace=owner.pace,
                credit=producer.limit,
                now=now,
                generated_tokens=producer.generated_tokens,
                acked_tokens=producer.acked_tokens,
            )

    # events of this generator

    def add(self, owner: Owner, now: float) -> None:
        """Work on a request. An earlier lease on the same request is void now."""
        for held, turn in ((self.live, Update.TAKEN), (self.kept, Update.LET_GO)):
            earlier = held.get(owner.request_id)
            if earlier is not None and earlier is not owner:
                earlier.let_go()
                self._drop(earlier, turn, None, unsubscribe=False)
        self.live[owner.request_id] = owner
        if owner.suspect:
            self._trial = owner
        self.pump(owner, now)

    def pass_on(
        self,
        owner: Owner,
        text: str,
        token_ids: tuple[int, ...],
        now: float,
        scored: tuple[Scored, ...] = (),
    ) -> bool:
        """Take a piece of the engine's and send it. A fast path for nearly all pieces: same effect
        as ``Owner.on_piece``, ``note`` and ``pump``. False: the piece is not taken.
        """
        if self._retry_s < math.inf:
            return False
        command = owner.pass_on(text, token_ids, now, scored)
        if command is None:
            return False
        self.appends.append((owner, command))
        if self.pacer.shares:
            self.pacer.on_tokens(owner, owner.producer.generated_tokens, now)
        return True

    def pump(self, owner: Owner, now: float) -> None:
        """Send what is due of a request, or set its alarm."""
        due = owner.deadline()
        if due is None:
            return
        if due > now:
            self._set_alarm(owner, due)
        elif self._retry_s < math.inf:
            self._stuck[owner] = None
        else:
            command = owner.take(now, self._run_id(owner.partition))
            if type(command) is Append:
                self.appends.append((owner, command))
                return
            self.outbox.append((owner, command))
            if owner.state is OwnerState.RELEASING and self.holds(owner):
                self._remove(owner)
                self._leaving[owner] = None

    def say_alive(self, partitions: Sequence[int], now: float) -> None:
        """Renew the leases in partitions in which others may miss this generator (P15.13)."""
        if partitions and self.live:
            self._renew([o for o in self.live.values() if o.partition in partitions], now)

    def drain(self, now: float, *, failed: bool) -> None:
        """Hand all requests back (P15.9)."""
        for owner in list(self.live.values()):
            self.hand_back(owner, now, failed=failed)

    def hand_back(self, owner: Owner, now: float, *, failed: bool) -> None:
        """Hand one request back, which the engine has let go of. ``failed``: see ``Owner``."""
        owner.hand_back(failed=failed)
        self._leaving[owner] = None
        self.pump(owner, now)

    def close(self) -> None:
        """Stop: later events do nothing."""
        for owner in [*self.live.values(), *self._leaving]:
            owner.let_go()
            self._drop(owner, Update.TAKEN, None, unsubscribe=False)
        self.outbox.clear()
        self.appends.clear()

    # answers of the store

    def on_answer(self, subject: Subject, command: Command, answer: object, now: float) -> None:
        self._attempts = 0
        if isinstance(subject, Renewing):
            assert isinstance(command, Renew)
            self._on_renewed(subject, command, cast("list[Position]", answer), now)
        elif isinstance(answer, Position):
            turn = subject.on_answer(answer, self._run_id(subject.partition), now)
            self._follow(subject, turn, answer, now)
        elif isinstance(command, Subscribe):
            subject.subscribed = True

    def on_step(
        self,
        step: Sequence[tuple[Owner, Append]],
        answers: Sequence[int | Position],
        run_id: str,
        now: float,
    ) -> list[Owner]:
        """Take the answers to a step's appends. An append that went well has its acked tokens as
        answer. ``run_id``: the life of the store that answered.

        Returns the owners whose credit may have changed.
        """
        self._attempts = 0
        moved: list[Owner] = []
        for (owner, command), answer in zip(step, answers, strict=True):
            if type(answer) is int:
                if answer != owner.producer.window.acked_tokens:
                    moved.append(owner)
                if owner.on_passed(answer, run_id, now):
                    self.pump(owner, now)
            else:
                moved.append(owner)
                self.on_answer(owner, command, answer, now)
        return moved

    def on_lost(self, subject: Subject, command: Command, now: float) -> None:
        """A command got no answer."""
        if isinstance(subject, Renewing):
            if subject.is_report:
                self._report_s = min(self._report_s, now + REPORT_RETRY_S)
            return
        if isinstance(command, Subscribe | Unsubscribe):
            return  # the next renewal asks again
        subject.on_lost()
        if subject.state is OwnerState.GONE:
            return
        self._stuck[subject] = None
        if self._retry_s == math.inf:
            pause_s = min(LAST_RETRY_S, FIRST_RETRY_S * 2**self._attempts)
            self._attempts += 1
            self._retry_s = now + pause_s * self._jitter()

    def on_news(self, owner: Owner, news: News, now: float) -> None:
        self._follow(owner, owner.on_news(news, now), news.position, now)

    def on_store_back(self, now: float) -> None:
        """Try again, and report every request to the store, also the kept ones: it may have
        forgotten some.
        """
        self._report_s = now
        self._retry_s = min(self._retry_s, now)
        self.on_time(now)

    # time

    def deadline(self) -> float:
        alarm_s = self._alarms[0][0] if self._alarms else math.inf
        return min(alarm_s, self._beat_s, self._report_s, self._retry_s)

    def on_time(self, now: float) -> None:
        if self._retry_s <= now:
            self._retry_s = math.inf
            stuck, self._stuck = self._stuck, {}
            for owner in stuck:
                self.pump(owner, now)
        while self._alarms and self._alarms[0][0] <= now:
            owner = heapq.heappop(self._alarms)[2]
            owner.alarm_s = None
            self.pump(owner, now)
        if self._report_s <= now:
            self._report_s = math.inf
            self._beat_s = now + self._interval_s
            self._renew([*self.live.values(), *self.kept.values()], now, is_report=True)
        elif self._beat_s <= now:
            self._beat(now)

    def _beat(self, now: float) -> None:
        self._beats += 1
        self._beat_s = now + self._interval_s
        oldest_s = now - self._interval_s
        due = [owner for owner in self.live.values() if owner.renewed_s <= oldest_s]
        if self._beats % (KEPT_EVERY_LEASES * RENEWALS_PER_LEASE) == 0:
            due += self.kept.values()
        self._renew(due, now)

    def _renew(self, due: Iterable[Owner], now: float, *, is_report: bool = False) -> None:
        partitions: dict[int, list[Owner]] = {}
        for owner in due:
            partitions.setdefault(owner.partition, []).append(owner)
        for partition, owners in partitions.items():
            leases = tuple((one.request_id, one.epoch, one.log_id) for one in owners)
            command = Renew(partition, self.config.owner, self.config.lease_ms, leases)
            self.outbox.append((Renewing(tuple(owners), now, is_report), command))

    def _on_renewed(
        self, subject: Renewing, command: Renew, answers: list[Position], now: float
    ) -> None:
        for owner, lease, position in zip(subject.owners, command.leases, answers, strict=True):
            run_id = self._run_id(owner.partition)
            turn = owner.on_renewed(position, subject.asked_s, lease[2], run_id, now)
            self._follow(owner, turn, position, now)
            if position.outcome is Outcome.OK and not owner.subscribed and self.holds(owner):
                self.outbox.append((owner, Subscribe(owner.request_id, owner.epoch)))

    def _set_alarm(self, owner: Owner, due: float) -> None:
        if owner.alarm_s is None or owner.alarm_s > due:
            owner.alarm_s = due
            self._alarms_set += 1
            heapq.heappush(self._alarms, (due, self._alarms_set, owner))

    # results for one request

    def _follow(self, owner: Owner, turn: Update | None, position: Position, now: float) -> None:
        if turn is None:
            pass
        elif turn is Update.SUSPECTED:
            self._renew([owner], now)  # the next renewal makes up for a lost answer
        elif turn is Update.ENDED:
            self._keep(owner, position)
        elif owner.state is OwnerState.GONE:
            self._drop(owner, turn, position)
        else:
            if self.kept.get(owner.request_id) is owner:
                self._work_again(owner)
            self.turns.append((owner, turn, position))
        self.pump(owner, now)

    def _keep(self, owner: Owner, position: Position) -> None:
        """Keep its chunks for a while. The oldest requests are let go of first (P3.1)."""
        assert owner.producer.ended, "P3.1: only what the store has as ended is set aside"
        self._drop(owner, Update.ENDED, position)
        self.kept[owner.request_id] = owner
        if len(self.kept) > self._max_kept:
            oldest = next(iter(self.kept.values()))
            oldest.let_go()
            self._drop(oldest, Update.LET_GO, None)

    def _work_again(self, owner: Owner) -> None:
        del self.kept[owner.request_id]
        self.live[owner.request_id] = owner
        owner.subscribed = False
        self.outbox.append((owner, Subscribe(owner.request_id, owner.epoch)))

    def _drop(
        self, owner: Owner, turn: Update, position: Position | None, *, unsubscribe: bool = True
    ) -> None:
        was_held = self.holds(owner) or owner in self._leaving
        self._remove(owner)
        self._leaving.pop(owner, None)
        if self.kept.get(owner.request_id) is owner:
            del self.kept[owner.request_id]
        self.turns.append((owner, turn, position))
        if was_held and unsubscribe:
            self.outbox.append((owner, Unsubscribe(owner.request_id, owner.epoch)))

    def _remove(self, owner: Owner) -> None:
        if self.holds(owner):
            del self.live[owner.request_id]
        self.pacer.remove(owner)
        self._stuck.pop(owner, None)


def _generated(owner: Owner) -> int:
    return owner.producer.generated_tokens

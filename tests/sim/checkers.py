"""What must always hold (Safety). What must happen in the end is in ``liveness.py``.

The checkers keep their own books: what each log has ever held, what each reader has ever
had, and how much was ever acknowledged. They look at every change of the store, every
decoded token, every event an edge sends and every text a reader takes.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lore.protocol.claims import FAILS, MAX_TRIES
from lore.protocol.commands import (
    Ack,
    Append,
    Cancel,
    Claim,
    Finish,
    Look,
    Meet,
    Readers,
    Reap,
    Reinstate,
    Release,
    Renew,
    Revive,
    Waiting,
    name_of,
)
from lore.protocol.leases import RENEWALS_PER_LEASE, Leases
from lore.protocol.lifecycle import ENDED, OWNED, TRANSITIONS, Event, Status
from lore.protocol.owner import Owner
from lore.store.base import Outcome, Position, View
from lore.store.memory import StoreState
from lore.store.memory.records import Record
from lore.store.types import Open
from tests.sim.faults import LONGEST_FREEZE
from tests.sim.world import Violation, World

EVENTS: dict[type, set[Event]] = {
    Open: set(),
    Ack: {Event.OPEN},
    Readers: {Event.PAUSE, Event.OPEN},
    Cancel: {Event.CANCEL},
    Revive: {Event.REVIVE},
    Claim: {Event.CLAIM, Event.PAUSE},
    Append: {Event.CLAIM, Event.PAUSE, Event.OPEN},
    Finish: {Event.CLAIM, Event.FINISH, Event.FAIL},
    Renew: {Event.CLAIM, Event.PAUSE},
    Release: {Event.RELEASE},
    Reap: {Event.REAP},
    Reinstate: set(),
}
FENCED = {Append, Finish, Renew, Release}


def lease_of(command: Any) -> tuple[str, int]:
    """The request that a command is about, and the epoch that it names, or 0."""
    match command:
        case Reinstate(view):
            return view.request_id, view.epoch
        case Renew():
            return command.leases[0][:2]
        case Open(new):
            return new.request_id, 0
        case _:
            return command.request_id, getattr(command, "epoch", 0)


class Safety:
    def __init__(self, world: World) -> None:
        self.world = world
        self.may_forget = False
        self.restored_at: dict[str, float] = {}
        """When each life of the store began."""
        self.logs: defaultdict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
        """(request, log) to the (text, tokens so far) of every chunk it has ever held."""
        self.ends: set[tuple[str, str, int]] = set()
        """(request, log, last seq) of every end there ever was."""
        self.read_seq: defaultdict[str, int] = defaultdict(int)
        """The most that any reader has ever had."""
        self.acked_tokens: defaultdict[str, int] = defaultdict(int)
        self._sent: dict[object, int] = {}
        self.killed: Counter[tuple[str, int]] = Counter()
        self._released: set[Owner] = set()
        """Those that have asked for a release."""
        self.started: dict[str, float] = {}
        """When each generator was started last."""
        self.on_missed: Callable[[View], None] = lambda view: None
        """Called with each request that is claimed under a running lease."""
        self._crowded_s: dict[str, float] = {}
        """When each generator last had more to do than slots."""
        self._unread_s: dict[str, float] = {}
        """Since when each request waits for a reader."""

    def fail(self, rule: str, text: str) -> None:
        self.world.say(f"VIOLATION {rule}: {text}")
        raise Violation(f"{rule}: {text}")

    def expect(self, condition: bool, rule: str, text: str) -> None:
        if not condition:
            self.fail(rule, text)

    # the store

    def carry_out(self, state: StoreState, command: Any) -> Any:
        """The store's answer to a command, once what it did is checked. Of many leases that are
        renewed, each is."""
        if isinstance(command, Renew) and len(command.leases) > 1:
            each = (command._replace(leases=(lease,)) for lease in command.leases)
            return [self.carry_out(state, one)[0] for one in each]
        if isinstance(command, Waiting | Meet | Look):
            return state.do(command, now_ms=self.world.now_ms)
        if isinstance(command, Claim):
            all_before = {key: (one.view, len(one.log)) for key, one in _records(state).items()}
            claimed = state.do(command, now_ms=self.world.now_ms)
            if claimed is not None:
                view = claimed.view
                self._after_claim(all_before[view.request_id], state, command, view)
            return claimed
        request_id, _ = lease_of(command)
        record = _record(state, request_id)
        before = (record.view, len(record.log)) if record else None
        answer: Any = state.do(command, now_ms=self.world.now_ms)
        self._after(before, state, command, request_id, answer)
        return answer

    def _after_claim(
        self, before: tuple[View, int], state: StoreState, command: Claim, view: View
    ) -> None:
        old, _ = before
        leased = old.status in OWNED and old.lease_until_ms > self.world.now_ms
        there = leased and old.owner in state.present
        self.expect(not there, "P15", f"claimed from an owner that is there: {old}")
        forked = view.log_id != old.log_id
        self.expect(forked or not leased, "P4", f"an owner that may live shares its log: {old}")
        if leased:
            self.on_missed(old)
        self.expect(view.epoch > old.epoch, "P15", f"epoch {view.epoch} after {old.epoch}")
        if view.log_id != old.log_id:
            record = _record(state, view.request_id)
            unasked = record is not None and self.world.now_ms < record.alone_until_ms
            why = self.may_forget or unasked
            self.expect(why, "P4", f"{view.request_id} was forked without a reason")
            inherited = self.logs[view.request_id, old.log_id][: old.next_seq - 1]
            self.logs[view.request_id, view.log_id] = inherited
        self._after(before, state, command, view.request_id, None)

    def _after(
        self,
        before: tuple[View, int] | None,
        state: StoreState,
        command: Any,
        request_id: str,
        answer: Any,
    ) -> None:
        kind = type(command)
        record = _record(state, request_id)
        if record is not None and before is None and kind is Reinstate:
            self._on_given_back(record)
        if record is None or before is None:
            return
        old, old_length = before
        view = record.view
        if view is old and len(record.log) == old_length:
            return
        method = name_of(kind)
        if kind in FENCED and (epoch := lease_of(command)[1]) < old.epoch:
            self.fail("P2", f"{method} of epoch {epoch} changed a request of epoch {old.epoch}")
        refused = getattr(answer, "outcome", Outcome.OK) is not Outcome.OK
        self.expect(not refused, "P2", f"{method} changed {request_id} and answered {answer}")
        if old.status in ENDED:
            # Acks still count: its generator keeps the chunks until all is acknowledged (P3).
            acked = replace(
                old,
                acked_seq=view.acked_seq,
                acked_tokens=view.acked_tokens,
                progress_ms=view.progress_ms,
            )
            changed = view != acked or len(record.log) != old_length
            self.expect(not changed, "P13", f"{method} changed an ended request: {old}")
        self.expect(
            _reachable(old.status, view.status, EVENTS[kind]),
            "P13",
            f"{method} led from {old.status} to {view.status}",
        )
        self.expect(view.epoch >= old.epoch, "P2", f"epoch fell from {old.epoch} to {view.epoch}")
        self._check_log(record, old_length)
        self._check_acks(record, old)
        self._check_readers(record)
        if view.status in ENDED:
            self.ends.add((request_id, view.log_id, view.next_seq - 1))

    def _on_given_back(self, record: Record) -> None:
        """P3: a log that there was, or a fork of one, with nothing in it that it never had."""
        view = record.view
        self.expect(self.may_forget, "P3", f"{view.request_id} was given back without a loss")
        if (view.request_id, view.log_id) not in self.logs:
            parent_log_id, _, seq = view.forks.rpartition(" ")[2].rpartition(":")
            parent = self.logs.get((view.request_id, parent_log_id))
            self.expect(parent is not None, "P3", f"{view} is a fork of no log")
            inherited = (parent or [])[: int(seq) - 1]
            self.logs[view.request_id, view.log_id] = inherited
        self._check_log(record, 0)
        self._check_acks(record, replace(view, acked_seq=0))

    def _check_log(self, record: Record, old_length: int) -> None:
        view, log = record.view, record.log
        self.expect(view.next_seq == len(log) + 1, "P2", f"next_seq {view.next_seq}, {len(log)}")
        held = self.logs[view.request_id, view.log_id]
        tokens = log[old_length - 1].chunk.tokens if old_length else 0
        for i in range(old_length, len(log)):
            chunk = log[i].chunk
            tokens += len(chunk.token_ids)
            self.expect(chunk.seq == i + 1, "P2", f"seq {chunk.seq} at place {i + 1}")
            self.expect(chunk.tokens == tokens, "P2", f"tokens of {chunk} should be {tokens}")
            if i < len(held):
                self.expect(
                    held[i] == (chunk.text, chunk.tokens),
                    "P4",
                    f"log {view.log_id} had {held[i]} at {chunk.seq}, and now {chunk}",
                )
            else:
                held.append((chunk.text, chunk.tokens))
        self.expect(
            view.generated_tokens == (log[-1].chunk.tokens if log else 0), "P2", f"tokens of {view}"
        )

    def _check_acks(self, record: Record, old: View) -> None:
        view = record.view
        acked = view.acked_seq
        self.expect(old.acked_seq <= acked < view.next_seq, "P9", f"acked {acked} of {view}")
        self.expect(
            acked <= self.read_seq[view.request_id],
            "P9",
            f"acked {acked}, but no reader has more than {self.read_seq[view.request_id]}",
        )
        tokens = record.log[acked - 1].chunk.tokens if acked else 0
        self.expect(view.acked_tokens == tokens, "P9", f"{acked} is {tokens} tokens: {view}")
        self.acked_tokens[view.request_id] = max(self.acked_tokens[view.request_id], tokens)

    def _check_readers(self, record: Record) -> None:
        view = record.view
        if view.status is Status.PAUSED and record.is_unread:
            self.expect(view.ack != "none", "P8", f"{view} waits for a reader")
            self._unread_s.setdefault(view.request_id, self.world.now)
        else:
            self._unread_s.pop(view.request_id, None)
        if record.unread:
            self.killed.pop((view.request_id, 1), None)  # the count begins anew

    def on_prompt_read(self, owner: Owner, state: StoreState) -> None:
        """P7: an owner reads on for nobody until its next renewal at most."""
        record, options = _record(state, owner.request_id), self.world.options
        since_s = self._unread_s.get(owner.request_id)
        hears = not (
            options.call_lost
            or options.answer_lost
            or options.call_late
            or options.partition_rate
            or options.store_crash_rate
            or options.generator_freeze_rate
        )
        if since_s is None or record is None or record.view.epoch != owner.epoch or not hears:
            return
        # A claim may be too young for the next renewal.
        bound_s = 2 * options.lease_s / RENEWALS_PER_LEASE + 4 * options.delay_max_s + 0.1
        if self.world.healed_s:  # the store may be down then, and the owner frozen
            bound_s += options.down_s + LONGEST_FREEZE * options.lease_s
        reads_s = self.world.now - max(since_s, self.world.healed_s)
        self.expect(reads_s <= bound_s, "P7", f"{record.view} is read for nobody for {reads_s} s")

    def on_restore(self, run_id: str) -> None:
        self.may_forget = True
        self.restored_at[run_id] = self.world.now

    def on_move(self, came_from: str, run_id: str) -> None:
        """What owners reported where the partitions were went along with them."""
        self.may_forget = True
        self.restored_at[run_id] = self.restored_at.get(came_from, 0.0)

    def summary(self, state: StoreState) -> str:
        return ", ".join(
            f"{key} {record.view.status} log {record.view.log_id} next {record.view.next_seq}"
            for key, record in _records(state).items()
        )

    # the generators

    def on_claim(self, name: str, now: float, heard_s: float) -> None:
        """P15: not before both connections are up, and the owners of a store that was away have
        had time to report."""
        self.expect(heard_s < math.inf, "P15", f"{name} claims without a subscription")
        grace_s = 0.0 if heard_s == self.started.get(name) else self.world.options.grace_s
        early = now < heard_s + grace_s - 1e-9
        self.expect(
            not early, "P15", f"{name} claims {now - heard_s:.2f} s after the store is back"
        )

    def on_command(self, owner: Owner, command: Any) -> None:
        """P3, P15: all that was made is appended before a release, and nothing after it."""
        if isinstance(command, Append | Finish):
            after = owner in self._released
            self.expect(not after, "P3", f"{owner.request_id} goes on after its release")
        elif isinstance(command, Release) and owner not in self._released:
            self._released.add(owner)
            due = owner.producer.outbox(math.inf)
            self.expect(due is None, "P15", f"{owner.request_id} is released, and lacks {due}")

    def on_taken(self, owner: Owner, position: Position, state: StoreState) -> None:
        """P2, P3: an owner drops a request for a reason. Nobody deletes one here."""
        forgotten = position.outcome is Outcome.UNKNOWN
        self.expect(not forgotten, "P3", f"{owner.request_id} was not given back by its owner")
        record = _record(state, owner.request_id)
        if record is None:
            return
        view = record.view
        may = state._may_write(  # pyright: ignore[reportPrivateUsage]
            *(record, owner.config.owner, owner.epoch, owner.log_id),
            lease_ms=owner.config.lease_ms,
            now_ms=self.world.now_ms,
        )
        self.expect(not may, "P2", f"{view.request_id} was dropped by its owner: {view}")
        own_end = view.status in (Status.DONE, Status.FAILED) and view.epoch == owner.epoch
        whole = view.acked_seq == view.next_seq - 1
        self.expect(whole or not own_end, "P3", f"{view.request_id} is not kept: {view}")

    def on_refused(self, request_id: str, error: str) -> None:
        """P15: no log is broken here, and only what ended a generator again and again fails."""
        self.expect(error == FAILS, "P15", f"{request_id} was failed: {error}")
        kinds = (
            "generator crash",
            "generator freeze",
            "seizure",
            "engine failure",
            "store crash",
            "partition",
        )
        lost = ("call lost", "call late", "answer lost")
        why = any(self.world.injected[kind] for kind in (*kinds, *lost))
        self.expect(why, "P15", f"{request_id} was failed, and no claim came to nothing")

    def on_trial(self, name: str, owners: list[Owner]) -> None:
        """P15: one that was claimed in vain is worked on at a time."""
        suspect = [owner.request_id for owner in owners if owner.suspect]
        self.expect(len(suspect) <= 1, "P15", f"{name} works on {suspect} at a time")

    def on_let_go(self, owner: Owner, state: StoreState) -> None:
        """P3: the chunks are kept until the readers have everything, or it is another's to keep
        them: of a lease that lapsed while the store forgot its end, the next owner's."""
        view = state.view(owner.request_id, now_ms=self.world.now_ms)
        if view is None or view.status not in ENDED or view.epoch != owner.epoch:
            return
        whole = view.acked_seq == view.next_seq - 1
        self.expect(whole, "P3", f"{owner.request_id} was let go of, and may be needed: {view}")

    def on_decoded(self, request_id: str, generated: int, limit: int | None, size: int) -> None:
        """P5: ``size`` is the largest window that this owner has had."""
        if limit is None:
            return
        self.expect(generated <= limit, "P5", f"{generated} tokens on a credit of {limit}")
        acked = self.acked_tokens[request_id]
        self.expect(
            generated - acked <= size,
            "P5",
            f"{request_id}: {generated} generated, {acked} acked, a window of {size}",
        )

    def on_poisoned(self, request_id: str, state: StoreState) -> None:
        """P15: a request kills so many at most before it fails, or its log is longer.

        One more than may try in vain, as who appended the last chunk did not; twice, as the
        count begins anew when the window closes.
        """
        record = _record(state, request_id)
        key = (request_id, record.view.next_seq if record else 0)
        self.killed[key] += 1
        self.expect(
            self.may_forget or self.killed[key] <= 2 * (MAX_TRIES + 1),
            "P15",
            f"{request_id} has killed {self.killed[key]} generators at seq {key[1]}",
        )

    def on_shared(self, name: str, leases: Leases, waiting: int) -> None:
        """P20: pace binds only while somebody waits for a slot, and for a while after."""
        options, now = self.world.options, self.world.now
        wanting = [o for o in leases.live.values() if not (o.parked or o.finished)]
        if waiting + len(wanting) > options.slots:
            self._crowded_s[name] = now
        is_calm = now > self._crowded_s.get(name, -math.inf) + options.pace_calm_s + 0.01
        paced = [owner.request_id for owner in wanting if leases.pacer.is_parked(owner)]
        self.expect(not (is_calm and paced), "P20", f"{paced} parked, and nobody waits at {name}")

    # the edges and the readers

    def on_sent(self, connection: object, after: int, seq: int) -> None:
        """P10: what a connection sends for the first time follows what it sent before."""
        last = self._sent.get(connection, after)
        self.expect(seq == last + 1, "P10", f"{connection} sent {seq} after {last}")
        self._sent[connection] = seq

    def on_text(
        self, name: str, request_id: str, log_id: str, start: int, end: int, text: str
    ) -> None:
        """P1: the reader put chunks ``start + 1`` to ``end`` of a log behind what it had."""
        self.read_seq[request_id] = max(self.read_seq[request_id], end)
        held = self.logs[request_id, log_id]
        self.expect(len(held) >= end, "P1", f"{name} has {end} chunks of {len(held)}")
        right = "".join(chunk[0] for chunk in held[start:end])
        self.expect(
            text == right,
            "P1",
            f"{name} read {text!r} as {start + 1} to {end} of log {log_id}, which is {right!r}",
        )

    def on_whole_text(self, name: str, request_id: str, log_id: str, end: int, text: str) -> None:
        """P1, for all that a reader has: at a change of its log and at its end."""
        self.on_text(name, request_id, log_id, 0, end, text)

    def on_complete(self, name: str, request_id: str, log_id: str, last_seq: int) -> None:
        self.expect(
            (request_id, log_id, last_seq) in self.ends,
            "P1",
            f"{name} was told that log {log_id} ends at {last_seq}, which it never did",
        )

    def on_given_up(self, request_id: str, run_id: str, grace_s: float) -> None:
        """P4: an edge waits so long for an owner to give a request back to this store."""
        early = self.world.now < self.restored_at.get(run_id, 0.0) + grace_s
        self.expect(not early, "P4", f"{request_id} was given up before its owner could report")

    def on_lost(self, name: str, request_id: str, why: str) -> None:
        self.expect(self.may_forget, "P4", f"{name} lost {request_id} ({why}) without any loss")


def _records(state: StoreState) -> dict[str, Record]:
    return state._records  # pyright: ignore[reportPrivateUsage]


def _record(state: StoreState, request_id: str) -> Record | None:
    return _records(state).get(request_id)


def _reachable(start: Status, end: Status, events: set[Event]) -> bool:
    reached = {start}
    for _ in range(2):
        reached |= {
            TRANSITIONS[status, event]
            for status in reached
            for event in events
            if (status, event) in TRANSITIONS
        }
    return end in reached

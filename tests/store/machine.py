"""One state machine, two stores: whatever happens, Valkey answers as its twin does.

Hypothesis draws calls by several owners, stale leases among them, lets time pass, and lets
the server come back as it was earlier. After every step the answers, the publications and
everything kept must be the same in both, and the protocol's promises must hold in Valkey.
"""

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from lore.protocol.commands import (
    Ack,
    Append,
    Cancel,
    Claim,
    Finish,
    Forget,
    GiveUp,
    Meet,
    Others,
    Prompt,
    Readers,
    Reap,
    Reinstate,
    Release,
    Renew,
    Revive,
    Silent,
    Waiting,
)
from lore.protocol.fork import fork
from lore.protocol.lifecycle import ENDED, OWNED, TRANSITIONS, Event, Status
from lore.store.base import Outcome, Position, View
from lore.store.keys import partition_of
from lore.store.memory.state import StoreState
from lore.store.types import Open
from tests.store.backends import chunk, expire_keys, new
from tests.store.checks import check_places, check_request
from tests.store.real import IDS, PARTITIONS_USED, RealStore

MET_MS = 60
LEASE_MS = 50
LEFT_MS = 40
RETENTION_MS = 200

# A call that adopts a forgotten claim takes two steps of the table at once (P2).
STEPS = {(before, after) for (before, _), after in TRANSITIONS.items()} | {
    (before, after)
    for (before, event), claimed in TRANSITIONS.items()
    if event is Event.CLAIM
    for (middle, _), after in TRANSITIONS.items()
    if middle is claimed
}


@dataclass(frozen=True)
class Lease:
    request_id: str
    owner: str
    epoch: int
    log_id: str


def lease_of(view: View) -> Lease:
    return Lease(view.request_id, view.owner, view.epoch, view.log_id)


ids = st.sampled_from(IDS)
subjects = st.sampled_from([None, None, "subject", "somebody else"])
partitions = st.sampled_from(PARTITIONS_USED)
owners = st.sampled_from(["g1", "g2"])
models = st.sampled_from(["", "m@1", "m@2"])
silences = st.builds(
    Silent,
    run_id=st.just(""),
    silent_ms=st.sampled_from([0, LEASE_MS // 4]),
    owners=st.sampled_from([("g1",), ("g2",), ("g1", "g2")]),
)


class StoreMachine(RuleBasedStateMachine):
    leases = Bundle("leases")
    snapshots = Bundle("snapshots")

    def __init__(self, real: RealStore) -> None:
        super().__init__()
        self.real = real
        self.real.now_ms = 4_000_000_000_000  # later than any server's own clock
        self.runs = 0
        self.met_until_ms = 0
        self.twin = StoreState("run-0")
        for owner in ("g1", "g2"):
            self.set_present(owner, is_there=False)
        self.real.restart({}, "run-0")
        self.kept = self.real.kept()
        self.before: dict[str, View] = {}

    def both(self, command: Any) -> Any:
        expected: Any = self.twin.do(command, now_ms=self.real.now_ms)
        if isinstance(command, Append):
            (answer,), heard = self.real.step(command)
            answer = whole(answer, command, expected)
        else:
            answer, heard = self.real.call(command)
        assert answer == expected
        assert heard == [
            p if p.channel != "wake" else p._replace(request_id="") for p in self.twin.take_outbox()
        ]
        return answer

    @initialize(target=leases)
    def begin(self) -> Any:
        """Most of what matters happens to a request that someone owns."""
        for request_id in IDS[1:]:
            self.open(request_id, queue_limit=3, later_ms=30)
        owned = [self.claim(partition, "g1") for partition in PARTITIONS_USED]
        for lease in owned:
            self.append(lease, count=2)
        return multiple(*owned)

    # The rules are drawn alike, so that what should happen more often is more rules.

    @rule(
        request_id=ids,
        queue_limit=st.integers(1, 3),
        later_ms=st.sampled_from([0, 0, 30]),
        ahead=st.sampled_from([0, 0, 64, 128]),
        trace=st.sampled_from(["", "00-a-b-01"]),
        asks_elsewhere=st.booleans(),
    )
    def open(
        self,
        request_id: str,
        queue_limit: int,
        later_ms: int = 0,
        ahead: int = 0,
        trace: str = "",
        asks_elsewhere: bool = False,
    ) -> None:
        place_ms = later_ms and self.real.now_ms + later_ms
        asked = new(request_id, place_ms=place_ms, ahead=ahead, trace=trace)
        asked = replace(asked, asks_elsewhere=asks_elsewhere)
        self.both(Open(asked, queue_limit))

    @rule(target=leases, partition=partitions, owner=owners, untried=st.booleans())
    def claim(self, partition: int, owner: str, untried: bool = False) -> Any:
        claimed = self.both(Claim(partition, owner, LEASE_MS, untried))
        if claimed is not None and untried:
            is_unread = claimed.view.status is Status.PAUSED
            assert claimed.view.tries == (0 if is_unread else 1)
        return lease_of(claimed.view) if claimed else multiple()

    @rule(
        target=leases,
        lease=leases,
        owner=owners,
        models=st.sampled_from([("m@1", "m@2"), ("m@1", "m@2"), ("m@1", "m@1")]),
        again_ms=st.sampled_from([0, LEFT_MS - 1, LEFT_MS]),
    )
    def claim_with_another_model(
        self, lease: Lease, owner: str, models: tuple[str, str], again_ms: int
    ) -> Any:
        """P15.22: an answer with text is passed over for a time, from its lease or the queue."""
        mine, partition = Others(models[1], LEFT_MS), partition_of(lease.request_id)
        self.both(Prompt(lease.request_id, lease.owner, lease.epoch, 9, models[0]))
        self.both(Release(lease.request_id, lease.owner, lease.epoch))
        claimed = [self.both(Claim(partition, owner, LEASE_MS, others=mine))]
        self.pass_time(again_ms)
        claimed.append(self.both(Claim(partition, owner, LEASE_MS, others=mine)))
        return multiple(*(lease_of(one.view) for one in claimed if one))

    @rule(
        target=leases,
        partition=partitions,
        owner=owners,
        untried=st.booleans(),
        silent=silences,
        is_there=st.booleans(),
        is_here=st.sampled_from([True, True, False]),
        waited_ms=st.sampled_from([0, LEASE_MS // 2]),
    )
    def claim_from_a_silent_owner(
        self,
        partition: int,
        owner: str,
        untried: bool,
        silent: Silent,
        is_there: bool,
        is_here: bool,
        waited_ms: int,
    ) -> Any:
        """P4, P15: if it has no subscriber where that was looked at, and has not renewed."""
        self.pass_time(waited_ms)
        for name in silent.owners:
            self.set_present(name, is_there=is_there)
        named = (silent._replace(run_id=self.twin.run_id if is_here else "another"),)
        before = {i: self.twin.view(i, now_ms=self.real.now_ms) for i in IDS}
        self.both(Waiting(LEASE_MS, named))
        claimed = self.both(Claim(partition, owner, LEASE_MS, untried, named))
        if claimed is None:
            return multiple()
        old = before[claimed.view.request_id]
        assert old is not None
        if old.status in OWNED and old.lease_until_ms > self.real.now_ms:
            assert is_here
            assert not is_there
            assert old.owner in silent.owners
            assert claimed.view.log_id != old.log_id
        return lease_of(claimed.view)

    @rule(target=leases, lease=leases, owner=owners)
    def claim_from_an_owner_that_has_just_renewed(self, lease: Lease, owner: str) -> Any:
        self.renew(lease, lease, later_ms=0)
        silent = Silent(run_id="", silent_ms=LEASE_MS // 4, owners=(lease.owner,))
        drawn = {"untried": False, "is_there": False, "is_here": True, "waited_ms": 0}
        partition = partition_of(lease.request_id)
        return self.claim_from_a_silent_owner(partition, owner, silent=silent, **drawn)

    def set_present(self, owner: str, *, is_there: bool) -> None:
        self.real.set_present(owner, is_there=is_there)
        (self.twin.present.add if is_there else self.twin.present.discard)(owner)

    @rule(owner=owners)
    def meet(self, owner: str) -> None:
        """All of them keep each other for the same time."""
        self.both(Meet(owner, MET_MS))
        self.met_until_ms = self.real.now_ms + MET_MS

    @rule(target=leases, partition=partitions, owner=owners, count=st.integers(0, 2))
    def claim_and_be_forgotten(self, partition: int, owner: str, count: int) -> Any:
        """P2: the epoch of the append is newer than any that the store knows."""
        snapshot = self.take_snapshot()
        claimed = self.both(Claim(partition, owner, LEASE_MS))
        self.come_back_as_earlier(snapshot)
        if claimed is None:
            return multiple()
        self.append(lease_of(claimed.view), count)
        return lease_of(claimed.view)

    @rule(target=leases, partition=partitions, owner=owners)
    def fail_and_take_no_risk(self, partition: int, owner: str) -> Any:
        """P15: what was tried in vain is passed over."""
        lease = self.claim(partition, owner)
        if isinstance(lease, Lease):
            self.both(Release(lease.request_id, lease.owner, lease.epoch, "failed"))
        return self.claim(partition, owner, untried=True)

    @rule(lease=leases, back=st.integers(-1, 3), subject=subjects)
    def ack(self, lease: Lease, back: int, subject: str | None) -> None:
        view = self.twin.view(lease.request_id, now_ms=self.real.now_ms)
        seq = (view.next_seq if view else 1) - 1 - back
        self.of_a_subject(Ack(lease.request_id, seq, subject))

    def of_a_subject(self, command: Ack | Cancel | Forget | Revive) -> None:
        """Nobody's call changes a request of somebody else."""
        before = self.kept
        position = self.both(command)
        if command.subject == "somebody else":
            assert position == Position(Outcome.UNKNOWN, None)
            assert self.real.kept() == before

    @rule(partition=partitions, ago_ms=st.sampled_from([0, 30, 100]), most=st.integers(1, 3))
    def give_up(self, partition: int, ago_ms: int, most: int) -> None:
        """P17: nothing is touched but what has ended and was read."""
        until_ms = self.real.now_ms - ago_ms
        before = {i: self.twin.view(i, now_ms=self.real.now_ms) for i in IDS}
        given_up = self.both(GiveUp(partition, until_ms, most))
        for request_id, view in before.items():
            after = self.twin.view(request_id, now_ms=self.real.now_ms)
            if after != view:
                given_up -= 1
                assert view is not None
                assert view.status in ENDED
                assert view.acked_seq == view.next_seq - 1
                assert view.finished_ms <= until_ms
        assert given_up == 0

    @rule(lease=leases)
    def finish_and_read_and_give_up(self, lease: Lease) -> None:
        self.finish(lease, offset=0, status=Status.DONE)
        view = self.twin.view(lease.request_id, now_ms=self.real.now_ms)
        self.both(Ack(lease.request_id, view.next_seq - 1 if view else 1))
        self.give_up(partition_of(lease.request_id), ago_ms=0, most=3)

    @rule(lease=leases)
    def finish_unread_and_give_up(self, lease: Lease) -> None:
        self.append_from(lease, start=0, count=1)
        self.finish(lease, offset=0, status=Status.DONE)
        self.give_up(partition_of(lease.request_id), ago_ms=0, most=3)

    @rule(first=ids, second=ids)
    def open_in_another_partition_and_again(self, first: str, second: str) -> None:
        """P17: what a full partition refused may be made in another one, so not here later."""
        self.open(first, queue_limit=1)
        self.open(second, queue_limit=1, asks_elsewhere=True)
        self.open(second, queue_limit=3)

    @rule(lease=leases, count=st.integers(0, 3))
    def append(self, lease: Lease, count: int) -> None:
        self.append_from(lease, start=0, count=count)

    @rule(one=leases, other=leases, counts=st.tuples(st.integers(0, 2), st.integers(0, 2)))
    def append_together(self, one: Lease, other: Lease, counts: tuple[int, int]) -> None:
        """In one call when they are in one partition: the same as one after the other."""
        commands: list[Append] = []
        expected: list[Position] = []
        for lease, count in zip((one, other), counts, strict=True):
            commands.append(self.an_append(lease, start=0, count=count))
            expected.append(self.twin.do(commands[-1], now_ms=self.real.now_ms))
        answers, heard = self.real.step(*commands)
        told = zip(answers, commands, expected, strict=True)
        assert [whole(*one) for one in told] == expected
        assert heard == list(self.twin.take_outbox())

    @rule(lease=leases, count=st.integers(0, 3), behind=st.integers(0, 3))
    def append_and_close(self, lease: Lease, count: int, behind: int) -> None:
        """The window closes, and opens at ``behind`` tokens before its end."""
        self.append_from(lease, start=0, count=count, behind=behind)

    @rule(lease=leases)
    def append_with_a_gap(self, lease: Lease) -> None:
        """What an owner does that does not know of a loss."""
        self.append_from(lease, start=1, count=1)

    @rule(lease=leases, waited_ms=st.sampled_from([0, LEASE_MS]))
    def append_after_a_restart(self, lease: Lease, waited_ms: int) -> None:
        """P2, P4: the server has all it had, and its owner may have been away for too long."""
        self.come_back_as_earlier(self.take_snapshot())
        self.pass_time(waited_ms)
        self.append(lease, count=1)

    @rule(lease=leases, changes=st.sampled_from([{"owner": "impostor"}, {"log_id": "lost"}]))
    def append_as_another(self, lease: Lease, changes: dict[str, str]) -> None:
        self.append(replace(lease, **changes), count=1)

    @rule(
        lease=leases,
        start=st.integers(-2, 0),
        count=st.integers(1, 3),
        changes=st.sampled_from([{}, {"owner": "impostor"}, {"log_id": "lost"}]),
        rewrites=st.booleans(),
    )
    def append_oddly(
        self, lease: Lease, start: int, count: int, changes: dict[str, str], rewrites: bool
    ) -> None:
        """What an owner does that has not heard all, or should not be one."""
        lease = replace(lease, **changes)
        self.append_from(lease, start=start, count=count, rewrites=rewrites)

    def append_from(
        self,
        lease: Lease,
        *,
        start: int,
        count: int,
        behind: int | None = None,
        rewrites: bool = False,
    ) -> None:
        command = self.an_append(lease, start=start, count=count, behind=behind, rewrites=rewrites)
        before = self.kept
        position = self.both(command)
        if position.outcome is not Outcome.OK:
            assert self.real.kept() == before

    def an_append(
        self,
        lease: Lease,
        *,
        start: int,
        count: int,
        behind: int | None = None,
        rewrites: bool = False,
    ) -> Append:
        log = self.twin.log(lease.request_id, now_ms=self.real.now_ms)
        first = max(1, len(log) + 1 + start)
        sent = [
            log[seq - 1]
            if seq <= len(log) and not rewrites
            else chunk(seq, f"{lease.log_id}/{seq}")
            for seq in range(first, first + count)
        ]
        return Append(
            *(lease.request_id, lease.owner, LEASE_MS, lease.epoch, lease.log_id),
            window=8,
            reopen_tokens=0 if behind is None else max(1, 2 * (first + count - 1) - behind),
            chunks=sent,
        )

    @rule(
        lease=leases,
        offset=st.sampled_from([0, 0, 1, -1]),
        status=st.sampled_from([Status.DONE, Status.FAILED]),
    )
    def finish(self, lease: Lease, offset: int, status: Status) -> None:
        command = Finish(
            lease.request_id,
            lease.owner,
            lease.epoch,
            len(self.twin.log(lease.request_id, now_ms=self.real.now_ms)) + 1 + offset,
            log_id=lease.log_id,
            status=status,
            finish_reason="stop",
            error="" if status is Status.DONE else "why",
            prompt_tokens=7,
            retention_ms=RETENTION_MS,
        )
        self.both(command)

    @rule(lease=leases, why=st.sampled_from((None, "failed", "silent")))
    def release(self, lease: Lease, why: Any) -> None:
        self.both(Release(lease.request_id, lease.owner, lease.epoch, why))

    @rule(
        target=leases,
        partition=partitions,
        owners=st.permutations(["g1", "g2"]),
        reaps=st.booleans(),
    )
    def take_away_unasked(self, partition: int, owners: list[str], reaps: bool) -> Any:
        """P3: what the next owner writes must not pass for the last one's."""
        lease = self.claim(partition, owners[0])
        if not isinstance(lease, Lease):
            return lease
        if reaps:
            self.both(Reap(lease.request_id, 0, RETENTION_MS))
            self.both(Revive(lease.request_id))
        else:
            self.both(Release(lease.request_id, lease.owner, lease.epoch, "silent"))
        return self.claim(partition, owners[1])

    @rule(lease=leases, other=leases, later_ms=st.sampled_from([0, 1, 20]))
    def renew(self, lease: Lease, other: Lease, later_ms: int) -> None:
        self.pass_time(later_ms)
        partition = partition_of(lease.request_id)
        renewed = [
            (one.request_id, one.epoch, one.log_id)
            for one in (lease, other)
            if partition_of(one.request_id) == partition
        ]
        self.both(Renew(partition, lease.owner, LEASE_MS, renewed))

    @rule(lease=leases, tokens=st.integers(0, 9), model=st.none() | models)
    def prompt(self, lease: Lease, tokens: int, model: str | None) -> None:
        self.both(Prompt(lease.request_id, lease.owner, lease.epoch, tokens, model))

    @rule(
        lease=leases,
        count=st.integers(0, 3),
        acked=st.integers(0, 3),
        forks=st.booleans(),
        trace=st.sampled_from(["", "00-a-b-01"]),
        model=models,
    )
    def reinstate(
        self, lease: Lease, count: int, acked: int, forks: bool, trace: str, model: str
    ) -> None:
        """P3: what the store has stays; what it has not becomes the owner's as he knows it."""
        log = [chunk(seq, f"{lease.log_id}/{seq}") for seq in range(1, count + 1)]
        asked = new(lease.request_id)
        view = View(
            request_id=lease.request_id,
            subject=asked.subject,
            fingerprint=asked.fingerprint,
            ack=asked.ack,
            status=Status.GENERATING,
            owner=lease.owner,
            epoch=lease.epoch,
            log_id=f"{lease.log_id}f" if forks else lease.log_id,
            forks=fork("older:2", lease.log_id, count + 1) if forks else "",
            next_seq=1,
            generated_tokens=0,
            acked_seq=min(acked, count),
            acked_tokens=2 * min(acked, count),
            window=8,
            prompt_tokens=7,
            finish_reason="",
            error="",
            created_ms=self.real.now_ms - 5,
            started_ms=self.real.now_ms - 4,
            progress_ms=0,
            finished_ms=0,
            lease_until_ms=0,
            trace=trace,
            model=model,
        )
        self.both(Reinstate(view, asked.body, log, LEASE_MS))

    @rule()
    def come_back_empty(self) -> None:
        self.come_back_as_earlier((StoreState().snapshot(), {}, 0))

    @rule(lease=leases, unread=st.booleans())
    def leave_unread(self, lease: Lease, unread: bool) -> None:
        self.both(Readers(lease.request_id, "left" if unread else "back"))

    @rule(lease=leases, subject=subjects)
    def cancel(self, lease: Lease, subject: str | None) -> None:
        self.of_a_subject(Cancel(lease.request_id, RETENTION_MS, subject))

    @rule(lease=leases, idle_ms=st.sampled_from([0, 0, 2]), revives=st.booleans(), subject=subjects)
    def reap(self, lease: Lease, idle_ms: int, revives: bool, subject: str | None) -> None:
        self.both(Reap(lease.request_id, idle_ms, RETENTION_MS))
        if revives:
            self.kept = self.real.kept()
            self.of_a_subject(Revive(lease.request_id, subject))

    @rule(ms=st.sampled_from([1, 20, LEASE_MS, RETENTION_MS]))
    def pass_time(self, ms: int) -> None:
        self.real.now_ms += ms
        self.expire()
        if ms == LEASE_MS:
            self.both(Waiting(LEASE_MS))
            for view in self.twin.live(now_ms=self.real.now_ms):
                assert view.lease_until_ms <= self.real.now_ms + LEASE_MS  # P15
            now_ms, store = self.real.now_ms, self.real.store
            assert self.real.run(store.live(limit=2)) == self.twin.live(limit=2, now_ms=now_ms)
            assert self.real.run(store.queue_depth()) == self.twin.queue_depth(now_ms=now_ms)
        self.kept = self.real.kept()  # for a rule that goes on

    def expire(self) -> None:
        """Names are in one key, so they expire together, and stay so if the clock is set back."""
        expire_keys(self.real.admin, self.real.now_ms)
        if self.real.now_ms >= self.met_until_ms:
            self.twin._met_ms.clear()

    @rule(ms=st.sampled_from([10, LEASE_MS, 3 * LEASE_MS]))
    def set_the_clock_back(self, ms: int) -> None:
        """P15: of this server, or of another one that takes its place."""
        self.real.now_ms -= ms

    @rule(target=snapshots)
    def take_snapshot(self) -> Any:
        return (self.twin.snapshot(), self.real.dump(), self.met_until_ms)

    @rule(snapshot=snapshots)
    def come_back_as_earlier(self, snapshot: Any) -> None:
        self.runs += 1
        kept, dump, self.met_until_ms = snapshot
        self.twin.restore(kept, f"run-{self.runs}")
        self.real.restart(dump, f"run-{self.runs}")
        self.expire()
        self.before = {}

    # what holds after every step

    @invariant()
    def both_keep_the_same_and_the_promises(self) -> None:
        self.kept = requests, places = self.real.kept()
        now_ms, twin = self.real.now_ms, self.twin
        for request_id, (view, body, log, read) in zip(IDS, requests, strict=True):
            assert view == twin.view(request_id, now_ms=now_ms)
            assert body == twin.body(request_id, now_ms=now_ms)
            assert log == twin.log(request_id, now_ms=now_ms)
            assert read == twin.read(request_id, after=0, now_ms=now_ms)
            if view is None:
                self.before.pop(request_id, None)
            else:
                check_request(view, log)
                self.check_step(view)
        check_places([view for view, *_ in requests if view is not None], twin._records, places)

    def check_step(self, view: View) -> None:
        """P13: the lifecycle table; P2: epochs only grow."""
        before = self.before.get(view.request_id)
        if before is not None:
            assert before.status is view.status or (before.status, view.status) in STEPS
            assert before.epoch <= view.epoch
            assert before.acked_seq <= view.acked_seq
            assert before.next_seq <= view.next_seq
        self.before[view.request_id] = view


class ForgettingMachine(StoreMachine):
    """Beside the other, because an id that was deleted is out of the game."""

    @rule(
        lease=StoreMachine.leases, subject=subjects, late=st.sampled_from(["", "open", "reinstate"])
    )
    def forget(self, lease: Lease, subject: str | None, late: str) -> None:
        self.of_a_subject(Forget(lease.request_id, subject))
        if late == "open":
            self.open(lease.request_id, queue_limit=3)
        elif late:
            self.reinstate(lease, count=1, acked=0, forks=False, trace="", model="")


def whole(answer: int | Position, command: Append, expected: Position) -> Position:
    """What the acknowledged tokens alone say of an append: that it went as it should."""
    if not isinstance(answer, int):
        return answer
    assert command.chunks
    assert not command.reopen_tokens
    next_seq = command.chunks[-1].seq + 1
    return Position(Outcome.OK, Status.GENERATING, next_seq, expected.acked_seq, answer)


def run_machine(real: RealStore, kind: type[StoreMachine] = StoreMachine, **changes: Any) -> None:
    class Machine(kind):
        def __init__(self) -> None:
            super().__init__(real)

    Machine.__qualname__ = kind.__qualname__
    arguments = {
        "max_examples": 50,
        "stateful_step_count": 40,
        "deadline": None,
        "suppress_health_check": [HealthCheck.too_slow],
    }
    run_state_machine_as_test(Machine, settings=settings(**(arguments | changes)))

"""One state machine, two stores: whatever happens, Valkey answers as its twin does.

Hypothesis draws calls by several owners, stale leases among them, lets time pass, and lets
the server come back as it was earlier. After every step the answers, the publications and
everything kept must be the same in both, and the protocol's promises must hold in Valkey.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
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

from lore.protocol.chunk import Chunk
from lore.protocol.commands import Finish
from lore.protocol.fork import fork
from lore.protocol.lifecycle import ENDED, LIVE, OWNED, TRANSITIONS, Event, Status
from lore.store import ValkeyStore
from lore.store.base import Message, News, Outcome, Position, View
from lore.store.keys import partition_keys, partition_of
from lore.store.library import CODE, OURS, Library
from lore.store.twin import Publication, StoreState
from tests.store.backends import KINDS, chunk, deployed, expire_keys, ids_in_one_partition, new

IDS = [*ids_in_one_partition(3), "elsewhere"]
PARTITIONS_USED = sorted({partition_of(request_id) for request_id in IDS})
LEASE_MS = 50
RETENTION_MS = 200

# A call that adopts a forgotten claim takes two steps of the table at once (P2).
STEPS = {(before, after) for (before, _), after in TRANSITIONS.items()} | {
    (before, after)
    for (before, event), claimed in TRANSITIONS.items()
    if event is Event.CLAIM
    for (middle, _), after in TRANSITIONS.items()
    if middle is claimed
}


@dataclass
class Tap:
    """Hears one channel."""

    into: list[Publication]
    channel: Any
    request_id: str

    def on_message(self, message: Message) -> None:
        self.into.append(Publication("n", self.request_id, message))

    def on_news(self, news: News) -> None:
        self.into.append(Publication("b", self.request_id, news))

    def on_wake(self, partition: int | None) -> None:
        assert partition is not None
        self.into.append(Publication("wake", "", partition))

    def on_reset(self) -> None:
        raise AssertionError("the subscription was lost")


@dataclass
class RealStore:
    """Valkey, called step by step from hypothesis, which knows no event loop."""

    store: ValkeyStore
    admin: Any
    run: Callable[[Coroutine[Any, Any, Any]], Any]
    now_ms: int = 0
    heard: list[Publication] = field(default_factory=list)

    async def listen(self) -> None:
        for request_id in IDS:
            await self.store.follow(request_id, Tap(self.heard, "n", request_id))
            await self.store.guard(request_id, Tap(self.heard, "b", request_id))
        await self.store.on_wake(Tap(self.heard, "wake", ""))

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, list[Publication]]:
        (answer,), heard = self.together((name, args, kwargs))
        return answer, heard

    def together(self, *calls: tuple[str, Any, Any]) -> tuple[list[Any], list[Publication]]:
        """All in one turn of the event loop."""

        async def call_and_listen() -> Any:
            answer = await asyncio.gather(
                *(getattr(self.store, name)(*args, **kwargs) for name, args, kwargs in calls)
            )
            # All that the call has published lies before the answer to this on its connection.
            links = dict.fromkeys(self.store._subscriptions._links)
            await asyncio.gather(*(link.call("PING") for link in links))
            return answer

        answer = self.run(call_and_listen())
        heard, self.heard[:] = list(self.heard), []
        return answer, heard

    def kept(self) -> tuple[list[list[Any]], list[list[str]]]:
        """(view, body, log, log as read) per id; then q, lease and live per partition."""

        async def look() -> Any:
            store = self.store
            requests = (
                asyncio.gather(store.view(i), store.body(i), store.log(i), store.read(i, after=0))
                for i in IDS
            )
            places = (
                store._functions[partition].ask("ZRANGE", key, 0, -1, "WITHSCORES")
                for partition in PARTITIONS_USED
                for key in partition_keys(partition)
            )
            return await asyncio.gather(asyncio.gather(*requests), asyncio.gather(*places))

        return self.run(look())

    def restart(self, dump: dict[bytes, tuple[bytes, int]], run_id: str) -> None:
        self.admin.flushall()
        for key, (value, expires_ms) in dump.items():
            self.admin.restore(key, max(0, expires_ms), value, absttl=True)
        for functions in self.store._functions:
            functions.run_id = run_id

    def dump(self) -> dict[bytes, tuple[bytes, int]]:
        keys = list(self.admin.scan_iter())
        dump: Any = self.admin.dump
        return {key: (dump(key), self.admin.pexpiretime(key)) for key in keys}


@pytest.fixture
def real(request: pytest.FixtureRequest) -> Iterator[RealStore]:
    """On a single server, unless the test names another kind."""
    kind = getattr(request, "param", "valkey")
    with asyncio.Runner() as runner, deployed(request, kind) as deployment:
        real = RealStore(None, deployment.admin, runner.get_loop().run_until_complete)  # type: ignore[arg-type]
        real.store = ValkeyStore(deployment.url, clock_ms=lambda: real.now_ms)
        runner.run(real.store.connect())
        runner.run(real.listen())
        yield real
        runner.run(real.store.close())


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


class StoreMachine(RuleBasedStateMachine):
    leases = Bundle("leases")
    snapshots = Bundle("snapshots")

    def __init__(self, real: RealStore) -> None:
        super().__init__()
        self.real = real
        self.real.now_ms = 4_000_000_000_000  # later than any server's own clock
        self.runs = 0
        self.twin = StoreState("run-0")
        self.real.restart({}, "run-0")
        self.kept = self.real.kept()
        self.before: dict[str, View] = {}

    def both(self, name: str, *args: Any, **kwargs: Any) -> Any:
        expected = getattr(self.twin, name)(*args, **kwargs, now_ms=self.real.now_ms)
        answer, heard = self.real.call(name, *args, **kwargs)
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
        self.both("open", asked, queue_limit=queue_limit)

    @rule(target=leases, partition=partitions, owner=owners, untried=st.booleans())
    def claim(self, partition: int, owner: str, untried: bool = False) -> Any:
        claimed = self.both("claim", partition, owner, lease_ms=LEASE_MS, untried=untried)
        assert claimed is None or not untried or claimed.view.tries == 1
        return lease_of(claimed.view) if claimed else multiple()

    @rule(target=leases, partition=partitions, owner=owners, count=st.integers(0, 2))
    def claim_and_be_forgotten(self, partition: int, owner: str, count: int) -> Any:
        """P2: the epoch of the append is newer than any that the store knows."""
        snapshot = self.take_snapshot()
        claimed = self.both("claim", partition, owner, lease_ms=LEASE_MS)
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
            self.both("release", lease.request_id, lease.owner, lease.epoch, failed=True)
        return self.claim(partition, owner, untried=True)

    @rule(lease=leases, back=st.integers(-1, 3), subject=subjects)
    def ack(self, lease: Lease, back: int, subject: str | None) -> None:
        view = self.twin.view(lease.request_id, now_ms=self.real.now_ms)
        seq = (view.next_seq if view else 1) - 1 - back
        self.of_a_subject("ack", lease.request_id, seq, subject=subject)

    def of_a_subject(
        self, name: str, request_id: str, *args: int, subject: str | None, **kwargs: int
    ) -> None:
        """Nobody's call changes a request of somebody else."""
        before = self.kept
        position = self.both(name, request_id, *args, subject=subject, **kwargs)
        if subject == "somebody else":
            assert position == Position(Outcome.UNKNOWN, None)
            assert self.real.kept() == before

    @rule(partition=partitions, ago_ms=st.sampled_from([0, 30, 100]), most=st.integers(1, 3))
    def give_up(self, partition: int, ago_ms: int, most: int) -> None:
        """P17: nothing is touched but what has ended and was read."""
        until_ms = self.real.now_ms - ago_ms
        before = {i: self.twin.view(i, now_ms=self.real.now_ms) for i in IDS}
        given_up = self.both("give_up", partition, until_ms=until_ms, most=most)
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
        self.both("ack", lease.request_id, view.next_seq - 1 if view else 1)
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
        calls: list[Any] = []
        expected: list[Any] = []
        for lease, count in zip((one, other), counts, strict=True):
            args, kwargs = self.append_call(lease, start=0, count=count)
            calls.append(("append", args, kwargs))
            expected.append(self.twin.append(*args, **kwargs, now_ms=self.real.now_ms))
        answers, heard = self.real.together(*calls)
        assert answers == expected
        assert heard == list(self.twin.take_outbox())

    @rule(lease=leases, count=st.integers(0, 3), behind=st.integers(0, 3))
    def append_and_close(self, lease: Lease, count: int, behind: int) -> None:
        """The window closes, and opens at ``behind`` tokens before its end."""
        self.append_from(lease, start=0, count=count, behind=behind)

    @rule(lease=leases)
    def append_with_a_gap(self, lease: Lease) -> None:
        """What an owner does that does not know of a loss."""
        self.append_from(lease, start=1, count=1)

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
        args, kwargs = self.append_call(
            lease, start=start, count=count, behind=behind, rewrites=rewrites
        )
        before = self.kept
        position = self.both("append", *args, **kwargs)
        if position.outcome is not Outcome.OK:
            assert self.real.kept() == before

    def append_call(
        self,
        lease: Lease,
        *,
        start: int,
        count: int,
        behind: int | None = None,
        rewrites: bool = False,
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        log = self.twin.log(lease.request_id, now_ms=self.real.now_ms)
        first = max(1, len(log) + 1 + start)
        sent = [
            log[seq - 1]
            if seq <= len(log) and not rewrites
            else chunk(seq, f"{lease.log_id}/{seq}")
            for seq in range(first, first + count)
        ]
        return (lease.request_id, lease.owner, lease.epoch, sent), {
            "log_id": lease.log_id,
            "window": 8,
            "reopen_tokens": 0 if behind is None else max(1, 2 * (first + count - 1) - behind),
            "lease_ms": LEASE_MS,
        }

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
        self.both("finish", command)

    @rule(lease=leases, why=st.sampled_from(({}, {"failed": True}, {"silent": True})))
    def release(self, lease: Lease, why: dict[str, bool]) -> None:
        self.both("release", lease.request_id, lease.owner, lease.epoch, **why)

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
            self.both("reap", lease.request_id, idle_ms=0, retention_ms=RETENTION_MS)
            self.both("revive", lease.request_id)
        else:
            self.both("release", lease.request_id, lease.owner, lease.epoch, silent=True)
        return self.claim(partition, owners[1])

    @rule(lease=leases, other=leases)
    def renew(self, lease: Lease, other: Lease) -> None:
        partition = partition_of(lease.request_id)
        renewed = [
            (one.request_id, one.epoch, one.log_id)
            for one in (lease, other)
            if partition_of(one.request_id) == partition
        ]
        self.both("renew", partition, lease.owner, renewed, lease_ms=LEASE_MS)

    @rule(
        lease=leases,
        count=st.integers(0, 3),
        acked=st.integers(0, 3),
        forks=st.booleans(),
        trace=st.sampled_from(["", "00-a-b-01"]),
    )
    def reinstate(self, lease: Lease, count: int, acked: int, forks: bool, trace: str) -> None:
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
        )
        self.both("reinstate", view, asked.body, log, lease_ms=LEASE_MS)

    @rule()
    def come_back_empty(self) -> None:
        self.come_back_as_earlier((StoreState().snapshot(), {}))

    @rule(lease=leases, subject=subjects)
    def cancel(self, lease: Lease, subject: str | None) -> None:
        self.of_a_subject("cancel", lease.request_id, subject=subject, retention_ms=RETENTION_MS)

    @rule(lease=leases, idle_ms=st.sampled_from([0, 0, 2]), revives=st.booleans(), subject=subjects)
    def reap(self, lease: Lease, idle_ms: int, revives: bool, subject: str | None) -> None:
        self.both("reap", lease.request_id, idle_ms=idle_ms, retention_ms=RETENTION_MS)
        if revives:
            self.kept = self.real.kept()
            self.of_a_subject("revive", lease.request_id, subject=subject)

    @rule(ms=st.sampled_from([1, 20, LEASE_MS, RETENTION_MS]))
    def pass_time(self, ms: int) -> None:
        self.real.now_ms += ms
        expire_keys(self.real.admin, self.real.now_ms)
        if ms == LEASE_MS:
            self.both("waiting", lease_ms=LEASE_MS)
            for view in self.twin.live(now_ms=self.real.now_ms):
                assert view.lease_until_ms <= self.real.now_ms + LEASE_MS  # P15
            self.both("live", limit=2)
            self.both("queue_depth")

    @rule(ms=st.sampled_from([10, LEASE_MS, 3 * LEASE_MS]))
    def set_the_clock_back(self, ms: int) -> None:
        """P15: of this server, or of another one that takes its place."""
        self.real.now_ms -= ms

    @rule(target=snapshots)
    def take_snapshot(self) -> Any:
        return (self.twin.snapshot(), self.real.dump())

    @rule(snapshot=snapshots)
    def come_back_as_earlier(self, snapshot: Any) -> None:
        self.runs += 1
        kept, dump = snapshot
        self.twin.restore(kept, f"run-{self.runs}")
        self.real.restart(dump, f"run-{self.runs}")
        expire_keys(self.real.admin, self.real.now_ms)
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
        queue = {key: record.place_ms for key, record in twin._records.items()}
        check_places([view for view, *_ in requests if view is not None], queue, places)

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
        self.of_a_subject("forget", lease.request_id, subject=subject)
        if late == "open":
            self.open(lease.request_id, queue_limit=3)
        elif late:
            self.reinstate(lease, count=1, acked=0, forks=False, trace="")


def check_places(views: list[View], queue: dict[str, int], places: list[list[str]]) -> None:
    """Every request is in the queue, the leases and the index where its state says."""
    expected: list[dict[str, int]] = []
    for partition in PARTITIONS_USED:
        here = [view for view in views if partition_of(view.request_id) == partition]
        expected += [
            {v.request_id: queue[v.request_id] for v in here if v.status is Status.QUEUED},
            {v.request_id: v.lease_until_ms for v in here if v.status in OWNED},
            {v.request_id: v.progress_ms for v in here if v.status in LIVE},
        ]
    assert [dict(zip(p[::2], map(int, p[1::2]), strict=True)) for p in places] == expected


def check_request(view: View, log: list[Chunk]) -> None:
    if view.given_up_ms:
        assert (log, view.status in ENDED, view.acked_seq) == ([], True, view.next_seq - 1)
        return
    assert [entry.seq for entry in log] == list(range(1, view.next_seq))  # P2
    tokens = [0, *(entry.tokens for entry in log)]
    assert tokens == sorted(tokens)
    assert view.generated_tokens == tokens[-1]
    assert 0 <= view.acked_seq < view.next_seq  # P9
    assert view.acked_tokens == tokens[view.acked_seq]
    assert bool(view.owner) == (view.status in OWNED) == bool(view.lease_until_ms)  # P15


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


def test_valkey_and_its_twin_never_differ(real: RealStore) -> None:
    """P2, P4, P9, P13, P15, P16"""
    run_machine(real)


@pytest.mark.parametrize("real", KINDS[1:], indirect=True)
@pytest.mark.parametrize("machine", [StoreMachine, ForgettingMachine])
def test_every_kind_of_valkey_is_like_the_twin(
    real: RealStore, machine: type[StoreMachine]
) -> None:
    """P2, P3, P4, P9, P13, P15, P16"""
    run_machine(real, machine, max_examples=5)


def test_valkey_and_its_twin_forget_alike(real: RealStore) -> None:
    """P3"""
    run_machine(real, ForgettingMachine, max_examples=25)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param(
            "if epoch < request.epoch or owner ~= request.owner or not OWNED[request.status] then",
            "if not OWNED[request.status] then",
            id="no fencing",
        ),
        pytest.param("if seq > expected then return 'gap' end", "", id="no gap check"),
        pytest.param(
            "'acked_seq', args[2], 'acked_tokens'",
            "'acked_seq', int(seq - 1), 'acked_tokens'",
            id="ack off by one",
        ),
        pytest.param(
            "if other_store or now < request.alone", "if now < request.alone", id="no fork"
        ),
        pytest.param(
            "if other_store or now < request.alone_until_ms then",
            "if other_store then",
            id="no fork behind an owner out of reach",
        ),
        pytest.param(
            "return request.run_id == run_id or now < number_of(request, 'lease_until_ms')",
            "return true",
            id="a lease that a restart outlived",
        ),
        pytest.param(
            "ZADD', request.q, int(request.place_ms)",
            "ZADD', request.q, int(request.created_ms)",
            id="a place forgotten",
        ),
        pytest.param(
            "if epoch > request.epoch then own(request, by.owner, epoch, by.now, by.lease_ms) end",
            "",
            id="a forgotten claim is not taken up",
        ),
        pytest.param("~= subject then return nil", "== '' then return nil", id="anyone's request"),
        pytest.param("if not untried or", "if", id="nothing is tried again"),
        pytest.param("and 0 or request.tries", "and request.tries", id="a chunk is nothing"),
        pytest.param("k, at = k + 2, last + 1", "k = k + 2", id="an append twice, another not"),
        pytest.param("if not args[4] and", "if", id="no failure counts"),
        pytest.param(
            "'forks', args[5],",
            "'forks', '',",
            id="a request given back without its fork",
        ),
        pytest.param("> now + lease_ms then", "> now + 9e9 then", id="leases of another clock"),
        pytest.param(
            "return request.acked_seq >= request.next_seq - 1",
            "return true",
            id="unread and given up",
        ),
        pytest.param("if given.elsewhere then", "if false then", id="two partitions for one key"),
    ],
)
def test_the_machine_catches_a_broken_library(real: RealStore, right: str, wrong: str) -> None:
    """A check that cannot fail checks nothing."""
    break_and_catch(real, StoreMachine, right, wrong)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param(
            "if server.call('GET', deleted_key(keys[1])) == '' then return unknown() end",
            "",
            id="a deleted request given back",
        ),
        pytest.param(
            "if gone then return {gone == 'elsewhere' and 'full' or 'unknown', 0} end",
            "",
            id="a deleted request opened again",
        ),
    ],
)
def test_the_machine_catches_a_library_that_forgets_to_forget(
    real: RealStore, right: str, wrong: str
) -> None:
    break_and_catch(real, ForgettingMachine, right, wrong)


@contextmanager
def broken(real: RealStore, right: str, wrong: str) -> Generator[None]:
    """While the store takes a broken library for its own."""
    assert right in CODE
    library = Library.of(CODE.replace(right, wrong))
    real.admin.function_load(library.code, replace=True)
    links = {*real.store._functions}
    for functions in links:
        functions.ours = library
    try:
        yield
    finally:
        for functions in links:
            functions.ours = OURS
        real.admin.function_load(CODE, replace=True)


def break_and_catch(real: RealStore, kind: type[StoreMachine], right: str, wrong: str) -> None:
    with broken(real, right, wrong), pytest.raises(AssertionError):
        run_machine(
            real, kind, max_examples=300, phases=[Phase.generate], database=None, derandomize=True
        )

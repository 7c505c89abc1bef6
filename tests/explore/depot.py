"""The store: the real twin, with a book of what its logs have ever held.

A depot is never changed; what happens at it gives another one. All its checks are those of
the simulator (``tests/sim/checkers.py``), made after every call.
"""

from collections import defaultdict
from typing import Any

from lore.protocol.chunk import Chunk
from lore.protocol.commands import Cancel, Claim, Reap, Release, Revive, Silent
from lore.protocol.lifecycle import OWNED, Status
from lore.store.base import Claimed, NewRequest, StateMessage, View
from lore.store.keys import partition_of
from lore.store.memory.records import Publication, Record, Snapshot
from lore.store.memory.state import StoreState
from lore.store.types import Open
from tests.explore.forms import Move, Violation
from tests.sim.checkers import Safety

REQUEST = "request"
PARTITION = partition_of(REQUEST)
OWNER = "generator"
"""Both generators have this name: only the epoch tells them apart, as it must be able to."""
LEASE_MS = 64
RESTART_MS = 16
"""The store's clock stands still but for restarts and lapses, so that epochs differ."""
RETENTION_MS = 10**9
PLAIN = {"paused", "resumed"}
"""Changes of state that mean nothing to an edge's shell."""


class _Book:
    """What ``Safety`` needs of a world."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def say(self, text: str) -> None:
        pass


class Depot:
    """``news`` and ``wakes`` are what the last call published, to the edges and the owner."""

    def __init__(self, window: int, *, misses: bool = False) -> None:
        """``misses``: owners may be taken for silent at any time, rightly or not."""
        self.misses = misses
        self.store = StoreState("run-1")
        self.store.present = {OWNER}
        new = NewRequest(REQUEST, "", "", "", "client", window)
        view = self.store.do(Open(new, queue_limit=1), now_ms=LEASE_MS).view
        assert view is not None
        self.store.take_outbox()
        self.clock = LEASE_MS
        self.runs = 1
        self.saved: Snapshot = self.store.snapshot()
        self.logs: dict[str, tuple[tuple[str, int], ...]] = {view.log_id: ()}
        self.ends: frozenset[tuple[str, int]] = frozenset()
        self.lossy = False
        """A restart brought back less than there was."""
        self.present = True
        """Whether the owner is connected. Both generators have one name, and whoever claims is."""
        self.lost_acked = 0
        """What was acknowledged when all was lost."""
        self.news: tuple[Any, ...] = ()
        self.wakes: tuple[Any, ...] = ()

    @property
    def is_there(self) -> bool:
        """Whether the store knows the request: it may have lost everything."""
        return REQUEST in self.store._records

    @property
    def record(self) -> Record:
        return self.store._records[REQUEST]

    @property
    def view(self) -> View:
        return self.record.view

    def log(self) -> list[Chunk]:
        return self.store.log(REQUEST, now_ms=self.clock)

    def form(self) -> Any:
        if not self.is_there:
            logs = tuple(sorted(self.logs.items()))
            return (None, self.runs, self.clock, logs, self.ends, self.lost_acked)
        record = self.record
        saved = self.saved.records[REQUEST]
        return (
            record_form(record),
            max(0, record.view.lease_until_ms - self.clock),
            max(0, record.alone_until_ms - self.clock),
            record.run_id == self.store.run_id,
            self.runs,
            self.clock,
            record_form(saved),
            *(saved.run_id, max(0, saved.view.lease_until_ms - self.clock)),
            max(0, saved.alone_until_ms - self.clock),
            tuple(sorted(self.logs.items())),
            self.ends,
            self.lossy,
            self.present,
            self.lost_acked,
        )

    def copy(self) -> "Depot":
        new = Depot.__new__(Depot)
        new.__dict__.update(self.__dict__)
        new.store = StoreState(self.store.run_id)
        new.store.restore(self.store.snapshot(), self.store.run_id)
        new.store.present = {OWNER} if new.present else set()
        new.news = new.wakes = ()
        return new

    # calls: each answers with the depot afterwards

    def call(self, command: Any, *, read_seq: int = 0) -> tuple[Any, "Depot"]:
        """(answer, depot). ``read_seq`` is what the reader that acks really has."""
        new = self.copy()
        safety = new._safety(read_seq)
        answer = safety.carry_out(new.store, command)
        new._take(safety)
        return answer, new

    def claim(self) -> tuple[Claimed | None, "Depot"]:
        silent = (Silent(self.store.run_id, 0, (OWNER,)),) * self.misses
        claimed, new = self.call(Claim(PARTITION, OWNER, LEASE_MS, silent=silent))
        new.present = new.present or claimed is not None
        return claimed, new

    def restart(self, *, saved: bool) -> "Depot":
        new = self.copy()
        new.runs += 1
        new.clock += RESTART_MS
        new.present = True
        old = self.record
        new.store.restore(self.saved if saved else self.store.snapshot(), f"run-{new.runs}")
        back = new.record
        new.lossy = (
            self.lossy or len(back.log) < len(old.log) or back.view.log_id != old.view.log_id
        )
        return new

    def wipe(self) -> "Depot":
        new = self.copy()
        new.runs += 1
        new.clock += RESTART_MS
        new.present = True
        new.lost_acked = self.view.acked_seq
        new.lossy = True
        new.store = StoreState(f"run-{new.runs}")
        return new

    def lapse(self) -> "Depot":
        new = self.copy()
        new.clock += LEASE_MS
        return new

    def _safety(self, read_seq: int) -> Safety:
        safety = Safety(_Book(self.clock))  # pyright: ignore[reportArgumentType]
        safety.may_forget = self.runs > 1
        safety.logs = defaultdict(list)
        for log_id, held in self.logs.items():
            safety.logs[REQUEST, log_id] = list(held)
        acked_seq = self.view.acked_seq if self.is_there else 0
        safety.read_seq[REQUEST] = max(read_seq, acked_seq, self.lost_acked)
        return safety

    def _take(self, safety: Safety) -> None:
        self.logs = {log_id: tuple(held) for (_, log_id), held in safety.logs.items()}
        self.ends |= {(log_id, seq) for _, log_id, seq in safety.ends}
        outbox = self.store.take_outbox()
        self.news = tuple(p.message for p in outbox if p.channel == "n" and not _is_plain(p))
        self.wakes = tuple(p.message for p in outbox if p.channel == "b")

    # what happens to it

    def moves(self) -> list[Move]:
        if not self.is_there:
            return [Move("time passes", "lapses", depot=self.lapse())]
        moves = [
            self._move("a reader cancels", "cancels", Cancel(REQUEST, RETENTION_MS)),
            Move("the store restarts", "restarts", depot=self.restart(saved=False)),
            Move("the store comes back with nothing", "wipes", depot=self.wipe()),
        ]
        if self.view.status in OWNED and self.view.lease_until_ms > self.clock:
            moves.append(Move("the lease lapses", "lapses", depot=self.lapse()))
        if self.view.status in OWNED:
            reap = Reap(REQUEST, idle_ms=LEASE_MS, retention_ms=RETENTION_MS)
            label = "the request stands still for long and is reaped"
            moves.append(self.lapse()._move(label, "reaps", reap))
            moves.append(self._seize())
            word, kind = ("not connected", "losses") if self.present else ("connected again", "")
            moves.append(
                Move(f"the owner is {word}", kind, depot=self._connected(not self.present))
            )
        if self.view.status is Status.REAPED:
            moves.append(self._move("a reader revives the request", "", Revive(REQUEST)))
        if record_form(self.saved.records[REQUEST]) != record_form(self.record):
            back = self.saved.records[REQUEST].view.next_seq - 1
            label = f"the store comes back as it was saved, with {back} chunks"
            moves.append(Move(label, "restarts", depot=self.restart(saved=True)))
            saved = self.copy()
            saved.saved = saved.store.snapshot()
            moves.append(Move("the store is saved", "saves", depot=saved))
        return moves

    def _move(self, label: str, kind: str, command: Any) -> Move:
        try:
            result, depot = self.call(command)
        except Violation as violation:
            return Move(label, kind, violation=str(violation))
        return Move(f"{label}: {result.outcome}", kind, depot=depot)

    def _seize(self) -> Move:
        """An operator takes the request from an owner that it cannot see, and that may be there."""
        release = Release(REQUEST, OWNER, self.view.epoch, "silent")
        return self._move("the silent owner is taken for lost", "seizures", release)

    def _connected(self, present: bool) -> "Depot":
        new = self.copy()
        new.present = present
        new.store.present = {OWNER} if present else set()
        return new

    @property
    def claimable(self) -> bool:
        if not self.is_there:
            return False
        view = self.view
        free = view.lease_until_ms <= self.clock or self.misses
        return view.status is Status.QUEUED or (view.status in OWNED and free)


def record_form(record: Record) -> Any:
    view = record.view
    return (
        *(view.status, view.epoch, view.log_id, view.forks),
        *(view.next_seq, view.generated_tokens, view.acked_seq, view.acked_tokens),
        *(view.owner, view.window, view.started_ms > 0, view.finish_reason),
        record.reopen_tokens,
        tuple((entry.chunk, entry.log_id) for entry in record.log),
    )


def _is_plain(publication: Publication) -> bool:
    message = publication.message
    return isinstance(message, StateMessage) and message.reason in PLAIN

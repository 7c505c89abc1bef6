"""The store's behaviour as a synchronous state machine: the twin of ``lore.lua``.

No asyncio, no clock, no randomness: every call takes ``now_ms`` and answers at once, and
what Valkey would publish lies in ``outbox`` afterwards. The simulator drives it as it is,
``MemoryStore`` puts it behind the async interface, and ``tests/store`` holds it and the
Lua library to the same answers.

``snapshot`` and ``restore`` play a server that comes back with less than it had: with
another ``run_id``, as Valkey has one for each start, so that P4 can be decided.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from lore.protocol.chunk import Chunk
from lore.protocol.lifecycle import (
    ENDED,
    LIVE,
    OWNED,
    Event,
    LifecycleError,
    Status,
    transition,
)
from lore.store.base import (
    AckMessage,
    ChunkMessage,
    Claimed,
    Message,
    NewRequest,
    Opened,
    Outcome,
    Position,
    StateMessage,
    View,
)
from lore.store.keys import partition_of


class Publication(NamedTuple):
    """What went out on a channel: ``n`` to readers, ``b`` to the owner, ``wake`` to generators."""

    channel: Literal["n", "b", "wake"]
    request_id: str
    message: Message | Position | int
    """A Message on ``n``, a Position on ``b``, the partition on ``wake``."""


@dataclass(frozen=True, slots=True)
class Entry:
    chunk: Chunk
    at_ms: int


@dataclass(slots=True)
class Record:
    view: View
    body: str
    run_id: str
    """The server's run id at the last write of the log's owner (P4)."""
    reopen_tokens: int = 0
    expires_ms: int = 0
    """0 while the request does not expire."""
    log: list[Entry] = field(default_factory=list[Entry])


Snapshot = dict[str, Record]


class StoreState:
    """All requests of one store. Methods are those of ``Store``, plus ``now_ms``."""

    def __init__(self, run_id: str = "run-1") -> None:
        self.run_id = run_id
        self.outbox: list[Publication] = []
        self._records: dict[str, Record] = {}

    def snapshot(self) -> Snapshot:
        return {key: replace(record, log=list(record.log)) for key, record in self._records.items()}

    def restore(self, snapshot: Snapshot, run_id: str) -> None:
        """Come back as ``snapshot``, as a server started anew."""
        self._records = {
            key: replace(record, log=list(record.log)) for key, record in snapshot.items()
        }
        self.run_id = run_id

    def take_outbox(self) -> list[Publication]:
        taken, self.outbox = self.outbox, []
        return taken

    # readers' side

    def open(self, new: NewRequest, *, queue_limit: int, now_ms: int) -> Opened:
        record = self._find(new.request_id, now_ms)
        if record is not None:
            return Opened(Outcome.OK, False, record.view)
        partition = partition_of(new.request_id)
        if sum(1 for _ in self._queued(partition)) >= queue_limit:
            return Opened(Outcome.FULL, False, None)
        view = View(
            request_id=new.request_id,
            subject=new.subject,
            fingerprint=new.fingerprint,
            ack=new.ack,
            status=Status.QUEUED,
            owner="",
            epoch=0,
            log_id=f"{now_ms:x}",
            parent_log_id="",
            fork_seq=1,
            next_seq=1,
            generated_tokens=0,
            acked_seq=0,
            acked_tokens=0,
            window=new.window,
            prompt_tokens=0,
            finish_reason="",
            error="",
            created_ms=now_ms,
            started_ms=0,
            progress_ms=now_ms,
            finished_ms=0,
            lease_until_ms=0,
        )
        self._records[new.request_id] = Record(view, new.body, self.run_id)
        self._wake(view)
        return Opened(Outcome.OK, True, view)

    def view(self, request_id: str, *, now_ms: int) -> View | None:
        record = self._find(request_id, now_ms)
        return record.view if record else None

    def body(self, request_id: str, *, now_ms: int) -> str | None:
        record = self._find(request_id, now_ms)
        return record.body if record else None

    def read(
        self, request_id: str, *, after: int, limit: int = 1000, now_ms: int
    ) -> list[ChunkMessage]:
        record = self._find(request_id, now_ms)
        if record is None:
            return []
        first = max(0, after)
        return [_message(entry) for entry in record.log[first : first + limit]]

    def ack(self, request_id: str, seq: int, *, now_ms: int) -> Position:
        record = self._find(request_id, now_ms)
        if record is None:
            return _UNKNOWN
        view = record.view
        if seq >= view.next_seq:
            return _position(Outcome.AHEAD, view)
        if seq <= view.acked_seq:
            return _position(Outcome.OK, view)
        tokens = record.log[seq - 1].chunk.tokens
        opens = view.status is Status.PAUSED and tokens >= record.reopen_tokens
        view = record.view = replace(
            view,
            acked_seq=seq,
            acked_tokens=tokens,
            progress_ms=now_ms,
            status=transition(view.status, Event.OPEN) if opens else view.status,
        )
        self._publish(view, AckMessage(seq, tokens))
        if opens:
            record.reopen_tokens = 0
            self._publish_position(_position(Outcome.OK, view), request_id)
            self._publish_state(view, "resumed")
        return _position(Outcome.OK, view)

    def cancel(self, request_id: str, *, retention_ms: int, now_ms: int) -> Position:
        record = self._find(request_id, now_ms)
        if record is None:
            return _UNKNOWN
        if record.view.status is Status.CANCELLED:
            return _position(Outcome.OK, record.view)
        return self._take_away(
            record, Event.CANCEL, "ended", retention_ms=retention_ms, now_ms=now_ms
        )

    def revive(self, request_id: str, *, now_ms: int) -> Position:
        record = self._find(request_id, now_ms)
        if record is None:
            return _UNKNOWN
        try:
            status = transition(record.view.status, Event.REVIVE)
        except LifecycleError:
            return _position(Outcome.REFUSED, record.view)
        record.view = replace(record.view, status=status, progress_ms=now_ms)
        record.expires_ms = 0
        self._publish_state(record.view, "revived")
        self._wake(record.view)
        return _position(Outcome.OK, record.view)

    # generators' side

    def claim(self, partition: int, owner: str, *, lease_ms: int, now_ms: int) -> Claimed | None:
        record = self._claimable(partition, now_ms)
        if record is None:
            return None
        view = record.view
        epoch = max(view.epoch + 1, now_ms)
        if record.run_id != self.run_id:
            view = replace(
                view, log_id=f"{epoch:x}", parent_log_id=view.log_id, fork_seq=view.next_seq
            )
            record.run_id = self.run_id
        self._own(record, view, owner, epoch, now_ms=now_ms)
        record.view = replace(record.view, lease_until_ms=now_ms + lease_ms, progress_ms=now_ms)
        return Claimed(record.view, record.body)

    def log(self, request_id: str, *, now_ms: int) -> list[Chunk]:
        record = self._find(request_id, now_ms)
        return [entry.chunk for entry in record.log] if record else []

    def append(
        self,
        request_id: str,
        owner: str,
        epoch: int,
        chunks: Sequence[Chunk],
        *,
        log_id: str,
        window: int,
        reopen_tokens: int,
        lease_ms: int,
        now_ms: int,
    ) -> Position:
        record = self._find(request_id, now_ms)
        if record is None:
            return _UNKNOWN
        view = record.view
        if not _may_write(view, owner, epoch) or log_id != view.log_id:
            return _position(Outcome.FENCED, view)
        refusal = _judge(record, chunks)
        if refusal is not None:
            return _position(refusal, view)
        new = [chunk for chunk in chunks if chunk.seq >= view.next_seq]
        if epoch > view.epoch:
            self._own(record, view, owner, epoch, now_ms=now_ms)
        record.log += [Entry(chunk, now_ms) for chunk in new]
        if chunks:
            record.run_id = self.run_id
        view = record.view
        record.view = replace(
            view,
            next_seq=view.next_seq + len(new),
            generated_tokens=new[-1].tokens if new else view.generated_tokens,
            window=window,
            lease_until_ms=now_ms + lease_ms,
            progress_ms=now_ms if new else view.progress_ms,
        )
        for entry in record.log[len(record.log) - len(new) :]:
            self._publish(record.view, _message(entry))
        self._pause_or_resume(record, reopen_tokens)
        return _position(Outcome.OK, record.view)

    def finish(
        self,
        request_id: str,
        owner: str,
        epoch: int,
        next_seq: int,
        *,
        status: Status,
        finish_reason: str,
        error: str = "",
        prompt_tokens: int = 0,
        retention_ms: int,
        now_ms: int,
    ) -> Position:
        record = self._find(request_id, now_ms)
        if record is None:
            return _UNKNOWN
        view = record.view
        if view.status in ENDED and view.status is status and view.epoch == epoch:
            return _position(Outcome.OK, view)
        if not _may_write(view, owner, epoch):
            return _position(Outcome.FENCED, view)
        if view.next_seq != next_seq:
            return _position(Outcome.GAP if view.next_seq < next_seq else Outcome.CONFLICT, view)
        if epoch > view.epoch:
            self._own(record, view, owner, epoch, now_ms=now_ms)
        event = Event.FINISH if status is Status.DONE else Event.FAIL
        record.view = replace(
            record.view,
            status=transition(record.view.status, event),
            owner="",
            finish_reason=finish_reason,
            error=error,
            prompt_tokens=prompt_tokens,
            finished_ms=now_ms,
            lease_until_ms=0,
        )
        record.reopen_tokens = 0
        record.expires_ms = now_ms + retention_ms
        self._publish_state(record.view, "ended")
        return _position(Outcome.OK, record.view)

    def renew(
        self,
        partition: int,
        owner: str,
        leases: Sequence[tuple[str, int]],
        *,
        lease_ms: int,
        now_ms: int,
    ) -> list[Position]:
        del partition  # Valkey needs it to find the keys
        return [
            self._renew(request_id, owner, epoch, lease_ms, now_ms) for request_id, epoch in leases
        ]

    def _renew(
        self, request_id: str, owner: str, epoch: int, lease_ms: int, now_ms: int
    ) -> Position:
        record = self._find(request_id, now_ms)
        if record is None:
            return _UNKNOWN
        if not _may_write(record.view, owner, epoch):
            return _position(Outcome.FENCED, record.view)
        if epoch > record.view.epoch:
            self._own(record, record.view, owner, epoch, now_ms=now_ms)
        record.view = replace(record.view, lease_until_ms=now_ms + lease_ms)
        return _position(Outcome.OK, record.view)

    def release(self, request_id: str, owner: str, epoch: int, *, now_ms: int) -> Position:
        record = self._find(request_id, now_ms)
        if record is None:
            return _UNKNOWN
        view = record.view
        if view.status is Status.QUEUED and view.epoch == epoch:
            return _position(Outcome.OK, view)
        if view.status not in OWNED or view.epoch != epoch or view.owner != owner:
            return _position(Outcome.FENCED, view)
        record.view = replace(
            view, status=transition(view.status, Event.RELEASE), owner="", lease_until_ms=0
        )
        record.reopen_tokens = 0
        self._publish_state(record.view, "released")
        self._wake(record.view)
        return _position(Outcome.OK, record.view)

    def waiting(self, *, now_ms: int) -> list[tuple[int, int]]:
        partitions = {partition_of(key) for key in self._records}
        found = [(self._claimable(partition, now_ms), partition) for partition in partitions]
        return sorted((record.view.created_ms, partition) for record, partition in found if record)

    # the fleet's side

    def reap(self, request_id: str, *, idle_ms: int, retention_ms: int, now_ms: int) -> Position:
        record = self._find(request_id, now_ms)
        if record is None:
            return _UNKNOWN
        if now_ms - record.view.progress_ms < idle_ms:
            return _position(Outcome.REFUSED, record.view)
        return self._take_away(
            record, Event.REAP, "reaped", retention_ms=retention_ms, now_ms=now_ms
        )

    def live(self, *, limit: int = 1000, now_ms: int) -> list[View]:
        del now_ms
        views = [r.view for r in self._records.values() if r.view.status in LIVE]
        return sorted(views, key=lambda view: (view.progress_ms, view.request_id))[:limit]

    def queue_depth(self, *, now_ms: int) -> int:
        del now_ms
        return sum(1 for r in self._records.values() if r.view.status is Status.QUEUED)

    # steps that several calls share

    def _find(self, request_id: str, now_ms: int) -> Record | None:
        record = self._records.get(request_id)
        if record is not None and 0 < record.expires_ms <= now_ms:
            del self._records[request_id]
            return None
        return record

    def _queued(self, partition: int) -> Iterator[Record]:
        for key, record in self._records.items():
            if record.view.status is Status.QUEUED and partition_of(key) == partition:
                yield record

    def _claimable(self, partition: int, now_ms: int) -> Record | None:
        """The lease that lapsed first, else the oldest in the queue."""
        lapsed = [
            record
            for key, record in self._records.items()
            if record.view.status in OWNED
            and record.view.lease_until_ms <= now_ms
            and partition_of(key) == partition
        ]
        if lapsed:
            return min(lapsed, key=lambda r: (r.view.lease_until_ms, r.view.request_id))
        return min(
            self._queued(partition),
            key=lambda r: (r.view.created_ms, r.view.request_id),
            default=None,
        )

    def _own(self, record: Record, view: View, owner: str, epoch: int, *, now_ms: int) -> None:
        """Make ``owner`` the owner: a claim, or one that the store has forgotten (P2)."""
        record.view = replace(
            view,
            status=transition(view.status, Event.CLAIM),
            owner=owner,
            epoch=epoch,
            started_ms=view.started_ms or now_ms,
        )
        record.reopen_tokens = 0
        self._publish_state(record.view, "failed_over" if view.started_ms else "claimed")

    def _pause_or_resume(self, record: Record, reopen_tokens: int) -> None:
        view = record.view
        if reopen_tokens > view.acked_tokens:
            record.reopen_tokens = reopen_tokens
            record.view = replace(view, status=transition(view.status, Event.PAUSE))
            if view.status is not Status.PAUSED:
                self._publish_state(record.view, "paused")
        elif view.status is Status.PAUSED:
            record.reopen_tokens = 0
            record.view = replace(view, status=transition(view.status, Event.OPEN))
            self._publish_state(record.view, "resumed")

    def _take_away(
        self, record: Record, event: Event, reason: str, *, retention_ms: int, now_ms: int
    ) -> Position:
        """Cancel or reap: the epoch grows, so that whoever owned the request is fenced."""
        view = record.view
        try:
            status = transition(view.status, event)
        except LifecycleError:
            return _position(Outcome.REFUSED, view)
        cancelled = status is Status.CANCELLED
        record.view = replace(
            view,
            status=status,
            owner="",
            epoch=view.epoch + 1,
            finish_reason="cancelled" if cancelled else view.finish_reason,
            finished_ms=now_ms if cancelled else view.finished_ms,
            lease_until_ms=0,
        )
        record.reopen_tokens = 0
        record.expires_ms = now_ms + retention_ms
        if view.status in OWNED:
            self._publish_position(_position(Outcome.FENCED, record.view), view.request_id)
        self._publish_state(record.view, reason)
        return _position(Outcome.OK, record.view)

    def _publish(self, view: View, message: Message) -> None:
        self.outbox.append(Publication("n", view.request_id, message))

    def _publish_state(self, view: View, reason: str) -> None:
        self._publish(view, StateMessage(view.status, reason))

    def _publish_position(self, position: Position, request_id: str) -> None:
        self.outbox.append(Publication("b", request_id, position))

    def _wake(self, view: View) -> None:
        self.outbox.append(Publication("wake", view.request_id, partition_of(view.request_id)))


def _may_write(view: View, owner: str, epoch: int) -> bool:
    """The lease's judgement (P2). A newer epoch is one that the store has forgotten."""
    if epoch > view.epoch:
        return view.status in LIVE
    return epoch == view.epoch and owner == view.owner and view.status in OWNED


def _judge(record: Record, chunks: Sequence[Chunk]) -> Outcome | None:
    """Why these chunks cannot be appended, or None (P2)."""
    next_seq = record.view.next_seq
    tokens = record.view.generated_tokens
    expected = min(chunks[0].seq, next_seq) if chunks else 0
    for chunk in chunks:
        if chunk.seq > expected:
            return Outcome.GAP
        if chunk.seq < expected or chunk.seq < 1:
            return Outcome.CONFLICT
        if chunk.seq < next_seq:
            if record.log[chunk.seq - 1].chunk != chunk:
                return Outcome.CONFLICT
        elif chunk.tokens < tokens:
            return Outcome.CONFLICT
        else:
            tokens = chunk.tokens
        expected += 1
    return None


def _message(entry: Entry) -> ChunkMessage:
    chunk = entry.chunk
    return ChunkMessage(chunk.seq, chunk.text, chunk.tokens, entry.at_ms)


def _position(outcome: Outcome, view: View) -> Position:
    return Position(outcome, view.status, view.next_seq, view.acked_seq, view.acked_tokens)


_UNKNOWN = Position(Outcome.UNKNOWN, None)

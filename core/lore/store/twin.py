"""The store's behaviour as a synchronous state machine: the twin of the library in ``lua``.

No asyncio, no clock, no randomness: every call takes ``now_ms`` and answers at once, and
what Valkey would publish lies in ``outbox`` afterwards. The simulator drives it as it is,
``MemoryStore`` puts it behind the async interface, and ``tests/store`` holds it and the
Lua library to the same answers.

``snapshot`` and ``restore`` play a server that comes back with less than it had: with
another ``run_id``, as Valkey has one for each start, so that P4 can be decided.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lore.protocol.chunk import Chunk
from lore.protocol.lifecycle import LIVE, OWNED, Event, LifecycleError, Status, transition
from lore.store.account import Account
from lore.store.base import (
    AckMessage,
    Admission,
    ChunkMessage,
    Claimed,
    Limits,
    NewRequest,
    Opened,
    Outcome,
    Position,
    View,
)
from lore.store.keys import PARTITIONS, partition_of
from lore.store.records import (
    UNKNOWN,
    Entry,
    Publication,
    Record,
    Records,
    judge,
    message_of,
    position,
)

__all__ = ["Publication", "StoreState"]


class StoreState(Records):
    """All requests of one store. Methods are those of ``Store``, plus ``now_ms``."""

    # readers' side

    def admit(
        self,
        client: str,
        request_id: str,
        limits: Limits,
        *,
        tokens: int = 0,
        quantum_ms: int = 0,
        now_ms: int,
    ) -> Admission:
        account = self._accounts.setdefault(client, Account())
        return account.admit(
            request_id, limits, tokens=tokens, quantum_ms=quantum_ms, now_ms=now_ms
        )

    def settle(self, client: str, used_tokens: Mapping[str, int | None], *, now_ms: int) -> None:
        del now_ms
        for request_id, used in used_tokens.items():
            self._accounts.setdefault(client, Account()).settle(request_id, used)

    def leave(self, client: str, request_id: str, *, now_ms: int) -> None:
        del now_ms
        self._accounts.setdefault(client, Account()).leave(request_id)

    def open(self, new: NewRequest, *, queue_limit: int, now_ms: int) -> Opened:
        record = self._find(new.request_id, now_ms)
        if record is not None:
            return Opened(Outcome.OK, False, record.view)
        if self._was_deleted(new.request_id, now_ms):
            return Opened(Outcome.UNKNOWN, False, None)
        waiting = sum(1 for _ in self._queued(partition_of(new.request_id)))
        free = queue_limit - waiting
        if free <= 0 or (2 * waiting >= queue_limit and new.ahead >= PARTITIONS * free):
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
        self._records[new.request_id] = Record(view, new.body, self.run_id, new.place_ms or now_ms)
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
        return [message_of(entry) for entry in record.log[first : first + limit]]

    def ack(
        self, request_id: str, seq: int, *, subject: str | None = None, now_ms: int
    ) -> Position:
        record = self._find_of(request_id, subject, now_ms)
        if record is None:
            return UNKNOWN
        view = record.view
        if seq >= view.next_seq:
            return position(Outcome.AHEAD, view)
        if seq <= view.acked_seq:
            return position(Outcome.OK, view)
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
            self._publish_position(position(Outcome.OK, view), request_id)
            self._publish_state(view, "resumed")
        return position(Outcome.OK, view)

    def cancel(
        self, request_id: str, *, retention_ms: int, subject: str | None = None, now_ms: int
    ) -> Position:
        record = self._find_of(request_id, subject, now_ms)
        if record is None:
            return UNKNOWN
        if record.view.status is Status.CANCELLED:
            return position(Outcome.OK, record.view)
        return self._take_away(
            record, Event.CANCEL, "ended", retention_ms=retention_ms, now_ms=now_ms
        )

    def revive(self, request_id: str, *, subject: str | None = None, now_ms: int) -> Position:
        record = self._find_of(request_id, subject, now_ms)
        if record is None:
            return UNKNOWN
        try:
            status = transition(record.view.status, Event.REVIVE)
        except LifecycleError:
            return position(Outcome.REFUSED, record.view)
        record.view = replace(record.view, status=status, progress_ms=now_ms)
        record.expires_ms = 0
        self._publish_state(record.view, "revived")
        self._wake(record.view)
        return position(Outcome.OK, record.view)

    def forget(self, request_id: str, *, subject: str | None = None, now_ms: int) -> Position:
        record = self._find_of(request_id, subject, now_ms)
        if record is None:
            return UNKNOWN
        taken = self._take_away(record, Event.CANCEL, "ended", retention_ms=0, now_ms=now_ms)
        if taken.outcome is Outcome.REFUSED:
            self._publish_state(record.view, "ended")
        del self._records[request_id]
        self._deleted_ms[request_id] = now_ms
        return position(Outcome.OK, record.view)

    # generators' side

    def claim(
        self, partition: int, owner: str, *, lease_ms: int, untried: bool = False, now_ms: int
    ) -> Claimed | None:
        record = self._claimable(partition, now_ms, untried=untried)
        if record is None:
            return None
        view = record.view
        epoch = max(view.epoch + 1, now_ms)
        if record.run_id != self.run_id:
            view = replace(
                view,
                log_id=f"{epoch:x}",
                parent_log_id=view.log_id,
                fork_seq=view.next_seq,
                tries=0,
            )
            record.run_id = self.run_id
        self._own(record, view, owner, epoch, now_ms=now_ms)
        record.view = replace(
            record.view,
            lease_until_ms=now_ms + lease_ms,
            progress_ms=now_ms,
            tries=view.tries + 1,
        )
        return Claimed(record.view, record.body, self.run_id)

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
            return UNKNOWN
        view = record.view
        if not self._may_write(record, owner, epoch, log_id, lease_ms=lease_ms, now_ms=now_ms):
            return position(Outcome.FENCED, view)
        refusal = judge(record, chunks)
        if refusal is not None:
            return position(refusal, view)
        new = [chunk for chunk in chunks if chunk.seq >= view.next_seq]
        if epoch > view.epoch:
            self._own(record, view, owner, epoch, now_ms=now_ms)
        record.log += [Entry(chunk, now_ms, log_id) for chunk in new]
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
            self._publish(record.view, message_of(entry))
        self._pause_or_resume(record, reopen_tokens)
        if new or record.view.status is Status.PAUSED:
            record.view = replace(record.view, tries=0)
        return position(Outcome.OK, record.view)

    def finish(
        self,
        request_id: str,
        owner: str,
        epoch: int,
        next_seq: int,
        *,
        log_id: str,
        status: Status,
        finish_reason: str,
        error: str = "",
        prompt_tokens: int = 0,
        retention_ms: int,
        now_ms: int,
    ) -> Position:
        record = self._find(request_id, now_ms)
        if record is None:
            return UNKNOWN
        view = record.view
        if view.status is status and view.epoch == epoch:
            return position(Outcome.OK, view)
        if not self._may_write(record, owner, epoch, log_id, lease_ms=0, now_ms=now_ms):
            return position(Outcome.FENCED, view)
        if view.next_seq != next_seq:
            return position(Outcome.GAP if view.next_seq < next_seq else Outcome.CONFLICT, view)
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
        return position(Outcome.OK, record.view)

    def renew(
        self,
        partition: int,
        owner: str,
        leases: Sequence[tuple[str, int, str]],
        *,
        lease_ms: int,
        now_ms: int,
    ) -> list[Position]:
        del partition  # Valkey needs it to find the keys
        return [
            self._renew(request_id, owner, epoch, log_id, lease_ms=lease_ms, now_ms=now_ms)
            for request_id, epoch, log_id in leases
        ]

    def _renew(
        self, request_id: str, owner: str, epoch: int, log_id: str, *, lease_ms: int, now_ms: int
    ) -> Position:
        record = self._find(request_id, now_ms)
        if record is None:
            return UNKNOWN
        if not self._may_write(record, owner, epoch, log_id, lease_ms=lease_ms, now_ms=now_ms):
            return position(Outcome.FENCED, record.view)
        if epoch > record.view.epoch:
            self._own(record, record.view, owner, epoch, now_ms=now_ms)
        record.view = replace(record.view, lease_until_ms=now_ms + lease_ms)
        return position(Outcome.OK, record.view)

    def reinstate(
        self, view: View, body: str, chunks: Sequence[Chunk], *, lease_ms: int, now_ms: int
    ) -> Position:
        record = self._find(view.request_id, now_ms)
        if record is not None:
            lease = (view.owner, view.epoch, view.log_id)
            may = self._may_write(record, *lease, lease_ms=lease_ms, now_ms=now_ms)
            return position(Outcome.OK if may else Outcome.FENCED, record.view)
        if self._was_deleted(view.request_id, now_ms):
            return UNKNOWN
        view = replace(
            view,
            status=Status.GENERATING,
            next_seq=len(chunks) + 1,
            generated_tokens=chunks[-1].tokens if chunks else 0,
            finish_reason="",
            error="",
            progress_ms=now_ms,
            finished_ms=0,
            lease_until_ms=now_ms + lease_ms,
            tries=0,
        )
        log = [Entry(chunk, now_ms, view.log_id) for chunk in chunks]
        self._records[view.request_id] = Record(view, body, self.run_id, view.created_ms, log=log)
        self._publish_state(view, "failed_over")
        return position(Outcome.OK, view)

    def release(
        self, request_id: str, owner: str, epoch: int, *, failed: bool = False, now_ms: int
    ) -> Position:
        record = self._find(request_id, now_ms)
        if record is None:
            return UNKNOWN
        view = record.view
        if view.status is Status.QUEUED and view.epoch == epoch:
            return position(Outcome.OK, view)
        if view.status not in OWNED or view.epoch != epoch or view.owner != owner:
            return position(Outcome.FENCED, view)
        record.view = replace(
            view,
            status=transition(view.status, Event.RELEASE),
            owner="",
            lease_until_ms=0,
            tries=view.tries if failed else max(0, view.tries - 1),
        )
        record.reopen_tokens = 0
        self._publish_state(record.view, "released")
        self._wake(record.view)
        return position(Outcome.OK, record.view)

    def waiting(self, *, now_ms: int) -> list[tuple[int, int]]:
        partitions = {partition_of(key) for key in self._records}
        found = [(self._claimable(partition, now_ms), partition) for partition in partitions]
        return sorted((record.place_ms, partition) for record, partition in found if record)

    # the fleet's side

    def reap(self, request_id: str, *, idle_ms: int, retention_ms: int, now_ms: int) -> Position:
        record = self._find(request_id, now_ms)
        if record is None:
            return UNKNOWN
        if now_ms - record.view.progress_ms < idle_ms:
            return position(Outcome.REFUSED, record.view)
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

"""How a request goes on and ends: the twin of ``lua/life.lua``."""

from collections.abc import Sequence
from dataclasses import replace

from lore.protocol.commands import Finish
from lore.protocol.lifecycle import ENDED, LIVE, OWNED, Event, LifecycleError, Status, transition
from lore.store.base import AckMessage, Outcome, Position, View
from lore.store.keys import partition_of
from lore.store.records import UNKNOWN, Records, position


class Life(Records):
    def view(self, request_id: str, *, now_ms: int) -> View | None:
        record = self._find(request_id, now_ms)
        return record.view if record else None

    def body(self, request_id: str, *, now_ms: int) -> str | None:
        record = self._find(request_id, now_ms)
        return record.body or None if record else None

    def live(self, *, limit: int = 1000, now_ms: int) -> list[View]:
        del now_ms
        views = [r.view for r in self._records.values() if r.view.status in LIVE]
        return sorted(views, key=lambda view: (view.progress_ms, view.request_id))[:limit]

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
            self._publish_news(view, Outcome.OK, view.epoch)
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

    def prompt(
        self, request_id: str, owner: str, epoch: int, prompt_tokens: int, *, now_ms: int
    ) -> Position:
        record = self._find(request_id, now_ms)
        if record is None:
            return UNKNOWN
        if (record.view.owner, record.view.epoch) != (owner, epoch):
            return position(Outcome.FENCED, record.view)
        record.view = replace(record.view, prompt_tokens=prompt_tokens)
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

    def give_up(self, partition: int, *, until_ms: int, most: int, now_ms: int) -> int:
        """What ``lua/life.lua`` has from an index is looked for here."""
        ended = [
            record
            for key, record in self._records.items()
            if partition_of(key) == partition
            and self._find(key, now_ms)
            and record.view.status in ENDED
            and record.view.acked_seq >= record.view.next_seq - 1
            and record.view.finished_ms <= until_ms
            and not record.view.given_up_ms
        ]
        ended.sort(key=lambda record: (record.view.finished_ms, record.view.request_id))
        for record in ended[:most]:
            record.view = replace(
                record.view, given_up_ms=now_ms, tries=0, written_off_tokens=0, lease_until_ms=0
            )
            record.body, record.log, record.reopen_tokens = "", [], 0
            self._publish_state(record.view, "ended")
        return len(ended[:most])

    def finish(self, command: Finish, *, now_ms: int) -> Position:
        request_id, owner, epoch, next_seq, status, *_ = command
        record = self._find(request_id, now_ms)
        if record is None:
            return UNKNOWN
        view = record.view
        if view.status is status and view.epoch == epoch:
            return position(Outcome.OK, view)
        if not self._may_write(record, owner, epoch, command.log_id, lease_ms=0, now_ms=now_ms):
            return position(Outcome.FENCED, view)
        if view.next_seq != next_seq:
            return position(Outcome.GAP if view.next_seq < next_seq else Outcome.CONFLICT, view)
        if epoch > view.epoch:
            self._own(record, view, owner, epoch, lease_ms=0, now_ms=now_ms)
        event = Event.FINISH if status is Status.DONE else Event.FAIL
        record.view = replace(
            record.view,
            status=transition(record.view.status, event),
            owner="",
            finish_reason=command.finish_reason,
            error=command.error,
            prompt_tokens=command.prompt_tokens,
            finished_ms=now_ms,
            lease_until_ms=0,
        )
        record.reopen_tokens = 0
        record.expires_ms = now_ms + command.retention_ms
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
            self._own(record, record.view, owner, epoch, lease_ms=lease_ms, now_ms=now_ms)
        record.view = replace(record.view, lease_until_ms=now_ms + lease_ms)
        return position(Outcome.OK, record.view)

    def release(
        self,
        request_id: str,
        owner: str,
        epoch: int,
        *,
        failed: bool = False,
        silent: bool = False,
        now_ms: int,
    ) -> Position:
        record = self._find(request_id, now_ms)
        if record is None:
            return UNKNOWN
        view = record.view
        if view.status is Status.QUEUED and view.epoch == epoch:
            return position(Outcome.OK, view)
        if view.status not in OWNED or view.epoch != epoch or view.owner != owner:
            return position(Outcome.FENCED, view)
        if silent:
            record.alone_until_ms = view.lease_until_ms
        record.view = replace(
            view,
            status=transition(view.status, Event.RELEASE),
            owner="",
            lease_until_ms=0,
            tries=view.tries if failed or silent else max(0, view.tries - 1),
        )
        record.reopen_tokens = 0
        self._publish_state(record.view, "released")
        self._wake(record.view)
        return position(Outcome.OK, record.view)

    def reap(self, request_id: str, *, idle_ms: int, retention_ms: int, now_ms: int) -> Position:
        record = self._find(request_id, now_ms)
        if record is None:
            return UNKNOWN
        if now_ms - record.view.progress_ms < idle_ms:
            return position(Outcome.REFUSED, record.view)
        alone_until_ms = record.view.lease_until_ms
        taken = self._take_away(
            record, Event.REAP, "reaped", retention_ms=retention_ms, now_ms=now_ms
        )
        if taken.outcome is Outcome.OK:
            record.alone_until_ms = alone_until_ms
            view = record.view
            record.view = replace(view, written_off_tokens=view.generated_tokens)
        return taken

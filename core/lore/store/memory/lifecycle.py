"""The life of a request after its claim: the twin of ``lua/life.lua``."""

from dataclasses import replace

from lore.protocol.commands import (
    Ack,
    Cancel,
    Finish,
    Forget,
    GiveUp,
    Prompt,
    Readers,
    Reap,
    Release,
    Renew,
    Revive,
)
from lore.protocol.lifecycle import ENDED, LIVE, OWNED, Event, LifecycleError, Status, transition
from lore.store.base import AckMessage, Outcome, Position, View
from lore.store.keys import partition_of
from lore.store.memory.records import UNKNOWN, Record, Records, position


class Life(Records):
    def view(self, request_id: str, *, now_ms: int) -> View | None:
        record = self._find(request_id, now_ms)
        return record.view if record else None

    def body(self, request_id: str, *, now_ms: int) -> str | None:
        record = self._find(request_id, now_ms)
        return record.body or None if record else None

    def live(self, *, limit: int = 1000, now_ms: int) -> list[View]:
        del now_ms
        records = [record for record in self._records.values() if record.view.status in LIVE]
        records.sort(key=lambda record: (record.moved_ms, record.view.request_id))
        return [record.view for record in records[:limit]]

    def ack(self, record: Record, command: Ack, *, now_ms: int) -> Position:
        view, seq = record.view, command.seq
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
        record.moved_ms = now_ms
        self._publish(view, AckMessage(seq, tokens))
        if opens:
            record.reopen_tokens = 0
            self._publish_news(view, Outcome.OK, view.epoch)
            self._publish_state(view, "resumed")
        return position(Outcome.OK, view)

    def readers(self, record: Record, command: Readers, *, now_ms: int) -> Position:
        view, unread = record.view, command.here == "left"
        is_moot = record.unread is unread or record.log or view.ack == "none"
        if view.status not in LIVE or is_moot:
            return position(Outcome.OK, view)
        status = view.status
        if status in OWNED and unread is not (status is Status.PAUSED):
            status = transition(status, Event.PAUSE if unread else Event.OPEN)
        record.unread = unread
        tries = 0 if unread else view.tries
        record.view = replace(view, status=status, progress_ms=now_ms, tries=tries)
        record.moved_ms = now_ms
        if status is not view.status:
            self._publish_news(record.view, Outcome.OK, view.epoch)
            self._publish_state(record.view, "paused" if unread else "resumed")
        return position(Outcome.OK, record.view)

    def cancel(self, record: Record, command: Cancel, *, now_ms: int) -> Position:
        if record.view.status is Status.CANCELLED:
            return position(Outcome.OK, record.view)
        return self._take_away(
            record, Event.CANCEL, "ended", retention_ms=command.retention_ms, now_ms=now_ms
        )

    def prompt(self, record: Record, command: Prompt, *, now_ms: int) -> Position:
        del now_ms
        _, owner, epoch, prompt_tokens, model = command
        if (record.view.owner, record.view.epoch) != (owner, epoch):
            return position(Outcome.FENCED, record.view)
        before = record.view.model
        model = before if model is None else model
        record.view = replace(record.view, prompt_tokens=prompt_tokens, model=model)
        if record.log and before not in ("", model):
            self._publish_state(record.view, "other_model")
        return position(Outcome.OK, record.view)

    def forget(self, record: Record, command: Forget, *, now_ms: int) -> Position:
        taken = self._take_away(record, Event.CANCEL, "ended", retention_ms=0, now_ms=now_ms)
        if taken.outcome is Outcome.REFUSED:
            self._publish_state(record.view, "ended")
        del self._records[command.request_id]
        self._deleted_ms[command.request_id] = now_ms
        return position(Outcome.OK, record.view)

    def revive(self, record: Record, _: Revive, *, now_ms: int) -> Position:
        try:
            status = transition(record.view.status, Event.REVIVE)
        except LifecycleError:
            return position(Outcome.REFUSED, record.view)
        record.view = replace(record.view, status=status, progress_ms=now_ms)
        record.moved_ms = now_ms
        record.unread = False
        record.expires_ms = 0
        self._publish_state(record.view, "revived")
        self._wake(record.view)
        return position(Outcome.OK, record.view)

    def give_up(self, command: GiveUp, *, now_ms: int) -> int:
        """Searches all records for what ``lua/life.lua`` reads from an index."""
        partition, until_ms, most = command
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

    def finish(self, record: Record, command: Finish, *, now_ms: int) -> Position:
        _, owner, epoch, next_seq, status, *_ = command
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

    def renew(self, command: Renew, *, now_ms: int) -> list[Position]:
        return [self._renew(*lease, command, now_ms) for lease in command.leases]

    def _renew(
        self, request_id: str, epoch: int, log_id: str, command: Renew, now_ms: int
    ) -> Position:
        _, owner, lease_ms, _ = command
        record = self._find(request_id, now_ms)
        if record is None:
            return UNKNOWN
        if not self._may_write(record, owner, epoch, log_id, lease_ms=lease_ms, now_ms=now_ms):
            return position(Outcome.FENCED, record.view)
        if epoch > record.view.epoch:
            self._own(record, record.view, owner, epoch, lease_ms=lease_ms, now_ms=now_ms)
        record.view = replace(record.view, lease_until_ms=now_ms + lease_ms)
        record.moved_ms = record.view.progress_ms
        return position(Outcome.OK, record.view)

    def release(self, record: Record, command: Release, *, now_ms: int) -> Position:
        del now_ms
        _, owner, epoch, why = command
        view = record.view
        if view.status is Status.QUEUED and view.epoch == epoch:
            return position(Outcome.OK, view)
        if view.status not in OWNED or view.epoch != epoch or view.owner != owner:
            return position(Outcome.FENCED, view)
        if why == "silent":
            record.alone_until_ms = view.lease_until_ms
        record.view = replace(
            view,
            status=transition(view.status, Event.RELEASE),
            owner="",
            lease_until_ms=0,
            tries=view.tries if why else max(0, view.tries - 1),
        )
        record.reopen_tokens = 0
        self._publish_state(record.view, "released")
        self._wake(record.view)
        return position(Outcome.OK, record.view)

    def reap(self, record: Record, command: Reap, *, now_ms: int) -> Position:
        _, idle_ms, retention_ms = command
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

"""Appending and reading: the twin of ``lua/log.lua``."""

from dataclasses import replace

from lore.protocol.chunk import Chunk
from lore.protocol.commands import Append, Reinstate
from lore.protocol.lifecycle import Status
from lore.store.base import ChunkMessage, Outcome, Position
from lore.store.memory.records import UNKNOWN, Entry, Record, Records, judge, message_of, position


class Log(Records):
    def read(
        self, request_id: str, *, after: int, limit: int = 1000, now_ms: int
    ) -> list[ChunkMessage]:
        record = self._find(request_id, now_ms)
        if record is None:
            return []
        first = max(0, after)
        return [message_of(entry) for entry in record.log[first : first + limit]]

    def log(self, request_id: str, *, now_ms: int) -> list[Chunk]:
        record = self._find(request_id, now_ms)
        return [entry.chunk for entry in record.log] if record else []

    def append(self, record: Record, command: Append, *, now_ms: int) -> Position:
        _, owner, lease_ms, epoch, log_id, window, reopen_tokens, chunks = command
        view = record.view
        if not self._may_write(record, owner, epoch, log_id, lease_ms=lease_ms, now_ms=now_ms):
            return position(Outcome.FENCED, view)
        refusal = judge(record, chunks)
        if refusal is not None:
            return position(refusal, view)
        new = [chunk for chunk in chunks if chunk.seq >= view.next_seq]
        renews = epoch > view.epoch
        if renews:
            self._own(record, view, owner, epoch, lease_ms=lease_ms, now_ms=now_ms)
        record.log += [Entry(chunk, now_ms, log_id) for chunk in new]
        if chunks:
            record.run_id = self.run_id
        view = record.view
        record.view = replace(
            view,
            next_seq=view.next_seq + len(new),
            generated_tokens=new[-1].tokens if new else view.generated_tokens,
            window=window,
            lease_until_ms=now_ms + lease_ms if renews else view.lease_until_ms,
            progress_ms=now_ms if new else view.progress_ms,
        )
        if renews:
            record.moved_ms = record.view.progress_ms
        for entry in record.log[len(record.log) - len(new) :]:
            more = {"scored": (), "token_ids": (), "prompt_ids": None}  # the log alone has them
            self._publish(record.view, message_of(entry)._replace(**more))
        self._pause_or_resume(record, reopen_tokens)
        if new or record.view.status is Status.PAUSED:
            record.view = replace(record.view, tries=0)
        return position(Outcome.OK, record.view)

    def reinstate(self, command: Reinstate, *, now_ms: int) -> Position:
        view, body, chunks, lease_ms = command
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
            written_off_tokens=0,
        )
        log = [Entry(chunk, now_ms, view.log_id) for chunk in chunks]
        self._records[view.request_id] = Record(
            *(view, body, self.run_id, view.created_ms, now_ms),
            lease_ms=lease_ms,
            has_channel=True,
            log=log,
        )
        self._publish_state(view, "failed_over")
        return position(Outcome.OK, view)

"""Who may ask, and who is next: the twin of ``lua/admission.lua`` and ``lua/queue.lua``."""

from collections.abc import Mapping
from dataclasses import replace

from lore.protocol.fork import fork
from lore.protocol.lifecycle import Status
from lore.store.account import Account
from lore.store.base import Admission, Claimed, Limits, NewRequest, Opened, Outcome, View
from lore.store.keys import PARTITIONS, partition_of
from lore.store.records import ELSEWHERE_MS, Record, Records


class Queue(Records):
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
        if now_ms < self._elsewhere_ms.get(new.request_id, 0):
            return Opened(Outcome.FULL, False, None)
        waiting = sum(1 for _ in self._queued(partition_of(new.request_id)))
        free = queue_limit - waiting
        if free <= 0 or (2 * waiting >= queue_limit and new.ahead >= PARTITIONS * free):
            if new.asks_elsewhere:
                self._elsewhere_ms[new.request_id] = now_ms + ELSEWHERE_MS
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
            forks="",
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
            trace=new.trace,
        )
        self._records[new.request_id] = Record(view, new.body, self.run_id, new.place_ms or now_ms)
        self._wake(view)
        return Opened(Outcome.OK, True, view)

    def claim(
        self, partition: int, owner: str, *, lease_ms: int, untried: bool = False, now_ms: int
    ) -> Claimed | None:
        self._shorten_leases(partition, now_ms)
        record = self._claimable(partition, now_ms, untried=untried)
        if record is None:
            return None
        view = record.view
        epoch = max(view.epoch + 1, now_ms)
        if record.run_id != self.run_id:
            view = replace(view, tries=0)
        if record.run_id != self.run_id or now_ms < record.alone_until_ms:
            forks = fork(view.forks, view.log_id, view.next_seq)
            view = replace(view, log_id=f"{epoch:x}", forks=forks)
            record.run_id = self.run_id
        self._own(record, view, owner, epoch, lease_ms=lease_ms, now_ms=now_ms)
        record.view = replace(
            record.view,
            lease_until_ms=now_ms + lease_ms,
            progress_ms=now_ms,
            tries=view.tries + 1,
        )
        return Claimed(record.view, record.body, self.run_id)

    def waiting(self, *, lease_ms: int = 0, now_ms: int) -> list[tuple[int, int]]:
        partitions = {partition_of(key) for key in self._records}
        if lease_ms:
            for partition in partitions:
                self._shorten_leases(partition, now_ms)
        found = [(self._claimable(partition, now_ms), partition) for partition in partitions]
        return sorted((record.place_ms, partition) for record, partition in found if record)

    def queue_depth(self, *, now_ms: int) -> int:
        del now_ms
        return sum(1 for r in self._records.values() if r.view.status is Status.QUEUED)

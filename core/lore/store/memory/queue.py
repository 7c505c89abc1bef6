"""Admission and the queue: the twin of ``lua/admission.lua`` and ``lua/queue.lua``."""

from dataclasses import replace
from typing import Any

from lore.protocol.commands import Claim, Look, Meet, Waiting
from lore.protocol.fork import fork
from lore.protocol.lifecycle import Status
from lore.store.base import Admission, Claimed, Opened, Outcome, View
from lore.store.keys import PARTITIONS, partition_of
from lore.store.memory.limits import Account
from lore.store.memory.records import ELSEWHERE_MS, Record, Records
from lore.store.types import Admit, Leave, Open, Settle


class Queue(Records):
    def admit(self, command: Admit, *, now_ms: int) -> Admission:
        client, request_id, limits, tokens, quantum_ms = command
        account = self._accounts.setdefault(client, Account())
        return account.admit(
            request_id, limits, tokens=tokens, quantum_ms=quantum_ms, now_ms=now_ms
        )

    def settle(self, command: Settle, *, now_ms: int) -> None:
        del now_ms
        account = self._accounts.setdefault(command.client, Account())
        for request_id, used in command.used_tokens.items():
            account.settle(request_id, used)

    def leave(self, command: Leave, *, now_ms: int) -> None:
        del now_ms
        self._accounts.setdefault(command.client, Account()).leave(command.request_id)

    def open(self, command: Open, *, now_ms: int) -> Opened:
        new, queue_limit = command
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
            log_id=f"{now_ms:x}",
            window=new.window,
            created_ms=now_ms,
            progress_ms=now_ms,
            trace=new.trace,
        )
        self._records[new.request_id] = Record(
            *(view, new.body, self.run_id, new.place_ms or now_ms, now_ms)
        )
        self._wake(view)
        return Opened(Outcome.OK, True, view)

    def claim(self, command: Claim, *, now_ms: int) -> Claimed | None:
        partition, owner, lease_ms, untried, silent, others = command
        self._shorten_leases(partition, now_ms)
        how: Any = {"untried": untried, "silent": silent, "others": others}
        record = self._claimable(partition, now_ms, **how)
        if record is None:
            return None
        view = record.view
        if view.lease_until_ms > now_ms:  # its owner has left, but may still live
            record.alone_until_ms = view.lease_until_ms
        epoch = max(view.epoch + 1, now_ms)
        if record.run_id != self.run_id:
            view = replace(view, tries=0)
        if record.run_id != self.run_id or now_ms < record.alone_until_ms:
            forks = fork(view.forks, view.log_id, view.next_seq)
            view = replace(view, log_id=f"{epoch:x}", forks=forks)
            record.run_id = self.run_id
        self._own(*(record, view, owner, epoch), lease_ms=lease_ms, has_channel=True, now_ms=now_ms)
        record.view = replace(
            record.view,
            lease_until_ms=now_ms + lease_ms,
            progress_ms=now_ms,
            tries=0 if record.is_unread else view.tries + 1,
        )
        record.moved_ms = now_ms
        return Claimed(record.view, record.body, self.run_id)

    def waiting(self, command: Waiting, *, now_ms: int) -> list[tuple[int, int]]:
        partitions = {partition_of(key) for key in self._records}
        if command.lease_ms:
            for partition in partitions:
                self._shorten_leases(partition, now_ms)
        found = [(self._claimable(one, now_ms, silent=command.silent), one) for one in partitions]
        return sorted((record.place_ms, partition) for record, partition in found if record)

    def meet(self, command: Meet, *, now_ms: int) -> list[str]:
        owner, keep_ms = command
        self._met_ms[owner] = now_ms
        met = sorted((ms, name) for name, ms in self._met_ms.items() if ms > now_ms - keep_ms)
        self._met_ms = {name: ms for ms, name in met}
        return [name for _, name in met]

    def look(self, command: Look, *, now_ms: int) -> list[str]:
        del now_ms
        return [owner for owner in command.owners if owner in self.present]

    def queue_depth(self, *, now_ms: int) -> int:
        del now_ms
        return sum(1 for r in self._records.values() if r.view.status is Status.QUEUED)

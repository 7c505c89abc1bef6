"""The twin's record of each request, and the steps that several calls share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal, NamedTuple

from lore.protocol.chunk import Chunk
from lore.protocol.commands import Others, Silent
from lore.protocol.lifecycle import LIVE, OWNED, Event, LifecycleError, Status, transition
from lore.store.base import ChunkMessage, Message, News, Outcome, Position, StateMessage, View
from lore.store.keys import partition_of
from lore.store.memory.limits import Account

DELETED_MS = 3_600_000
"""An id that was deleted cannot be used for this long."""
ELSEWHERE_MS = 10_000
"""Longer than a POST takes: two with the same key at the same time become one request."""


class Publication(NamedTuple):
    """A message published on a channel: ``n`` to readers, ``b`` to the owner, ``wake`` to
    generators.
    """

    channel: Literal["n", "b", "wake"]
    request_id: str
    message: Message | News | int
    """A Message on ``n``, News on ``b``, the partition on ``wake``."""


@dataclass(frozen=True, slots=True)
class Entry:
    chunk: Chunk
    at_ms: int
    log_id: str


@dataclass(slots=True)
class Record:
    view: View
    body: str
    run_id: str
    """The server's run id at the last write of the log's owner (P4)."""
    place_ms: int
    """Where it stands in the queue."""
    moved_ms: int
    """Its place in the order of live requests: its last progress, where text counts from the next
    renewal.
    """
    reopen_tokens: int = 0
    lease_ms: int = 0
    """The length of its owner's leases."""
    has_channel: bool = False
    """Whether others can notice its owner's end (P15.10)."""
    unread: bool = False
    """Whether its readers left before there was any text (P7)."""
    alone_until_ms: int = 0
    """Until then, an owner from which it was taken may believe itself alone (P4.8)."""
    passed_ms: int = 0
    """When a generator with another model first passed it over since its last claim (P15.22)."""
    expires_ms: int = 0
    """When the request expires; 0 means never."""
    log: list[Entry] = field(default_factory=list[Entry])

    @property
    def is_unread(self) -> bool:
        """Whether its prompt waits for a reader (P7)."""
        return self.unread and not self.log


class Snapshot(NamedTuple):
    records: dict[str, Record]
    accounts: dict[str, Account]
    deleted_ms: dict[str, int]
    elsewhere_ms: dict[str, int]
    met_ms: dict[str, int]


class Records:
    """All requests of one store, and what it published."""

    def __init__(self, run_id: str = "run-1") -> None:
        self.run_id = run_id
        self.outbox: list[Publication] = []
        self.present: set[str] = set()
        """Owners with a subscriber to their own channel."""
        self._met_ms: dict[str, int] = {}
        self._records: dict[str, Record] = {}
        self._accounts: dict[str, Account] = {}
        self._deleted_ms: dict[str, int] = {}
        self._elsewhere_ms: dict[str, int] = {}

    def snapshot(self) -> Snapshot:
        parts = (self._records, self._accounts, self._deleted_ms, self._elsewhere_ms, self._met_ms)
        return _copy(Snapshot(*parts))

    def restore(self, snapshot: Snapshot, run_id: str) -> None:
        """Go back to ``snapshot``, like a server that restarts."""
        records, accounts, self._deleted_ms, self._elsewhere_ms, self._met_ms = _copy(snapshot)
        self._records, self._accounts = records, accounts
        self.run_id = run_id

    def take_outbox(self) -> list[Publication]:
        taken, self.outbox = self.outbox, []
        return taken

    def _find(self, request_id: str, now_ms: int) -> Record | None:
        record = self._records.get(request_id)
        if record is not None and 0 < record.expires_ms <= now_ms:
            del self._records[request_id]
            return None
        return record

    def _was_deleted(self, request_id: str, now_ms: int) -> bool:
        deleted_ms = self._deleted_ms.get(request_id)
        return deleted_ms is not None and now_ms < deleted_ms + DELETED_MS

    def _queued(self, partition: int) -> Iterator[Record]:
        for key, record in self._records.items():
            if record.view.status is Status.QUEUED and partition_of(key) == partition:
                yield record

    def _claimable(
        self,
        partition: int,
        now_ms: int,
        *,
        untried: bool = False,
        silent: Sequence[Silent] = (),
        others: Others | None = None,
    ) -> Record | None:
        """The request whose lease lapsed first, else the first whose owner has left, else the first
        in the queue.
        """
        owned = [
            record
            for key, record in self._records.items()
            if record.view.status in OWNED
            and partition_of(key) == partition
            and not (untried and record.view.tries)
        ]
        owned.sort(key=lambda r: (r.view.lease_until_ms, r.view.request_id))
        lapsed = (record for record in owned if record.view.lease_until_ms <= now_ms)
        left = (record for record in owned if self._has_left(record, silent, now_ms))
        queued = [r for r in self._queued(partition) if not (untried and r.view.tries)]
        queued.sort(key=lambda r: (r.place_ms, r.view.request_id))
        found = (r for r in chain(lapsed, left, queued) if not _passes_over(r, others, now_ms))
        return next(found, None)

    def _has_left(self, record: Record, silent: Sequence[Silent], now_ms: int) -> bool:
        """Whether an owner whose lease runs has no subscriber, and has not renewed the lease
        recently.
        """
        owner, renewed_ms = record.view.owner, record.view.lease_until_ms - record.lease_ms
        return record.has_channel and any(
            one.run_id == self.run_id
            and owner in one.owners
            and renewed_ms <= now_ms - one.silent_ms
            and owner not in self.present
            for one in silent
        )

    def _shorten_leases(self, partition: int, now_ms: int) -> None:
        """Shorten leases that end later than their length from now: another clock gave them
        (P15.7).
        """
        for key, record in self._records.items():
            ends_ms = min(record.view.lease_until_ms, now_ms + record.lease_ms)
            if record.view.lease_until_ms > ends_ms and partition_of(key) == partition:
                record.view = replace(record.view, lease_until_ms=ends_ms)

    def _own(
        self,
        record: Record,
        view: View,
        owner: str,
        epoch: int,
        *,
        lease_ms: int,
        has_channel: bool = False,
        now_ms: int,
    ) -> None:
        """Make ``owner`` the owner: by a claim, or by one that the store has forgotten (P2). For
        the latter it is unknown whether the owner has a channel of its own.
        """
        record.lease_ms, record.has_channel, record.passed_ms = lease_ms, has_channel, 0
        status = transition(view.status, Event.CLAIM)
        record.view = replace(
            view,
            status=transition(status, Event.PAUSE) if record.is_unread else status,
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
        """Cancel or reap. The epoch grows, so that the previous owner is fenced."""
        view = record.view
        try:
            status = transition(view.status, event)
        except LifecycleError:
            return position(Outcome.REFUSED, view)
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
            self._publish_news(record.view, Outcome.FENCED, view.epoch)
        self._publish_state(record.view, reason)
        return position(Outcome.OK, record.view)

    def _may_write(
        self, record: Record, owner: str, epoch: int, log_id: str, *, lease_ms: int, now_ms: int
    ) -> bool:
        """Whether this owner may write (P2). A newer epoch belongs to a claim that the store has
        forgotten.

        That claim's lease ends ``lease_ms`` after its epoch, because an epoch is the time of its
        claim (P2.7). After a loss of data, a lease that the store remembers counts until it ends:
        from then on the store may have forgotten that another owner followed (P2.11).
        """
        view = record.view
        if log_id != view.log_id:
            return False
        if epoch > view.epoch:
            return view.status in LIVE and now_ms < epoch + lease_ms
        if epoch < view.epoch or owner != view.owner or view.status not in OWNED:
            return False
        return record.run_id == self.run_id or now_ms < view.lease_until_ms

    def _publish(self, view: View, message: Message) -> None:
        self.outbox.append(Publication("n", view.request_id, message))

    def _publish_state(self, view: View, reason: str) -> None:
        self._publish(view, StateMessage(view.status, reason))

    def _publish_news(self, view: View, outcome: Outcome, epoch: int) -> None:
        news = News(position(outcome, view), epoch)
        self.outbox.append(Publication("b", view.request_id, news))

    def _wake(self, view: View) -> None:
        self.outbox.append(Publication("wake", view.request_id, partition_of(view.request_id)))


def _copy(snapshot: Snapshot) -> Snapshot:
    return Snapshot(
        {key: replace(record, log=list(record.log)) for key, record in snapshot.records.items()},
        {client: account.copy() for client, account in snapshot.accounts.items()},
        dict(snapshot.deleted_ms),
        dict(snapshot.elsewhere_ms),
        dict(snapshot.met_ms),
    )


def _passes_over(record: Record, others: Others | None, now_ms: int) -> bool:
    """Whether to leave an answer to generators that have its model (P15.22)."""
    if others is None or not record.log or record.view.model in ("", others.model):
        return False
    record.passed_ms = record.passed_ms or now_ms
    return now_ms < record.passed_ms + others.left_ms


def judge(record: Record, chunks: Sequence[Chunk]) -> Outcome | None:
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


def message_of(entry: Entry) -> ChunkMessage:
    chunk = entry.chunk
    plain = ChunkMessage(chunk.seq, chunk.text, chunk.tokens, entry.at_ms, entry.log_id)
    shown = chunk.token_ids if chunk.prompt_ids is not None else ()
    return plain._replace(scored=chunk.scored, token_ids=shown, prompt_ids=chunk.prompt_ids)


def position(outcome: Outcome, view: View) -> Position:
    return Position(outcome, view.status, view.next_seq, view.acked_seq, view.acked_tokens)


UNKNOWN = Position(Outcome.UNKNOWN, None)

"""From producers to the store: what is due goes out, and answers come back as credit.

Everything due in one turn of the event loop is sent in that turn, so that the store's
client joins a decoding step's appends into one write. A request has at most one append
in flight. While the store is away nothing is lost and nothing is hammered: producers
keep their chunks, and one timer with backoff tries again.
"""

import asyncio
import contextlib
import heapq
import itertools
import math
import random
import time
from collections.abc import Awaitable
from functools import partial

import structlog

from lore import logs, metrics, tracing
from lore.protocol.lifecycle import Status
from lore.protocol.producer import Append
from lore.store.base import Outcome, Position, Store, StoreUnavailable
from lore_generator import accounts, traces
from lore_generator.accounts import Accounts
from lore_generator.owned import Owned
from lore_generator.roster import Roster
from lore_generator.settings import GeneratorSettings

log = structlog.get_logger()

RETRY_FIRST_S, RETRY_MAX_S = 0.05, 2.0


class Appender:
    def __init__(
        self, store: Store, roster: Roster, settings: GeneratorSettings, tasks: asyncio.TaskGroup
    ) -> None:
        self._store = store
        self._roster = roster
        self._settings = settings
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self.accounts = Accounts(store)
        self._alarms: list[tuple[float, int, Owned]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0
        self._stuck: set[Owned] = set()
        self._attempts = 0
        self._retry_timer: asyncio.TimerHandle | None = None
        self._trying = asyncio.Event()
        """Clear between a failed call and the next attempt."""
        self._trying.set()

    def transmit(self, owned: Owned, now: float) -> None:
        """Send what is due of a request, or set the alarm for it."""
        if not self._roster.holds(owned) or owned.sending is not None:
            return
        if not self._trying.is_set():
            self._stuck.add(owned)
            return
        due = owned.producer.deadline()
        if due is None:
            return
        if due > now:
            self._set_alarm(owned, due)
        else:
            self._send(owned, owned.producer.take(now))

    def retry(self) -> None:
        """The store may be back: try again now."""
        if self._retry_timer is not None:
            self._retry_timer.cancel()
            self._retry_timer = None
        self._trying.set()
        stuck, self._stuck = self._stuck, set()
        now = self._loop.time()
        for owned in stuck:
            self.transmit(owned, now)

    async def hand_back(self, owned: Owned, *, failed: bool) -> None:
        """Append what there is of a request, then release it to whoever has room (P15).

        ``failed``: the engine did, and what it was working on may be why.
        """
        while self._roster.holds(owned):
            if owned.sending is not None:
                await asyncio.wait([owned.sending])
            elif not self._trying.is_set():
                await self._trying.wait()
            elif (append := owned.producer.outbox(math.inf)) is not None:
                self._send(owned, append)
            else:
                # Nothing more is appended: once a release is under way, somebody else may go on.
                owned.span.event("handed_back", failed=failed)
                self._roster.drop(owned)
                while not await self._released(owned, failed=failed):
                    await self._trying.wait()
                metrics.HANDED_BACK.inc()

    async def _released(self, owned: Owned, *, failed: bool) -> bool:
        request_id, owner, epoch = owned.request_id, self._settings.generator_id, owned.epoch
        try:
            position = await self._store.release(request_id, owner, epoch, failed=failed)
            if self.is_forgotten(owned, position):
                await self.reinstate(owned)
                position = await self._store.release(request_id, owner, epoch, failed=failed)
            accounts.count_acks(owned, position.acked_tokens)
        except StoreUnavailable:
            owned.renewed_s = -math.inf  # it may have happened
            self._wait_for_store()
            return False
        return True

    def go_on(self, owned: Owned, position: Position, asked_s: float) -> None:
        """From where the store says that the request is there, asked at ``asked_s``."""
        now = self._loop.time()
        owned.renewed_s, owned.run_id = asked_s, self._store.run_id(owned.partition)
        owned.producer.on_position(
            position.next_seq,
            position.acked_tokens,
            now,
            paused=position.status is Status.PAUSED,
        )
        if self._roster.holds(owned):
            self._roster.refresh(owned)
            self.transmit(owned, now)

    def is_forgotten(self, owned: Owned, position: Position) -> bool:
        """Lost with the store's data; what expired or was deleted stays unknown."""
        return (
            position.outcome is Outcome.UNKNOWN
            and self._store.run_id(owned.partition) != owned.run_id
        )

    async def reinstate(self, owned: Owned) -> Position:
        """Give a request back to a store that has forgotten it (P3). Raises StoreUnavailable."""
        run_id, lapsed = self._store.run_id(owned.partition), self._loop.time() - owned.renewed_s
        view, chunks = owned.known(run_id, alone=lapsed < self._settings.lease_s)
        position = await self._store.reinstate(
            view, owned.body, chunks, lease_ms=self._settings.lease_ms
        )
        if position.outcome is Outcome.OK:
            owned.view, owned.run_id = view, run_id
            owned.span.event("given_back", chunks=len(chunks), log_id=view.log_id)
            log.info("the store forgot a request", **logs.of(view))
        return position

    def _send(self, owned: Owned, append: Append) -> None:
        """What goes on as it should costs no task: most appends, twenty a second each."""
        asked_s = self._loop.time()
        if append.finish_reason is not None:
            owned.sending = self._tasks.create_task(self._settle(owned, append, None, asked_s))
            return
        answer = self._append(owned, append)
        if not isinstance(answer, asyncio.Future):
            answer = asyncio.ensure_future(answer)
        owned.sending = answer
        answer.add_done_callback(partial(self._on_reply, owned, append, asked_s))

    def _on_reply(
        self, owned: Owned, append: Append, asked_s: float, answer: asyncio.Future[Position]
    ) -> None:
        if answer.cancelled():
            return
        owned.sending = None
        if answer.exception() is None and answer.result().outcome is Outcome.OK:
            self._attempts = 0
            owned.run_id = self._store.run_id(owned.partition)
            self._on_answer(owned, append, answer.result(), asked_s)
        elif self._roster.holds(owned):
            owned.sending = self._tasks.create_task(self._settle(owned, append, answer, asked_s))

    async def _settle(
        self,
        owned: Owned,
        append: Append,
        answer: asyncio.Future[Position] | None,
        asked_s: float,
    ) -> None:
        """``answer``: the append's, when it was sent already."""
        try:
            if answer is not None:
                position = await answer
            else:
                position = await self._append_and_finish(owned, append)
            forgotten = self.is_forgotten(owned, position)
            if forgotten:
                position = await self.reinstate(owned)
        except StoreUnavailable:
            metrics.APPENDS_REPEATED["no_answer"].inc()
            owned.sending = None
            owned.producer.on_lost()
            self._stuck.add(owned)
            self._wait_for_store()
            return
        owned.sending = None
        self._attempts = 0
        if forgotten and position.outcome is Outcome.OK:
            metrics.APPENDS_REPEATED["forgotten"].inc()
            owned.producer.on_lost()
            self.go_on(owned, position, asked_s)
        elif position.outcome in (Outcome.OK, Outcome.GAP):
            owned.run_id = self._store.run_id(owned.partition)
            self._on_answer(owned, append, position, asked_s)
            if owned.producer.ended and self._roster.holds(owned):
                await self._end(owned, append)
        else:
            await self.lose(owned, position)

    def _append(self, owned: Owned, append: Append) -> Awaitable[Position]:
        return self._store.append(
            owned.request_id,
            self._settings.generator_id,
            owned.epoch,
            append.chunks,
            log_id=owned.log_id,
            window=append.window,
            reopen_tokens=append.reopen_tokens,
            lease_ms=self._settings.lease_ms,
        )

    async def _append_and_finish(self, owned: Owned, append: Append) -> Position:
        assert append.finish_reason is not None
        if append.chunks:
            position = await self._append(owned, append)
            # Fenced may mean that our own end is in and its answer was lost: finish tells.
            if position.outcome not in (Outcome.OK, Outcome.FENCED):
                return position
        began_ns = time.time_ns()
        position = await self._store.finish(
            owned.request_id,
            self._settings.generator_id,
            owned.epoch,
            append.next_seq,
            log_id=owned.log_id,
            status=_end_status(append),
            finish_reason=append.finish_reason,
            error=owned.error,
            prompt_tokens=owned.prompt_tokens,
            retention_ms=self._settings.retention_ms,
        )
        tracing.call("lore_finish", owned.span, began_ns=began_ns).end()  # answered, at last
        return position

    def _on_answer(self, owned: Owned, append: Append, position: Position, asked_s: float) -> None:
        now = self._loop.time()
        owned.producer.on_appended(position.next_seq, position.acked_tokens, now)
        if position.outcome is Outcome.GAP:
            metrics.APPENDS_REPEATED["gap"].inc()
        else:
            owned.renewed_s = asked_s
            metrics.CHUNKS_APPENDED.inc(len(append.chunks))
            if append.chunks or append.reopen_tokens:
                self._roster.clear(owned)
            if append.chunks and owned.queued_s is not None:
                first_token_s = owned.queued_s + now - owned.claimed_s
                metrics.TIME_TO_FIRST_TOKEN.observe(first_token_s, exemplar=owned.span.exemplar)
                owned.span.set({"gen_ai.response.time_to_first_chunk": first_token_s})
                owned.queued_s = None
        if not owned.producer.ended and self._roster.holds(owned):
            self._roster.refresh(owned)
            self.transmit(owned, now)

    async def _end(self, owned: Owned, append: Append) -> None:
        status = _end_status(append)
        traces.ended(owned, append.finish_reason or "")
        self._roster.keep(owned)
        metrics.REQUESTS_ENDED[status.value].inc()
        self.accounts.settle_later(owned, status)
        if status is Status.FAILED:
            log.warning("request failed", **logs.of(owned.view), error=owned.error)
        else:
            log.debug("request done", **logs.of(owned.view), reason=append.finish_reason)
        await self.unguard(owned)

    def on_taken(self, owned: Owned, position: Position) -> None:
        """Its reader cancelled it, or nobody read it: it is over, here at least."""
        if position.status is Status.CANCELLED or position.status is Status.REAPED:
            metrics.REQUESTS_ENDED[Status.CANCELLED].inc(position.status is Status.CANCELLED)
            accounts.close(owned, position.status, position.acked_tokens)

    async def lose(self, owned: Owned, position: Position) -> None:
        """The store says that the request is not ours, or not as we know it: drop it."""
        if not self._roster.holds(owned):
            return
        outcome = position.outcome
        owned.span.event("lost", outcome=outcome.value)
        self._roster.drop(owned)
        self.on_taken(owned, position)
        if outcome is Outcome.FENCED:
            metrics.FENCED.inc()
            log.info("lease lost", **logs.of(owned.view), epoch=owned.epoch)
        elif outcome is Outcome.UNKNOWN:
            log.debug("request deleted", **logs.of(owned.view))
        else:
            log.error("request dropped", **logs.of(owned.view), outcome=outcome.value)
        await self.unguard(owned)

    async def unguard(self, owned: Owned) -> None:
        with contextlib.suppress(StoreUnavailable):  # what is lost was lost to us as well
            await self._store.unguard(owned.request_id)

    def _wait_for_store(self) -> None:
        if not self._trying.is_set():
            return
        self._trying.clear()
        delay_s = min(RETRY_MAX_S, RETRY_FIRST_S * 2**self._attempts)
        self._attempts += 1
        self._retry_timer = self._loop.call_later(delay_s * random.uniform(0.5, 1), self.retry)

    def _set_alarm(self, owned: Owned, due: float) -> None:
        if owned.alarm_s is not None and owned.alarm_s <= due:
            return
        owned.alarm_s = due
        heapq.heappush(self._alarms, (due, next(self._order), owned))
        self._set_timer()

    def _set_timer(self) -> None:
        """One timer of the loop stands for the earliest of all alarms."""
        due = self._alarms[0][0]
        if self._timer is not None:
            if self._timer_s <= due:
                return
            self._timer.cancel()
        self._timer_s = due
        self._timer = self._loop.call_at(due, self._ring)

    def _ring(self) -> None:
        # A loop's timer may go off within its clock's grain before its time.
        now = max(self._loop.time(), self._timer_s)
        self._timer = None
        while self._alarms and self._alarms[0][0] <= now:
            owned = heapq.heappop(self._alarms)[2]
            owned.alarm_s = None
            self.transmit(owned, now)
        if self._alarms:
            self._set_timer()


def _end_status(append: Append) -> Status:
    return Status.FAILED if append.finish_reason == "error" else Status.DONE

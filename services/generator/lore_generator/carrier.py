"""Carries commands to the store and answers back. It decides nothing.

``lore/protocol`` decides what a generator does with its requests: ``leases.py`` and ``owner.py``
for those that it has, ``claims.py`` for those that it takes. Here commands become calls of the
store, answers and news become events, and turns become metrics, spans and log lines. Everything due
in one turn of the event loop is sent in that turn, so that the store's client joins a decoding
step's appends into one write.
"""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import structlog

from lore import logs, metrics, tracing
from lore.protocol.claims import Candidate, Claims
from lore.protocol.commands import (
    Append,
    Finish,
    Prompt,
    ReadLog,
    Subscribe,
    Unsubscribe,
)
from lore.protocol.leases import Leases, Renewing
from lore.protocol.lifecycle import Status
from lore.protocol.owner import Owner
from lore.protocol.owner_channels import OwnerChannels
from lore.store.base import Answers, News, OwnerListener, Step, Store, StoreUnavailable
from lore_generator.journal import Journal
from lore_generator.owned_request import OwnedRequest
from lore_generator.request_table import RequestTable

log = structlog.get_logger()


class Machine(Protocol):
    def on_answer(self, subject: Any, command: Any, answer: object, now: float) -> None: ...

    def on_lost(self, subject: Any, command: Any, now: float) -> None: ...


Adopt = Callable[[Candidate], None]


def jitter() -> float:
    return random.uniform(0.5, 1.0)


class Ear(OwnerListener):
    """Hears what the store publishes to the owner of one request."""

    def __init__(self, carrier: "Carrier", request_id: str) -> None:
        self._carrier = carrier
        self._request_id = request_id

    def on_news(self, news: News) -> None:
        self._carrier.on_news(self._request_id, news)


class Carrier:
    def __init__(
        self,
        store: Store,
        leases: Leases,
        claims: Claims,
        table: RequestTable,
        journal: Journal,
        adopt: Adopt,
        tasks: asyncio.TaskGroup,
        stop: asyncio.Event,
        model: str,
    ) -> None:
        """``adopt`` makes a request of a claim. After ``stop`` nothing is claimed. ``model`` is
        what generates the answers (``EngineInfo.identity``).
        """
        self._store = store
        self._leases = leases
        self._claims = claims
        self._table = table
        self._journal = journal
        self._adopt = adopt
        self._tasks = tasks
        self._stop = stop
        self._model = model
        self._loop = asyncio.get_running_loop()
        self._owner_channels = OwnerChannels()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = math.inf
        self._moved = asyncio.Event()
        self._closed = False

    # events

    def start(self) -> None:
        self._claims.on_time(self._loop.time())
        self.transmit()

    def transmit(self) -> None:
        """Carry out all decisions. Call it after each event."""
        if self._closed:
            return
        leases, claims = self._leases, self._claims
        if self._stop.is_set():
            claims.close()
        self._share()
        self._tell()
        while leases.has_work or claims.outbox or claims.taken_up or claims.refused:
            self._tell()
            step, leases.appends = leases.appends, []
            if step:
                self._store.append(step, self._on_step)
            for subject, command in _taken(leases.outbox):
                self._tasks.create_task(self._carry(leases, subject, command))
            for subject, command in _taken(claims.outbox):
                self._tasks.create_task(self._carry(claims, subject, command))
            for candidate in _taken(claims.taken_up):
                self._adopt(candidate)
            self._share()
        self._set_timer()
        self._moved.set()

    def transmit_step(self) -> None:
        """Send what a step appends. Call it instead of ``transmit`` if all that happened is that
        pieces were passed on, or that the store has them: then nothing else is due, unless a timer
        is to be set or slots are to be shared anew.
        """
        leases = self._leases
        is_due = leases.pacer.deadline() <= self._loop.time() or leases.deadline() < self._timer_s
        if is_due or self._closed or leases.turns or leases.outbox:
            self.transmit()
        elif leases.appends:
            step, leases.appends = leases.appends, []
            self._store.append(step, self._on_step)

    def _share(self) -> None:
        """Share the engine's slots, and claim for those that are free then."""
        now = self._loop.time()
        self._table.share(self._claims.waiting(now))
        self._claims.pump(now)

    def tell_prompt(self, owned: OwnedRequest) -> None:
        """Report the length of a request's prompt, and the model that reads it, unless the store
        knows both.
        """
        news = owned.prompt_tokens, self._model
        owned.tells_prompt = False
        if news != owned.told:
            owned.told = news
            owned.owner.on_prompt(*news)
            self._tasks.create_task(self._tell_prompt(owned))

    async def _tell_prompt(self, owned: OwnedRequest) -> None:
        owner = owned.owner
        lease = owner.request_id, owner.config.owner, owner.epoch
        try:
            await self._store.do(Prompt(*lease, *owned.told))
        except StoreUnavailable:  # the next piece, or the end, reports it
            owned.told, owned.tells_prompt = (0, ""), True

    def on_wake(self, partition: int | None) -> None:
        """A request waits in a partition. None: the lost subscriptions are back, so any may
        wait.
        """
        now = self._loop.time()
        if partition is None:
            self._claims.on_store_back(now)
            self._leases.on_store_back(now)
        else:
            self._claims.on_wake(partition, now)
        self.transmit()

    def on_news(self, request_id: str, news: News) -> None:
        owner = self._leases.live.get(request_id)
        if owner is None:
            return
        self._leases.on_news(owner, news, self._loop.time())
        self._refresh(owner)
        self.transmit()

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait for events until ``done`` returns True."""
        while not done():
            self._moved.clear()
            await self._moved.wait()

    def close(self) -> None:
        """Stop: later events do nothing, however the service ended."""
        self._closed = True
        self._claims.close()
        self._leases.close()
        self._tell()
        if self._timer is not None:
            self._timer.cancel()

    # calls of the store

    def _on_step(self, step: Step, answers: Answers | Exception) -> None:
        """A step's appends are answered. This happens twenty times a second for each request, so no
        object is made for an append that went well.
        """
        if isinstance(answers, Exception):
            for owner, command in step:
                self._lose(self._leases, owner, command, answers)
        else:
            now = self._loop.time()
            self._journal.on_step(step, answers, now)
            moved = self._leases.on_step(step, answers.each, answers.run_id, now)
            if not moved:
                self.transmit_step()
                return
            for owner in moved:
                self._refresh(owner)
        self.transmit()

    async def _carry(self, machine: Machine, subject: Any, command: Any) -> None:
        began_ns = time.time_ns()
        try:
            answer = await self._call(command)
        except Exception as error:  # noqa: BLE001 - it is logged, and the command is repeated
            self._on_lost(machine, subject, command, error)
            return
        if isinstance(command, Finish) and isinstance(subject, Owner):
            owned = self._table.of(subject)
            if owned is not None:
                tracing.call("lore_finish", owned.span, began_ns=began_ns).end()
        self._on_answer(machine, subject, command, answer)

    def _on_answer(self, machine: Machine, subject: Any, command: Any, answer: object) -> None:
        now = self._loop.time()
        self._journal.on_answer(command, answer)
        machine.on_answer(subject, command, answer, now)
        self._refresh(subject)
        self.transmit()

    def _on_lost(self, machine: Machine, subject: Any, command: Any, error: BaseException) -> None:
        self._lose(machine, subject, command, error)
        self.transmit()

    def _lose(self, machine: Machine, subject: Any, command: Any, error: BaseException) -> None:
        if not isinstance(error, StoreUnavailable):
            log.error("store call failed", call=type(command).__name__, exc_info=error)
        if isinstance(command, Append | Finish):
            metrics.APPENDS_REPEATED["no_answer"].inc()
        machine.on_lost(subject, command, self._loop.time())

    def _refresh(self, subject: object) -> None:
        """The credit may have grown."""
        if isinstance(subject, Owner):
            owned = self._table.of(subject)
            if owned is not None:
                self._table.refresh(owned)
        elif isinstance(subject, Renewing):
            for owner in subject.owners:
                self._refresh(owner)

    def _call(self, command: Any) -> Awaitable[Any]:
        store = self._store
        match command:
            case ReadLog(request_id):
                return store.log(request_id)
            case Subscribe(request_id, epoch):
                self._owner_channels.begin(request_id, epoch)
                return store.subscribe(request_id, Ear(self, request_id))
            case Unsubscribe(request_id, epoch):
                return self._unguard(request_id, epoch)
            case _:
                return store.do(command)

    async def _unguard(self, request_id: str, epoch: int) -> None:
        if self._owner_channels.end(request_id, epoch):
            await self._store.unsubscribe(request_id)

    # deadlines

    def _tell(self) -> None:
        self._journal.on_store(answers=self._claims.store_answers)
        for owner, turn, position in _taken(self._leases.turns):
            if owned := self._table.of(owner):
                self._journal.on_turn(owned, turn, position)
        for candidate, error in _taken(self._claims.refused):
            assert candidate.claimed is not None
            log.error("request refused", **logs.of(candidate.claimed.view), reason=error)
            metrics.REQUESTS_ENDED[Status.FAILED.value].inc()

    def _set_timer(self) -> None:
        leases = self._leases
        due = min(leases.deadline(), leases.pacer.deadline(), self._claims.deadline())
        if self._timer is not None:
            if self._timer_s == due:
                return
            self._timer.cancel()
        self._timer_s = due
        self._timer = self._loop.call_at(due, self._ring) if due < math.inf else None

    def _ring(self) -> None:
        # A loop's timer may fire slightly before its time, within the resolution of its clock.
        now = max(self._loop.time(), self._timer_s)
        self._timer = None
        self._leases.on_time(now)
        self._claims.on_time(now)
        self.transmit()


def _taken(events: list[Any]) -> list[Any]:
    taken = events[:]
    events.clear()
    return taken

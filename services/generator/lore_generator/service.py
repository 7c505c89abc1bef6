"""The generator: one engine in its own thread, and asyncio between it and the store.

engine --pieces--> Owner  --appends--> store        (carrier.py) engine <--credit-- Owner
<--acks----- store        (carrier.py, request_table.py)
                   Claims <--queue---- store        (carrier.py)

``lore/protocol`` decides what happens to a request: ``owner.py``, ``leases.py``, ``claims.py``.
"""

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import structlog

from lore import collector, logs, metrics
from lore.keepers import Keeper
from lore.lag import measure_lag
from lore.protocol.claims import UNREADABLE, Candidate, Claims
from lore.protocol.leases import Leases
from lore.store import arrival
from lore.store.base import Store, StoreUnavailable
from lore.store.keys import PARTITIONS
from lore_generator import traces
from lore_generator.carrier import Carrier, jitter
from lore_generator.engine import Engine, EngineInfo, GivenUp, Piece
from lore_generator.engines import REMOTE
from lore_generator.journal import Journal
from lore_generator.model_facts import tell
from lore_generator.owned_request import OTHER_FORMAT, OwnedRequest, from_claim, is_foreign
from lore_generator.request_table import RequestTable
from lore_generator.settings import GeneratorSettings
from lore_generator.token_accounting import TokenAccounting
from lore_generator.watchdog import Watchdog

log = structlog.get_logger()

T = TypeVar("T")

LOADING = "loading the model"
ENGINE_CHECK_S = 0.5
MEASURE_S = 1.0


class CannotStart(Exception):
    """The service cannot start; the message is the reason in one line."""


class EngineDied(Exception):
    """The decoding thread is dead or hangs; its requests have been handed back."""


class Service:
    def __init__(self, settings: GeneratorSettings, engine: Engine, store: Store) -> None:
        self._settings = settings
        self._engine = engine
        self._store = store
        self._not_ready = "starting"
        self._loaded = False
        self._failure = ""
        self._carrier: Carrier | None = None
        self._claims: Claims | None = None

    def ready(self) -> str | None:
        """Why it takes no requests, or None. May be called from another thread."""
        trouble = self._engine.trouble()
        if self._not_ready:
            waits = trouble and self._not_ready == LOADING
            return f"waiting for the engine: {trouble}" if waits else self._not_ready
        if not self._engine.alive():
            return "the engine has died"
        if trouble:
            return f"the engine is away: {trouble}"
        if self._claims is not None and not self._claims.store_answers:
            return "the store is away"
        return None

    def started(self) -> str | None:
        """Why the model is not loaded yet, or None. May be called from another thread.

        A store that is away does not count: a restart would load the model again, and find the
        store no sooner. Nor does a server of the engine that is away or unfit.
        """
        return None if self._loaded or self._settings.engine in REMOTE else LOADING

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set, then hand every request back.

        Raises CannotStart, and EngineDied once its requests are handed back.
        """
        self._loop = asyncio.get_running_loop()
        info = await self._start(stop)
        if info is None:
            return
        self._info, self._model, self._slots = info, info.model, info.slots
        async with asyncio.TaskGroup() as tasks:
            try:
                await self._serve(stop, tasks)
            finally:
                if self._carrier is not None:
                    self._carrier.close()  # answers that come now must start no tasks
        if self._failure:
            raise EngineDied(f"{self._failure}; its requests were handed back")
        await asyncio.to_thread(self._engine.stop)

    async def _start(self, stop: asyncio.Event) -> EngineInfo | None:
        """Load the model and find the store, at the same time. Returns None when stopped before
        that.
        """
        self._not_ready = LOADING
        log.info("loading model", engine=self._settings.engine)
        starting = asyncio.create_task(self._load_and_connect())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not starting.done():
            starting.cancel()
            return None
        try:
            info = starting.result()
        except ValueError as error:
            raise CannotStart(str(error)) from error
        log.info("model loaded", model=info.model, slots=info.slots, **info.details)
        return info

    async def _load_and_connect(self) -> EngineInfo:
        info, _ = await asyncio.gather(self._load(), self._connect())
        return info

    async def _load(self) -> EngineInfo:
        info = await _in_daemon_thread(self._engine.start, self._sink)
        self._loaded = True
        parts = self._settings.parts
        return info if parts is None else replace(info, parts=parts)

    async def _serve(self, stop: asyncio.Event, tasks: asyncio.TaskGroup) -> None:
        self._accounts = TokenAccounting(self._store)
        self._carrier = carrier = self._build(stop, tasks)
        keepers = [
            Keeper("word of the model", partial(tell, self._store, self._info), tasks),
            Keeper("metrics", self._measure, tasks),
            Keeper("event loop's lag", measure_lag, tasks),
        ]
        joining = tasks.create_task(self._join(carrier))
        await self._until_stopped(stop)
        joining.cancel()
        await self._drain(carrier)
        for keeper in keepers:
            keeper.cancel()

    async def _join(self, carrier: Carrier) -> None:
        carrier.start()
        await self._store.appear(self._settings.generator_id)
        await self._store.on_wake(carrier)
        self._not_ready = ""
        collector.spare()
        log.info("ready", generator_id=self._settings.generator_id)

    def _build(self, stop: asyncio.Event, tasks: asyncio.TaskGroup) -> Carrier:
        settings, store, now = self._settings, self._store, self._loop.time()
        self._leases = leases = Leases(
            settings.terms,
            max_kept=settings.max_kept,
            run_id=store.run_id,
            jitter=jitter,
            now=now,
            pace=settings.pace if self._info.pauses else None,
            slots=self._slots,
        )
        self._claims = claims = Claims(
            settings.terms,
            leases,
            slots=self._slots,
            max_requests=settings.max_requests,
            poll_s=settings.poll_s,
            grace_s=settings.return_grace_s,
            partitions=range(PARTITIONS),
            run_id=store.run_id,
            is_ready=store.is_ready,
            engine_answers=lambda: not self._engine.trouble(),
            jitter=jitter,
            now=now,
            model=self._info.identity,
            takes_other_models=settings.other_model == "tell",
        )
        self._table = table = RequestTable(self._engine, leases, slots=self._slots)
        journal = Journal(table, self._accounts)
        model = self._info.identity
        return Carrier(store, leases, claims, table, journal, self._adopt, tasks, stop, model)

    def _sink(self, pieces: Sequence[Piece]) -> None:
        """Pass pieces to the event loop, once for each decoding step. Runs in the engine's
        thread.
        """
        with contextlib.suppress(RuntimeError):  # the loop is closed because the service has ended
            self._loop.call_soon_threadsafe(self._on_pieces, pieces)

    def _on_pieces(self, pieces: Sequence[Piece]) -> None:
        carrier, leases = self._carrier, self._leases
        assert carrier is not None
        now, jobs, tokens, transmit = self._loop.time(), self._table.jobs, 0, carrier.transmit_step
        steps: defaultdict[float, int] = defaultdict(int)
        """How many requests made their tokens in so many seconds: those of a batch, in as many."""
        exemplar = None
        for piece in pieces:
            owned = jobs.get(piece.request_id)
            if owned is None:
                continue  # it was dropped while the piece was on its way
            count = len(piece.token_ids)
            tokens += count
            if count and owned.stepped_s is not None:
                step_s = now - owned.stepped_s
                steps[step_s] += 1
                exemplar = owned.span.exemplar or exemplar
                owned.steps_s += step_s
                owned.step_tokens += count
            text_only = not (owned.tells_prompt or piece.finish_reason or piece.given_up)
            if text_only and leases.pass_on(
                owned.owner, piece.text, piece.token_ids, now, piece.scored
            ):
                owned.stepped_s = now
            elif self._on_piece(owned, piece, now):
                transmit = carrier.transmit
        metrics.TOKENS_GENERATED.inc(tokens)
        for step_s, times in steps.items():
            metrics.INTER_TOKEN.observe(step_s, times, exemplar)
        transmit()

    def _on_piece(self, owned: OwnedRequest, piece: Piece, now: float) -> bool:
        """Return whether its slot may be free now."""
        assert self._carrier is not None
        if piece.given_up is not None:
            self._give_up(owned, piece.given_up)
            return True
        if piece.prompt_tokens:
            owned.prompt_tokens = piece.prompt_tokens
        if owned.tells_prompt and owned.prompt_tokens and piece.finish_reason is None:
            self._carrier.tell_prompt(owned)
        if piece.prompt_ids:
            owned.producer.on_prompt(piece.prompt_ids)
        if not (piece.token_ids or piece.text or piece.finish_reason):
            return False  # its prompt is about to be read
        is_last = owned.on_piece(piece, now)
        if not is_last:
            self._leases.note(owned.owner, now)
        else:
            self._table.refresh(owned)
            if owned.owner.finished and owned.steps_s:
                speed = owned.step_tokens / owned.steps_s
                metrics.GENERATION_SPEED.observe(speed, exemplar=owned.span.exemplar)
        self._leases.pump(owned.owner, now)
        return is_last

    def _give_up(self, owned: OwnedRequest, given_up: GivenUp) -> None:
        """The engine has given the request up: a generator with a healthy engine continues it
        (P15).
        """
        owned.span.event("given_up", reason=given_up.reason, failed=given_up.failed)
        log.info("request handed back", **logs.of(owned.view), reason=given_up.reason)
        self._leases.hand_back(owned.owner, self._loop.time(), failed=given_up.failed)

    def _adopt(self, candidate: Candidate) -> None:
        """Work on a claimed request, from its log on."""
        assert self._claims is not None
        claimed, settings, now = candidate.claimed, self._settings, self._loop.time()
        assert claimed is not None
        span = traces.begin(claimed, self._model, now - candidate.asked_s)
        try:
            owned = from_claim(
                claimed,
                candidate.history,
                settings.window,
                settings.coalesce,
                settings.terms,
                candidate.asked_s,
            )
        except ValueError:
            span.fail("not_taken_up")
            span.end()
            self._claims.refuse(candidate, UNREADABLE)
            return
        if is_foreign(owned.job.request, self._info.parts):
            span.fail("not_taken_up")
            span.end()
            self._claims.refuse(candidate, OTHER_FORMAT)
            return
        traces.work_on(owned, span)
        self._leases.add(owned.owner, now)
        self._table.add(owned)
        self._claims.on_taken_up(candidate, now)

    async def _connect(self) -> None:
        """Wait for a store that is not there yet, and log that."""
        wait_s = self._settings.store_wait_s
        try:
            await arrival.connect(self._store, wait_s, self._wait_for)
        except StoreUnavailable as error:
            raise CannotStart(f"{error}; waited {wait_s:g} s for it") from error
        self._not_ready = LOADING

    def _wait_for(self, what: str) -> None:
        self._not_ready = what

    async def _measure(self) -> None:
        while True:
            self._table.measure()
            if self._claims is not None:
                metrics.GENERATORS_WATCHED.set(self._claims.watched)
            await self._accounts.settle()
            await asyncio.sleep(MEASURE_S)

    async def _until_stopped(self, stop: asyncio.Event) -> None:
        watchdog = Watchdog(self._settings.step_timeout_s)
        while not (failure := self._check_engine(watchdog)):
            if self._carrier is not None:
                self._carrier.transmit()  # an engine that has recovered claims again
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ENGINE_CHECK_S):
                    await stop.wait()
                    return
        self._failure = self._not_ready = failure
        log.error("handing back all requests", reason=failure)

    def _check_engine(self, watchdog: Watchdog) -> str:
        """What is wrong with the engine, or ''."""
        if not self._engine.alive():
            return "the engine has died"
        steps, now = self._engine.stats().steps, self._loop.time()
        if watchdog.hangs(busy=self._table.busy, steps=steps, now=now):
            return f"a step of the engine takes longer than {self._settings.step_timeout_s:g} s"
        return ""

    async def _drain(self, carrier: Carrier) -> None:
        """Stop claiming, append what is ready, release every lease (P15.9)."""
        claims, leases = self._claims, self._leases
        assert claims is not None
        self._not_ready = self._failure or "draining"
        try:
            async with asyncio.timeout(self._settings.drain_s):
                claims.close()
                await carrier.until(lambda: claims.is_idle)
                log.info("draining", requests=len(leases.live))
                for owned in map(self._table.of, leases.live.values()):
                    if owned is not None:
                        self._engine.cancel(owned.job.request_id)
                leases.drain(self._loop.time(), failed=bool(self._failure))
                carrier.transmit()
                await carrier.until(lambda: not leases.leaving)
                await self._accounts.close()
        except TimeoutError:
            log.warning("requests not handed back, their leases lapse")


def _in_daemon_thread(call: Callable[..., T], *args: Any) -> asyncio.Future[T]:
    """Run a call in a thread that does not delay the end of the process, unlike a pool's."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(set_it: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            set_it(value)

    def run() -> None:
        try:
            outcome = (future.set_result, call(*args))
        except BaseException as error:  # noqa: BLE001 - the future passes it to its caller
            outcome = (future.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, name="engine-start", daemon=True).start()
    return future

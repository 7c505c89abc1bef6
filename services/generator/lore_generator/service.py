"""The generator: one engine in its own thread, and asyncio between it and the store.

engine --pieces--> Producer --appends--> store        (appender.py)
engine <--credit-- Window   <--acks----- store        (lease.py, roster.py)
                   claims   <--queue---- store        (intake.py)
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import structlog

from lore import logs, metrics
from lore.keepers import Keeper
from lore.lag import measure_lag
from lore.protocol.lifecycle import Status
from lore.store.base import Claimed, Store, StoreUnavailable
from lore.store.keys import partition_of
from lore_generator import traces
from lore_generator.appender import Appender
from lore_generator.engine import Engine, EngineInfo, Piece
from lore_generator.intake import Intake
from lore_generator.lease import Leases
from lore_generator.owned import Owned, from_claim
from lore_generator.roster import Roster
from lore_generator.settings import GeneratorSettings
from lore_generator.watchdog import Watchdog

log = structlog.get_logger()

T = TypeVar("T")

MAX_TRIES = 3
"""So many generators may come to nothing over a request before it fails (P15)."""
STORE_RETRY_S = 0.5
LOADING = "loading the model"
ENGINE_CHECK_S = 0.5
MEASURE_S = 1.0


class CannotStart(Exception):
    """The reason in one line, for whoever started the service."""


class EngineDied(Exception):
    """The decoding thread is gone or hangs; its requests have been handed back."""


class Service:
    def __init__(self, settings: GeneratorSettings, engine: Engine, store: Store) -> None:
        self._settings = settings
        self._engine = engine
        self._store = store
        self._not_ready = "starting"
        self._failure = ""
        self._intake: Intake | None = None

    def ready(self) -> str | None:
        """Why it takes no requests, or None. May be called from another thread."""
        if self._not_ready:
            return self._not_ready
        if not self._engine.alive():
            return "the engine has died"
        if self._intake is not None and not self._intake.store_answers:
            return "the store is away"
        return None

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set, then hand every request back.

        Raises CannotStart, and EngineDied once its requests are handed back.
        """
        self._loop = asyncio.get_running_loop()
        info = await self._start(stop)
        if info is None:
            return
        self._model, settings = info.model, self._settings
        self._roster = Roster(
            self._engine,
            slots=info.slots,
            max_requests=settings.max_requests,
            max_kept=settings.max_kept,
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                try:
                    await self._serve(stop, tasks)
                finally:
                    self._let_go()  # an answer that comes while the tasks end begins no other
        finally:
            self._let_go()  # of what was claimed meanwhile
        if self._failure:
            raise EngineDied(f"{self._failure}; its requests were handed back")
        await asyncio.to_thread(self._engine.stop)

    async def _start(self, stop: asyncio.Event) -> EngineInfo | None:
        """Load the model and find the store, side by side. None when stopped before that."""
        self._not_ready = LOADING
        log.info("loading the model", engine=self._settings.engine)
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
        info, _ = await asyncio.gather(
            _in_daemon_thread(self._engine.start, self._sink), self._connect()
        )
        return info

    async def _serve(self, stop: asyncio.Event, tasks: asyncio.TaskGroup) -> None:
        store, roster, settings = self._store, self._roster, self._settings
        self._appender = Appender(store, roster, settings, tasks)
        self._leases = Leases(store, roster, self._appender, settings, tasks)
        self._intake = Intake(store, roster, self._adopt, settings, tasks, stop)
        roster.on_room = self._intake.pump
        keepers = [
            Keeper("queue", self._intake.run, tasks),
            Keeper("leases", self._leases.run, tasks),
            Keeper("metrics", self._measure, tasks),
            Keeper("event loop's lag", measure_lag, tasks),
        ]
        joining = tasks.create_task(self._join())
        await self._until_stopped(stop)
        joining.cancel()
        await self._drain()
        for keeper in keepers:
            keeper.cancel()

    async def _join(self) -> None:
        await self._store.on_wake(self)
        self._not_ready = ""
        log.info("ready", generator_id=self._settings.generator_id)

    def on_wake(self, partition: int | None) -> None:
        assert self._intake is not None
        self._intake.on_wake(partition)
        if partition is None:
            self._appender.retry()
            self._leases.report()

    def _sink(self, pieces: Sequence[Piece]) -> None:
        """In the engine's thread: one hand-over for each decoding step."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and so is the service
            self._loop.call_soon_threadsafe(self._on_pieces, pieces)

    def _on_pieces(self, pieces: Sequence[Piece]) -> None:
        now = self._loop.time()
        tokens = 0
        for piece in pieces:
            owned = self._roster.of_job(piece.request_id)
            if owned is None:
                continue  # dropped while the piece was on its way
            tokens += len(piece.token_ids)
            if owned.stepped_s is not None:
                step_s = now - owned.stepped_s
                metrics.INTER_TOKEN.observe(step_s, exemplar=owned.span.exemplar)
                owned.steps_s += step_s
                owned.step_tokens += len(piece.token_ids)
            if owned.on_piece(piece, now):
                self._roster.refresh(owned)
                if owned.finished and owned.steps_s:
                    speed = owned.step_tokens / owned.steps_s
                    metrics.GENERATION_SPEED.observe(speed, exemplar=owned.span.exemplar)
            self._appender.transmit(owned, now)
        metrics.TOKENS_GENERATED.inc(tokens)

    async def _adopt(self, claimed: Claimed, asked_s: float) -> None:
        """Work on a claimed request, from its log on. Raises StoreUnavailable."""
        with contextlib.ExitStack() as unless_owned:
            span = traces.begin(claimed, self._model, self._loop.time() - asked_s)
            unless_owned.enter_context(span)
            owned = await self._take_up(claimed, asked_s)
            if owned is None:
                span.fail("not_taken_up")
                return
            unless_owned.pop_all()
        traces.work_on(owned, span)
        self._roster.add(owned)
        self._appender.transmit(owned, self._loop.time())

    async def _take_up(self, claimed: Claimed, asked_s: float) -> Owned | None:
        view = claimed.view
        if view.tries > MAX_TRIES:
            await self._refuse(claimed, f"the model failed on this request {MAX_TRIES} times")
            return None
        history = await self._store.log(view.request_id) if view.next_seq > 1 else []
        settings = self._settings
        if len(history) != view.next_seq - 1:
            await self._leave_broken(claimed)
            return None
        try:
            owned = from_claim(claimed, history, settings.window, settings.coalesce, asked_s)
        except ValueError:
            unreadable = "the request was kept in a form that this version cannot read"
            await self._refuse(claimed, unreadable)
            return None
        await self._leases.guard(owned)
        return owned

    async def _leave_broken(self, claimed: Claimed) -> None:
        """The log is not as long as the claim said."""
        if self._store.run_id(partition_of(claimed.view.request_id)) != claimed.run_id:
            # Forgotten since the claim: to go on from here would put other chunks into a log
            # that readers may have more of (P4). Who claims it anew forks it.
            view = claimed.view
            await self._store.release(view.request_id, self._settings.generator_id, view.epoch)
        else:
            # Whoever claimed it would find the same, and hand it back as well.
            await self._refuse(claimed, "a part of the answer was lost with a store's data")

    async def _refuse(self, claimed: Claimed, error: str) -> None:
        view = claimed.view
        log.error("request refused", **logs.of(view), error=error)
        metrics.REQUESTS_ENDED[Status.FAILED.value].inc()
        await self._store.finish(
            view.request_id,
            self._settings.generator_id,
            view.epoch,
            view.next_seq,
            log_id=view.log_id,
            status=Status.FAILED,
            finish_reason="error",
            error=error,
            retention_ms=self._settings.retention_ms,
        )

    async def _connect(self) -> None:
        """Wait for a store that is not there yet, or of no use yet, saying so."""
        give_up_s = self._loop.time() + self._settings.store_wait_s
        said = False
        while True:
            try:
                await self._store.connect()
            except StoreUnavailable as error:
                self._not_ready = f"waiting for the store: {error}"
                if self._loop.time() >= give_up_s:
                    raise CannotStart(
                        f"{error}; waited {self._settings.store_wait_s:g} s for it"
                    ) from error
                if not said:
                    log.warning("waiting for the store", reason=str(error))
                    said = True
                await asyncio.sleep(STORE_RETRY_S)
            else:
                self._not_ready = LOADING
                return

    async def _measure(self) -> None:
        while True:
            self._roster.measure()
            await self._appender.accounts.settle()
            await asyncio.sleep(MEASURE_S)

    async def _until_stopped(self, stop: asyncio.Event) -> None:
        watchdog = Watchdog(self._settings.step_timeout_s)
        while not (failure := self._check_engine(watchdog)):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ENGINE_CHECK_S):
                    await stop.wait()
                    return
        self._failure = self._not_ready = failure
        log.error("handing all requests to other generators", reason=failure)

    def _check_engine(self, watchdog: Watchdog) -> str:
        """What is wrong with it, or ''."""
        if not self._engine.alive():
            return "the engine has died"
        steps, now = self._engine.stats().steps, self._loop.time()
        if watchdog.hangs(busy=self._roster.busy, steps=steps, now=now):
            return f"a step of the engine takes longer than {self._settings.step_timeout_s:g} s"
        return ""

    def _let_go(self) -> None:
        """From here on no event finds anything to do, however the service ended."""
        if self._intake is not None:
            self._intake.closed = True
        for owned in list(self._roster.live.values()):
            self._roster.drop(owned)

    async def _drain(self) -> None:
        """Claim nothing more, append what is ready, release every lease (P15)."""
        assert self._intake is not None
        self._not_ready = self._failure or "draining"
        live = self._roster.live
        try:
            async with asyncio.timeout(self._settings.drain_s):
                await self._intake.close()
                log.info("draining", requests=len(live))
                handed = list(live.values())
                for owned in handed:
                    self._engine.cancel(owned.job.request_id)
                failed = bool(self._failure)
                back = [self._appender.hand_back(owned, failed=failed) for owned in handed]
                await asyncio.gather(*back)
                await self._appender.accounts.close()
        except TimeoutError:
            log.warning("not everything was handed back; its leases will lapse")


def _in_daemon_thread(call: Callable[..., T], *args: Any) -> asyncio.Future[T]:
    """Unlike a pool's thread, this one does not hold up the end of the process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(set_it: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            set_it(value)

    def run() -> None:
        try:
            outcome = (future.set_result, call(*args))
        except BaseException as error:  # noqa: BLE001 - the future carries it to whoever waits
            outcome = (future.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, name="engine-start", daemon=True).start()
    return future

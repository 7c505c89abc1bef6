"""A generator in this process, a line to the store that tests can cut, and a reader."""

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, cast

from lore.protocol.commands import Ack, name_of
from lore.protocol.lifecycle import ENDED, Status
from lore.request import StreamRequest
from lore.store.base import (
    Message,
    NewRequest,
    News,
    OwnerListener,
    Position,
    StateMessage,
    Step,
    Store,
    StoreUnavailable,
    Tell,
    View,
    WakeListener,
)
from lore.store.memory import append_one_by_one
from lore.store.types import Open
from lore_generator.engine import Engine, EngineInfo, EngineStats, Job, Piece, Sink
from lore_generator.engines.options import SyntheticOptions
from lore_generator.engines.synthetic import SyntheticEngine
from lore_generator.engines.synthetic_text import synthetic_answer
from lore_generator.service import Service
from lore_generator.settings import GeneratorSettings

WAIT_S = 20.0
FAST = SyntheticOptions(rate_tokens_per_s=math.inf)


def ask(question: str = "what is a loop?", **more: Any) -> StreamRequest:
    return StreamRequest.model_validate({"question": question, "seed": 7, **more})


def text_of(request: StreamRequest, options: SyntheticOptions = FAST) -> str:
    return "".join(synthetic_answer(request, options.length_tokens))


async def open_request(store: Store, request_id: str, request: StreamRequest) -> None:
    new = NewRequest(
        request_id=request_id,
        subject="",
        body=request.model_dump_json(),
        fingerprint="",
        ack=request.ack.value,
        window=request.window or 32,
    )
    opened = await store.do(Open(new, queue_limit=10_000))
    assert opened.created


class Line:
    """One service's connection to a store that it shares with others."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.calls: Counter[str] = Counter()
        self.deaf = False
        """Owner's news is lost."""
        self._is_cut = False
        self._called = asyncio.Event()
        self._owner_channels: dict[str, OwnerListener] = {}
        self._wakes: list[WakeListener] = []

    def cut(self) -> None:
        self._is_cut = True

    def mend(self, *, silently: bool = False) -> None:
        """As a store's client does, tell that news was missed, unless ``silently``."""
        self._is_cut = False
        for listener in () if silently else self._wakes:
            listener.on_wake(None)

    async def until_called(self, name: str, more: int) -> None:
        """Wait for that many more calls."""
        wanted = self.calls[name] + more
        async with asyncio.timeout(WAIT_S):
            while self.calls[name] < wanted:
                self._called.clear()
                await self._called.wait()

    def is_ready(self, partition: int) -> bool:
        return not self._is_cut and self.store.is_ready(partition)

    def run_id(self, partition: int) -> str:
        return self.store.run_id(partition)

    async def do(self, command: Any) -> Any:
        return await self._through(name_of(type(command)), self.store.do, command)

    def append(self, step: Step, tell: Tell) -> None:
        append_one_by_one(self.do, step, tell, self.run_id)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        return partial(self._through, name, getattr(self.store, name))

    async def _through(
        self, name: str, call: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any
    ) -> Any:
        self.calls[name] += 1
        self._called.set()
        if self._is_cut:
            raise StoreUnavailable("the line is cut")
        return await call(*args, **kwargs)

    async def subscribe(self, request_id: str, listener: OwnerListener) -> None:
        if self._is_cut:
            raise StoreUnavailable("the line is cut")
        line = self

        class Ear:
            def on_news(self, news: News) -> None:
                if not line.deaf and not line._is_cut:
                    listener.on_news(news)

        self._owner_channels[request_id] = ear = Ear()
        await self.store.subscribe(request_id, ear)

    async def unsubscribe(self, request_id: str) -> None:
        mine = self._owner_channels.pop(request_id, None)
        owners = getattr(self.store, "_owners", None)
        # The memory store has one owner's listener for each request, whoever asks.
        if owners is None or owners.get(request_id) is mine:
            await self.store.unsubscribe(request_id)

    async def on_wake(self, listener: WakeListener) -> None:
        line = self

        class Ear:
            def on_wake(self, partition: int | None) -> None:
                if not line._is_cut:
                    listener.on_wake(partition)

        self._wakes.append(listener)
        await self.store.on_wake(Ear())


class CountingEngine(SyntheticEngine):
    """Tells how many tokens it has handed over, and that it was told to drop a request."""

    def __init__(self, options: SyntheticOptions = FAST) -> None:
        super().__init__(options)
        self._loop = asyncio.get_running_loop()
        self._moved = asyncio.Event()
        self.tokens: Counter[str] = Counter()
        self.cancelled = asyncio.Event()

    def cancel(self, request_id: str) -> None:
        super().cancel(request_id)
        self.cancelled.set()

    def start(self, sink: Sink) -> EngineInfo:
        def counted(pieces: Sequence[Piece]) -> None:
            sink(pieces)
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._count, pieces)

        return super().start(counted)

    def _count(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            self.tokens[piece.request_id.partition(".")[0]] += len(piece.token_ids)
        self._moved.set()

    async def until_tokens(self, request_id: str, wanted: int) -> None:
        """Wait until the service has been given that many tokens of a request."""
        async with asyncio.timeout(WAIT_S):
            while self.tokens[request_id] < wanted:
                self._moved.clear()
                await self._moved.wait()


class PuppetEngine:
    """Says what a test tells it to, whatever it was asked."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.told: list[tuple[str, int | None]] = []
        self.parked: list[tuple[str, int]] = []
        """Whom it was told to hold, and to go on with up to a limit."""
        self._submitted = asyncio.Event()

    def start(self, sink: Sink) -> EngineInfo:
        self.say = sink
        return EngineInfo("puppet", slots=8, context_tokens=1000)

    def submit(self, job: Job, limit: int | None) -> None:
        self.jobs.append(job)
        self._submitted.set()

    async def until_jobs(self, wanted: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while len(self.jobs) < wanted:
                self._submitted.clear()
                await self._submitted.wait()

    def grant(self, request_id: str, limit: int | None) -> None:
        self.told.append((request_id.partition(".")[0], limit))

    def hold(self, request_id: str) -> None:
        self.told.append((request_id.partition(".")[0], 0))

    def park(self, request_id: str, ahead_tokens: int) -> None:
        self.parked.append((request_id.partition(".")[0], ahead_tokens))

    def cancel(self, request_id: str) -> None: ...

    def stats(self) -> EngineStats:
        return EngineStats()

    def alive(self) -> bool:
        return True

    def trouble(self) -> str:
        return ""

    def stop(self) -> None: ...


class Generator:
    """A service that runs for as long as the context does."""

    def __init__(
        self,
        store: Store,
        name: str = "g1",
        engine: Engine | SyntheticOptions = FAST,
        **settings: Any,
    ) -> None:
        quick: dict[str, Any] = {
            "lease_s": 5.0,
            "poll_s": 0.2,
            "coalesce_delay_s": 0.0,
            "return_grace_s": 0.05,
        }
        self.settings = GeneratorSettings(
            generator_id=name, engine="synthetic", **(quick | settings)
        )
        self.line = Line(store)
        self.engine = SyntheticEngine(engine) if isinstance(engine, SyntheticOptions) else engine
        self.service = Service(self.settings, self.engine, cast("Store", self.line))
        self.stop = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.service.run(self.stop))
        return self

    async def drain(self) -> None:
        assert self.task is not None
        self.stop.set()
        async with asyncio.timeout(WAIT_S):
            await self.task

    async def crash(self) -> None:
        """As kill -9: nothing is said to anyone any more."""
        assert self.task is not None
        self.line.cut()
        self.task.cancel()
        await asyncio.wait([self.task])
        await asyncio.to_thread(self.engine.stop)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self.task is not None
        if not self.task.done():
            await self.drain()


class Reader:
    """Follows one request and waits for what tests want to see; acks when told to."""

    def __init__(self, store: Store, request_id: str) -> None:
        self.store = store
        self.request_id = request_id
        self.reasons: list[str] = []
        """Of the changes of its state."""
        self._news = asyncio.Event()

    async def follow(self) -> Self:
        await self.store.follow(self.request_id, self)
        return self

    def on_message(self, message: Message) -> None:
        if isinstance(message, StateMessage):
            self.reasons.append(message.reason)
        self._news.set()

    def on_reset(self) -> None:
        self._news.set()

    async def view(self) -> View:
        view = await self.store.view(self.request_id)
        assert view is not None
        return view

    async def until(self, wanted: Callable[[View], bool], *, wait_s: float = WAIT_S) -> View:
        async with asyncio.timeout(wait_s):
            while True:
                self._news.clear()
                view = await self.view()
                if wanted(view):
                    return view
                await self._news.wait()

    async def until_there(self) -> None:
        """A store that forgot the request knows it again."""
        async with asyncio.timeout(WAIT_S):
            while True:
                self._news.clear()
                if await self.store.view(self.request_id) is not None:
                    return
                await self._news.wait()

    async def until_status(self, status: Status, *, wait_s: float = WAIT_S) -> View:
        return await self.until(lambda view: view.status is status, wait_s=wait_s)

    async def ack(self) -> Position:
        """Acknowledge everything in the log."""
        view = await self.view()
        return await self.store.do(Ack(self.request_id, view.next_seq - 1))

    async def read_to_end(self) -> View:
        """Acknowledge everything as it comes."""
        while True:
            view = await self.until(lambda v: v.status in ENDED or v.next_seq - 1 > v.acked_seq)
            if view.status in ENDED:
                return view
            await self.ack()

    async def text(self) -> str:
        return "".join(chunk.text for chunk in await self.store.log(self.request_id))


async def reader_of(store: Store, request_id: str, request: StreamRequest) -> Reader:
    """Open the request and follow it."""
    await open_request(store, request_id, request)
    return await Reader(store, request_id).follow()

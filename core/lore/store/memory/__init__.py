"""The store in memory: the twin behind the async interface, for tests and a single process."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from lore.protocol.chunk import Chunk
from lore.protocol.commands import Append, Command
from lore.store.base import (
    Answers,
    ChunkMessage,
    Listener,
    News,
    OwnerListener,
    Position,
    Step,
    Tell,
    View,
    Vitals,
    WakeListener,
)
from lore.store.keys import partition_of
from lore.store.memory.directory import MemoryDirectory
from lore.store.memory.state import Publication, StoreState

__all__ = ["MemoryStore", "StoreState"]

T = TypeVar("T")


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class MemoryStore(MemoryDirectory):
    """A ``Store`` in memory. Publications reach the listeners in the loop's next turn, in order."""

    def __init__(
        self, state: StoreState | None = None, clock_ms: Callable[[], int] = wall_clock_ms
    ) -> None:
        super().__init__()
        self.state = state or StoreState()
        self._clock_ms = clock_ms
        self._listeners: defaultdict[str, list[Listener]] = defaultdict(list)
        self._owners: dict[str, OwnerListener] = {}
        self._wakes: list[WakeListener] = []
        self._names: set[str] = set()

    def run_id(self, partition: int) -> str:  # noqa: ARG002
        return self.state.run_id

    def is_ready(self, partition: int) -> bool:
        del partition
        return True

    async def connect(self) -> None:
        pass

    async def close(self) -> None:
        self._listeners.clear()
        self._owners.clear()
        self._wakes.clear()
        self.state.present -= self._names

    async def do(self, command: Command[T]) -> T:
        answer = self.state.do(command, now_ms=self._clock_ms())
        self._deliver()
        return answer

    def append(self, step: Step, tell: Tell) -> None:
        append_one_by_one(self.do, step, tell, self.run_id)

    # readers' side

    async def view(self, request_id: str) -> View | None:
        return self.state.view(request_id, now_ms=self._clock_ms())

    async def body(self, request_id: str) -> str | None:
        return self.state.body(request_id, now_ms=self._clock_ms())

    async def read(
        self,
        request_id: str,
        *,
        after: int,
        limit: int = 1000,
        known: View | None = None,  # noqa: ARG002 - it has no replicas
    ) -> list[ChunkMessage]:
        return self.state.read(request_id, after=after, limit=limit, now_ms=self._clock_ms())

    async def follow(self, request_id: str, listener: Listener) -> None:
        self._listeners[request_id].append(listener)

    def unfollow(self, request_id: str, listener: Listener) -> None:
        listeners = self._listeners[request_id]
        if listener in listeners:
            listeners.remove(listener)
        if not listeners:
            del self._listeners[request_id]

    # generators' side

    async def appear(self, owner: str) -> None:
        self._names.add(owner)
        self.state.present.add(owner)

    async def log(self, request_id: str) -> list[Chunk]:
        return self.state.log(request_id, now_ms=self._clock_ms())

    async def subscribe(self, request_id: str, listener: OwnerListener) -> None:
        self._owners[request_id] = listener

    async def unsubscribe(self, request_id: str) -> None:
        self._owners.pop(request_id, None)

    async def on_wake(self, listener: WakeListener) -> None:
        self._wakes.append(listener)

    # operator's side

    async def live(self, *, limit: int = 1000) -> list[View]:
        return self.state.live(limit=limit, now_ms=self._clock_ms())

    async def queue_depth(self) -> int:
        return self.state.queue_depth(now_ms=self._clock_ms())

    async def vitals(self) -> Vitals:
        return Vitals()

    # publications

    def _deliver(self) -> None:
        loop = asyncio.get_running_loop()
        for publication in self.state.take_outbox():
            loop.call_soon(self._dispatch, publication)

    def _dispatch(self, publication: Publication) -> None:
        request_id, message = publication.request_id, publication.message
        if isinstance(message, int):
            for wake in self._wakes:
                wake.on_wake(message)
        elif isinstance(message, News):
            if owner := self._owners.get(request_id):
                owner.on_news(message)
        else:
            for listener in list(self._listeners.get(request_id, ())):
                listener.on_message(message)


def append_one_by_one(
    do: Callable[[Append], Awaitable[Position]],
    step: Step,
    tell: Tell,
    run_id: Callable[[int], str],
) -> None:
    for one in step:
        life = partial(run_id, partition_of(one[1].request_id))
        answer = asyncio.ensure_future(do(one[1]))
        answer.add_done_callback(partial(_tell, [one], tell, life))


def _tell(
    step: Step, tell: Tell, life: Callable[[], str], answer: asyncio.Future[Position]
) -> None:
    if answer.cancelled():
        return
    error = answer.exception()
    assert error is None or isinstance(error, Exception)
    tell(step, Answers(life(), [answer.result()]) if error is None else error)

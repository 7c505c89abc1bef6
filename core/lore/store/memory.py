"""The store in memory: the twin behind the async interface, for tests and one process alone."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from lore.protocol.chunk import Chunk
from lore.protocol.commands import Finish
from lore.store.base import (
    Admission,
    ChunkMessage,
    Claimed,
    Limits,
    Listener,
    NewRequest,
    News,
    Opened,
    OwnerListener,
    Position,
    View,
    Vitals,
    WakeListener,
)
from lore.store.twin import Publication, StoreState
from lore.store.twin.directory import Directory

__all__ = ["MemoryStore", "StoreState"]


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class MemoryStore(Directory):
    """A ``Store``. Publications reach the listeners in the loop's next turn, in order."""

    def __init__(
        self, state: StoreState | None = None, clock_ms: Callable[[], int] = wall_clock_ms
    ) -> None:
        super().__init__()
        self.state = state or StoreState()
        self._clock_ms = clock_ms
        self._listeners: defaultdict[str, list[Listener]] = defaultdict(list)
        self._owners: dict[str, OwnerListener] = {}
        self._wakes: list[WakeListener] = []

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

    # readers' side

    async def admit(
        self, client: str, request_id: str, limits: Limits, *, tokens: int = 0, quantum_ms: int = 0
    ) -> Admission:
        return self.state.admit(
            client,
            request_id,
            limits,
            tokens=tokens,
            quantum_ms=quantum_ms,
            now_ms=self._clock_ms(),
        )

    async def settle(self, client: str, used_tokens: Mapping[str, int | None]) -> None:
        self.state.settle(client, used_tokens, now_ms=self._clock_ms())

    async def leave(self, client: str, request_id: str) -> None:
        self.state.leave(client, request_id, now_ms=self._clock_ms())

    async def open(self, new: NewRequest, *, queue_limit: int) -> Opened:
        opened = self.state.open(new, queue_limit=queue_limit, now_ms=self._clock_ms())
        self._deliver()
        return opened

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

    async def ack(self, request_id: str, seq: int, *, subject: str | None = None) -> Position:
        return self._told(self.state.ack(request_id, seq, subject=subject, now_ms=self._clock_ms()))

    async def cancel(
        self, request_id: str, *, retention_ms: int, subject: str | None = None
    ) -> Position:
        return self._told(
            self.state.cancel(
                request_id, retention_ms=retention_ms, subject=subject, now_ms=self._clock_ms()
            )
        )

    async def revive(self, request_id: str, *, subject: str | None = None) -> Position:
        return self._told(self.state.revive(request_id, subject=subject, now_ms=self._clock_ms()))

    async def forget(self, request_id: str, *, subject: str | None = None) -> Position:
        return self._told(self.state.forget(request_id, subject=subject, now_ms=self._clock_ms()))

    async def follow(self, request_id: str, listener: Listener) -> None:
        self._listeners[request_id].append(listener)

    async def unfollow(self, request_id: str, listener: Listener) -> None:
        listeners = self._listeners[request_id]
        if listener in listeners:
            listeners.remove(listener)
        if not listeners:
            del self._listeners[request_id]

    # generators' side

    async def claim(
        self, partition: int, owner: str, *, lease_ms: int, untried: bool = False
    ) -> Claimed | None:
        claimed = self.state.claim(
            partition, owner, lease_ms=lease_ms, untried=untried, now_ms=self._clock_ms()
        )
        self._deliver()
        return claimed

    async def log(self, request_id: str) -> list[Chunk]:
        return self.state.log(request_id, now_ms=self._clock_ms())

    async def append(
        self,
        request_id: str,
        owner: str,
        epoch: int,
        chunks: Sequence[Chunk],
        *,
        log_id: str,
        window: int,
        reopen_tokens: int,
        lease_ms: int,
    ) -> Position:
        return self._told(
            self.state.append(
                request_id,
                owner,
                epoch,
                chunks,
                log_id=log_id,
                window=window,
                reopen_tokens=reopen_tokens,
                lease_ms=lease_ms,
                now_ms=self._clock_ms(),
            )
        )

    async def prompt(self, request_id: str, owner: str, epoch: int, prompt_tokens: int) -> Position:
        return self.state.prompt(request_id, owner, epoch, prompt_tokens, now_ms=self._clock_ms())

    async def finish(self, command: Finish) -> Position:
        return self._told(self.state.finish(command, now_ms=self._clock_ms()))

    async def renew(
        self, partition: int, owner: str, leases: Sequence[tuple[str, int, str]], *, lease_ms: int
    ) -> list[Position]:
        positions = self.state.renew(
            partition, owner, leases, lease_ms=lease_ms, now_ms=self._clock_ms()
        )
        self._deliver()
        return positions

    async def reinstate(
        self, view: View, body: str, chunks: Sequence[Chunk], *, lease_ms: int
    ) -> Position:
        return self._told(
            self.state.reinstate(view, body, chunks, lease_ms=lease_ms, now_ms=self._clock_ms())
        )

    async def release(
        self,
        request_id: str,
        owner: str,
        epoch: int,
        *,
        failed: bool = False,
        silent: bool = False,
    ) -> Position:
        return self._told(
            self.state.release(
                request_id,
                owner,
                epoch,
                failed=failed,
                silent=silent,
                now_ms=self._clock_ms(),
            )
        )

    async def waiting(self, *, lease_ms: int = 0) -> list[tuple[int, int]]:
        return self.state.waiting(lease_ms=lease_ms, now_ms=self._clock_ms())

    async def guard(self, request_id: str, listener: OwnerListener) -> None:
        self._owners[request_id] = listener

    async def unguard(self, request_id: str) -> None:
        self._owners.pop(request_id, None)

    async def on_wake(self, listener: WakeListener) -> None:
        self._wakes.append(listener)

    # the fleet's side

    async def reap(self, request_id: str, *, idle_ms: int, retention_ms: int) -> Position:
        return self._told(
            self.state.reap(
                request_id, idle_ms=idle_ms, retention_ms=retention_ms, now_ms=self._clock_ms()
            )
        )

    async def live(self, *, limit: int = 1000) -> list[View]:
        return self.state.live(limit=limit, now_ms=self._clock_ms())

    async def queue_depth(self) -> int:
        return self.state.queue_depth(now_ms=self._clock_ms())

    async def vitals(self) -> Vitals:
        return Vitals()

    # publications

    def _told(self, position: Position) -> Position:
        self._deliver()
        return position

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

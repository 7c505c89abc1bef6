"""The store: what Lore keeps, and the only code that talks to Valkey."""

from lore.store.base import Store, StoreUnavailable
from lore.store.memory import MemoryStore
from lore.store.valkey import ValkeyStore

__all__ = ["MemoryStore", "Store", "StoreUnavailable", "ValkeyStore", "create_store"]


def create_store(url: str) -> Store:
    """The store at ``url``: ``memory://``, or one that ``location.py`` tells of.

    Raises ValueError for any other URL.
    """
    return MemoryStore() if url == "memory://" else ValkeyStore(url)

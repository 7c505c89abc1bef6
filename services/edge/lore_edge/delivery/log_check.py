"""Whether the log of an ended answer has lost a chunk (``protocol/holes.py``), for calls without a
feed.
"""

from lore.protocol.holes import Doubt
from lore.store.base import Store
from lore.store.keys import partition_of


async def is_broken(store: Store, request_id: str, after: int) -> bool:
    """Whether the chunk after ``after`` is lost for good. Raises StoreUnavailable."""
    partition, doubt = partition_of(request_id), Doubt(after)
    run_id, view = store.run_id(partition), await store.view(request_id)
    if view is None or doubt.is_lost(view, run_id) is False:
        return False
    page = await store.read(request_id, after=after, limit=1)
    doubt, now = doubt.read(page, view, run_id), await store.view(request_id)
    return bool(doubt and now and doubt.is_lost(now, store.run_id(partition)))

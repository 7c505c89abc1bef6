"""Whether the log of an ended answer has lost a chunk (``protocol/holes.py``), for calls without a
feed.
"""

from lore.protocol.holes import SuspectedHole
from lore.store.base import Store
from lore.store.keys import partition_of


async def is_broken(store: Store, request_id: str, after: int) -> bool:
    """Whether the chunk after ``after`` is lost for good. Raises StoreUnavailable."""
    partition, suspected = partition_of(request_id), SuspectedHole(after)
    run_id, view = store.run_id(partition), await store.view(request_id)
    if view is None or suspected.is_lost(view, run_id) is False:
        return False
    page = await store.read(request_id, after=after, limit=1)
    suspected, now = suspected.read(page, view, run_id), await store.view(request_id)
    return bool(suspected and now and suspected.is_lost(now, store.run_id(partition)))

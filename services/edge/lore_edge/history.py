"""What a request's log holds, and what it has lost for good (protocol P4, P10).

The log of an answer that ended grows no more. When such a log lacks a chunk that its
request counts (a server that came back from a file cut within a transaction), no waiting
brings the chunk: the reader who needs it is told.
"""

from lore.protocol.follower import in_sequence
from lore.protocol.lifecycle import ENDED
from lore.store.base import Store
from lore.store.keys import partition_of


async def is_broken(store: Store, request_id: str, after: int) -> bool:
    """Whether the request ended and the chunk after ``after`` is missing from its log for good.

    The view is read on both sides of the log: what changed in between proves nothing.
    Raises StoreUnavailable.
    """
    partition = partition_of(request_id)
    run_id, before = store.run_id(partition), await store.view(request_id)
    if before is None or before.status not in ENDED or before.next_seq <= after + 1:
        return False
    if in_sequence(await store.read(request_id, after=after, limit=1), after):
        return False
    return await store.view(request_id) == before and store.run_id(partition) == run_id

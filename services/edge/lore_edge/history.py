"""What a request's log holds, and what it has lost for good (protocol P4, P10).

The log of an answer that ended grows no more. When such a log lacks a chunk that its
request counts (a server that came back from a file cut within a transaction), no waiting
brings the chunk: the reader who needs it is told.
"""

from lore.protocol.lifecycle import ENDED
from lore.store.base import ChunkMessage, Store, View
from lore.store.keys import partition_of


def in_sequence(chunks: list[ChunkMessage], after: int) -> list[ChunkMessage]:
    """Those that follow ``after`` without a gap: nothing behind a hole may go out."""
    whole = 0
    while whole < len(chunks) and chunks[whole].seq == after + whole + 1:
        whole += 1
    return chunks[:whole]


def is_foreign(chunk: ChunkMessage, view: View) -> bool:
    """Of another log than the view's, which is then too old, or the chunk is."""
    return chunk.seq > view.shared(chunk.log_id)


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

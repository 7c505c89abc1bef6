"""What a reader who comes back has read, so that the parts of what follows can be derived."""

from collections.abc import AsyncIterator

from lore.protocol.follower import is_foreign
from lore.protocol.fork import shared
from lore.protocol.holes import in_sequence
from lore.protocol.lifecycle import ENDED
from lore.store.base import ChunkMessage, Store, StoreUnavailable, View
from lore_edge.delivery.views import PAGE_CHUNKS
from lore_edge.openai.response_parts import ResponsePartsStream


async def chunks(store: Store, view: View) -> AsyncIterator[ChunkMessage]:
    """Those that the log has by now, in order. Raises StoreUnavailable."""
    seq = 0
    while True:
        found = await store.read(view.request_id, after=seq, limit=PAGE_CHUNKS)
        page = in_sequence(found, seq)
        if not page or any(is_foreign(chunk, view) for chunk in page):
            return
        for chunk in page:
            yield chunk
        seq += len(page)


async def before(store: Store, view: View, position: int) -> list[ChunkMessage]:
    """The chunks up to ``position``: fewer where the log has no more, which is for the
    stream to judge (P4). Raises StoreUnavailable."""
    had: list[ChunkMessage] = []
    if position:
        async for chunk in chunks(store, view):
            had.append(chunk)
            if len(had) == position:
                break
    return had


async def whole(store: Store, view: View) -> list[ChunkMessage]:
    """The log of an answer that has ended. Raises StoreUnavailable."""
    found = [chunk async for chunk in chunks(store, view)]
    if len(found) != view.next_seq - 1:
        raise StoreUnavailable("the log changes while it is read")
    return found


async def skip_to(store: Store, view: View, stream: ResponsePartsStream) -> int:
    """Count through the log up to the event that the reader has. Returns the chunks that it has,
    the last of them perhaps in part; one more than the logs share if it has more of an older one.

    Raises StoreUnavailable also while the reader has more of an answer than the store: its
    generator may yet give that back (P3).
    """
    seq, shares = 0, shared(stream.log.name, current=view.log_id, forks=view.forks)
    async for chunk in chunks(store, view):
        if not stream.is_behind() or seq == shares:
            break
        stream.skip(chunk)
        seq += 1
    if not stream.is_behind():
        return seq
    if seq == shares:
        return seq + 1
    if not await _has_ended_after(store, view, seq):
        raise StoreUnavailable("the log is behind this reader, or forgotten")
    return seq


async def _has_ended_after(store: Store, view: View, seq: int) -> bool:
    """The events that are left are those of the end then."""
    now = await store.view(view.request_id)
    return now is not None and now.status in ENDED and now.next_seq == seq + 1

"""What a reader who comes back has read, so that the parts of what follows can be derived."""

from collections.abc import AsyncIterator

from lore.protocol.follower import is_foreign
from lore.protocol.fork import shared
from lore.protocol.holes import in_sequence
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
    """The chunks up to ``position``: fewer while the log has no more. Raises StoreUnavailable."""
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
    the last of them perhaps in part; fewer while the log has no more, whose generator may yet give
    them back (P3); one more than the logs share if the reader has more of an older one.

    Raises StoreUnavailable.
    """
    seq, shares = 0, shared(stream.log.name, current=view.log_id, forks=view.forks)
    async for chunk in chunks(store, view):
        if not stream.is_behind() or seq == shares:
            break
        stream.skip(chunk)
        seq += 1
    return seq + 1 if stream.is_behind() and seq == shares else seq

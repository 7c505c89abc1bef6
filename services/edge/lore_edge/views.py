"""The JSON view of a request (PROTOCOL.md, HTTP)."""

from datetime import UTC, datetime
from typing import Any

from lore.store.base import Store, StoreUnavailable, View
from lore_edge.feed import UnknownRequest

PAGE_CHUNKS = 1000
MAX_TRIES = 5


def stream_url(view: View) -> str:
    """Names the log, so that a plain seq is never read against another one (P4)."""
    return f"/v1/streams/{view.request_id}?log={view.log_id}"


def describe(view: View, text: str, edge_id: str) -> dict[str, Any]:
    return {
        "request_id": view.request_id,
        "status": view.status,
        "text": text,
        "log_id": view.log_id,
        "next_seq": view.next_seq,
        "acked_seq": view.acked_seq,
        "generated_tokens": view.generated_tokens,
        "acked_tokens": view.acked_tokens,
        "window": view.window,
        "prompt_tokens": view.prompt_tokens,
        "finish_reason": view.finish_reason or None,
        "error": view.error or None,
        "created_at": _time(view.created_ms),
        "started_at": _time(view.started_ms),
        "finished_at": _time(view.finished_ms),
        "stream_url": stream_url(view),
        "edge": edge_id,
    }


async def owned(store: Store, request_id: str, owner: str) -> View:
    """The request, if it is this subject's.

    Raises UnknownRequest, the same for somebody else's as for one that never was.
    """
    view = await store.view(request_id)
    if view is None or view.subject != owner:
        raise UnknownRequest
    return view


async def read(store: Store, request_id: str, owner: str) -> tuple[View, str]:
    """The view and the whole text of the same moment.

    Raises UnknownRequest, and StoreUnavailable also when the log does not hold still.
    """
    for _ in range(MAX_TRIES):
        view = await owned(store, request_id, owner)
        text = await _text(store, view)
        if text is not None:
            return view, text
    raise StoreUnavailable("the log changes while it is read")


async def _text(store: Store, view: View) -> str | None:
    """The text of the chunks that ``view`` counts; None when the log is another by now."""
    parts: list[str] = []
    last_seq = view.next_seq - 1
    while len(parts) < last_seq:
        limit = min(PAGE_CHUNKS, last_seq - len(parts))
        chunks = await store.read(view.request_id, after=len(parts), limit=limit)
        foreign = any(
            chunk.log_id != view.log_id and chunk.seq >= view.fork_seq for chunk in chunks
        )
        if foreign or not chunks:
            return None
        parts += [chunk.text for chunk in chunks]
    return "".join(parts)


def _time(ms: int) -> str | None:
    """RFC 3339, UTC, with milliseconds."""
    if not ms:
        return None
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""The JSON view of a request (H3)."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from lore.protocol.follower import is_foreign
from lore.protocol.holes import in_sequence
from lore.store.base import Store, StoreUnavailable, View
from lore_edge.delivery.log_check import is_broken
from lore_edge.wire.errors import UnknownRequest, given_up, history_lost

PAGE_CHUNKS = 1000
MAX_TRIES = 5


def stream_url(view: View, prefix: str) -> str:
    """The URL of a stream. It names the log, so that a plain seq is never read against another one
    (E4).
    """
    return f"{prefix}/v1/streams/{view.request_id}?log={view.log_id}"


def metadata_of(body: str | None) -> dict[str, str]:
    """The metadata of a request, whichever API it came by."""
    if not body or '"metadata"' not in body:
        return {}
    kept = json.loads(body)
    return kept.get("metadata") or (kept.get("note") or {}).get("metadata") or {}


def asked(view: View, body: str | None) -> list[dict[str, str]]:
    """The messages of users and the assistant before this answer (H13). System prompts are left
    out: the edge has put in its own.

    Raises UnknownRequest, and ApiError 410 ``given_up`` when they were given up for lack of memory.
    """
    if view.given_up_ms:
        raise given_up()
    if body is None:  # it was deleted after the view was read
        raise UnknownRequest
    messages = json.loads(body).get("messages", [])  # a prompt has none
    return [said for said in messages if said["role"] != "system"]


def describe(
    view: View, text: str, edge_id: str, metadata: Mapping[str, str], prefix: str
) -> dict[str, Any]:
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
        "model": view.model or None,
        "created_at": _time(view.created_ms),
        "started_at": _time(view.started_ms),
        "finished_at": _time(view.finished_ms),
        "metadata": dict(metadata),
        "stream_url": stream_url(view, prefix),
        "edge": edge_id,
    }


async def owned(store: Store, request_id: str, owner: str) -> View:
    """The view of the request, if it belongs to this subject.

    Raises UnknownRequest, for somebody else's request as for an unknown id.
    """
    view = await store.view(request_id)
    if view is None or view.subject != owner:
        raise UnknownRequest
    return view


async def read(store: Store, request_id: str, owner: str) -> tuple[View, str]:
    """The view and the whole text at the same moment.

    Raises UnknownRequest; ApiError 410, ``history_lost`` when the log has a hole and ``given_up``
    when the text was given up for lack of memory; and StoreUnavailable, also when the log keeps
    changing.
    """
    for _ in range(MAX_TRIES):
        view = await owned(store, request_id, owner)
        if view.given_up_ms:
            raise given_up()
        parts = await _texts(store, view)
        if len(parts) == view.next_seq - 1:
            return view, "".join(parts)
        if await is_broken(store, request_id, len(parts)):
            raise history_lost()
    raise StoreUnavailable("the log changes while it is read")


async def _texts(store: Store, view: View) -> list[str]:
    """The chunks that ``view`` counts; fewer when the log has changed meanwhile or lacks some."""
    parts: list[str] = []
    last_seq = view.next_seq - 1
    while len(parts) < last_seq:
        limit = min(PAGE_CHUNKS, last_seq - len(parts))
        chunks = await store.read(view.request_id, after=len(parts), limit=limit, known=view)
        whole = in_sequence(chunks, len(parts))
        if not whole or any(is_foreign(chunk, view) for chunk in whole):
            break
        parts += [chunk.text for chunk in whole]
    return parts


def _time(ms: int) -> str | None:
    """RFC 3339, UTC, with milliseconds."""
    if not ms:
        return None
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

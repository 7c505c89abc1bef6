"""A caller's own requests, newest first: ``GET /v1/streams`` (H4).

It serves clients that have lost everything but their key. The store's list is a hint: each request
that it names is read, and left out when it is gone or belongs to somebody else.
"""

import asyncio
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

from lore.protocol.lifecycle import LIVE, Status
from lore.store.base import Store, View
from lore_edge.delivery import views
from lore_edge.wire.errors import invalid

DEFAULT_LIMIT, MAX_LIMIT = 20, 100
PAGE = 100
LOOKED_AT = 1_000
"""How many of the newest requests are looked at."""
STATES: dict[str, frozenset[Status]] = {
    "live": LIVE,
    "reaped": frozenset({Status.REAPED}),
    "all": frozenset(Status),
}


def asked(query: str) -> tuple[frozenset[Status], int]:
    """Parse the query: the states and the limit. Raises ApiError 400."""
    state, limit = "all", str(DEFAULT_LIMIT)
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "state":
            state = value
        elif name == "limit":
            limit = value
        else:
            raise invalid(f"{name}: unknown parameter", field=name)
    if state not in STATES:
        raise invalid(f"state: one of {', '.join(STATES)}", field="state")
    if not limit.isascii() or not limit.isdecimal() or not 1 <= int(limit[:9]) <= MAX_LIMIT:
        raise invalid(f"limit: a whole number from 1 to {MAX_LIMIT}", field="limit")
    return STATES[state], int(limit)


async def own(
    store: Store, subject: str, statuses: Iterable[Status], limit: int
) -> list[tuple[View, dict[str, str]]]:
    """The subject's requests in these states, with their metadata. Raises StoreUnavailable."""
    wanted, found = set(statuses), list[View]()
    for start in range(0, LOOKED_AT, PAGE):
        ids = await store.listed(subject, start=start, limit=PAGE)
        for view in await asyncio.gather(*map(store.view, ids)):
            if view is not None and view.subject == subject and view.status in wanted:
                found.append(view)
        if len(ids) < PAGE or len(found) >= limit:
            break
    found = found[:limit]
    bodies = await asyncio.gather(*(store.body(view.request_id) for view in found))
    return [(view, views.metadata_of(body)) for view, body in zip(found, bodies, strict=True)]


def described(
    found: list[tuple[View, dict[str, str]]], edge_id: str, prefix: str
) -> dict[str, Any]:
    """The JSON views, without their texts."""
    streams = [views.describe(view, "", edge_id, metadata, prefix) for view, metadata in found]
    for stream in streams:
        del stream["text"]
    return {"streams": streams}

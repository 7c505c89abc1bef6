"""How much one client may ask for, and when its turn is (protocol P17)."""

import asyncio

from lore.metrics import REQUESTS_REFUSED
from lore.protocol.lifecycle import LIVE
from lore.store.base import Admission, Store
from lore_edge.errors import too_many_streams
from lore_edge.settings import EdgeSettings
from lore_edge.subject import ANONYMOUS

SETTLE_MS = 10_000
"""An admitted request that the store does not know is this long taken for one on its way."""


async def admit(store: Store, settings: EdgeSettings, client: str, request_id: str) -> int:
    """Where the request stands in the queue, 0 for at its end (``NewRequest.place_ms``).

    Raises ApiError 429 when the client has all the live requests it may have.
    """
    limit = settings.streams_per_client
    quantum_ms = 0 if client == ANONYMOUS else round(settings.fair_quantum_s * 1000)
    if not limit and not quantum_ms:
        return 0
    admission = await store.admit(client, request_id, limit=limit, quantum_ms=quantum_ms)
    if not admission.admitted and (over := await _over(store, admission)):
        await store.leave(client, over)
        admission = await store.admit(client, request_id, limit=limit, quantum_ms=quantum_ms)
    if not admission.admitted and await store.view(request_id) is None:
        REQUESTS_REFUSED.labels("too_many_streams").inc()
        raise too_many_streams(limit)
    return admission.place_ms


async def _over(store: Store, admission: Admission) -> list[str]:
    """Those that count although they are no longer live."""
    views = await asyncio.gather(*(store.view(request_id) for request_id, _ in admission.counted))
    return [
        request_id
        for (request_id, age_ms), view in zip(admission.counted, views, strict=True)
        if (view.status not in LIVE if view else age_ms >= SETTLE_MS)
    ]

"""What OpenAI's SDKs ask again joins the answer that is being made.

They say so in ``x-stainless-retry-count``.
"""

from typing import Any

import httpx
import pytest

from lore.protocol.lifecycle import Status
from tests.services.edge_harness import FaultyStore, RunningEdge, Writer, running_edge
from tests.services.openai_harness import MODEL

BODY: dict[str, Any] = {"model": MODEL, "input": "a", "background": True}


async def ask(
    client: httpx.AsyncClient,
    attempt: int | None,
    body: dict[str, Any] = BODY,
    key: str = "",
    bearing: dict[str, str] | None = None,
) -> str:
    """The id of the response."""
    count = {} if attempt is None else {"x-stainless-retry-count": str(attempt)}
    headers = count | (bearing or {}) | ({"idempotency-key": key} if key else {})
    answer = await client.post("/v1/responses", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


async def test_a_retry_joins_the_request_on_any_edge(store: FaultyStore) -> None:
    async with (
        running_edge(store, model=MODEL) as one,
        running_edge(store, model=MODEL, edge_id="edge-2") as two,
        one.client() as near,
        two.client() as far,
    ):
        first = await ask(near, 0)
        assert await ask(far, 1) == await ask(near, 2) == first
        assert len(store.state._records) == 1


CASES = [
    ("without the header equal calls stay two", [(None, BODY), (None, BODY)], 2),
    ("first attempts stay two", [(0, BODY), (0, BODY)], 2),
    ("a retry of what had no header is new", [(None, BODY), (1, BODY)], 2),
    ("another body is new", [(0, BODY), (1, BODY | {"input": "b"})], 2),
    ("another limit is new", [(0, BODY), (1, BODY | {"max_output_tokens": 3})], 2),
    ("two that are retried find each their own", [(0, BODY), (0, BODY), (1, BODY), (1, BODY)], 2),
    ("a retry of nothing is new", [(1, BODY)], 1),
    ("nonsense counts for nothing", [(0, BODY), (-1, BODY)], 2),
]


@pytest.mark.parametrize(("calls", "made"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
async def test_what_is_joined_and_what_is_new(
    store: FaultyStore, calls: list[tuple[int | None, dict[str, Any]]], made: int
) -> None:
    async with running_edge(store, model=MODEL) as edge, edge.client() as client:
        ids = [await ask(client, attempt, body) for attempt, body in calls]
        assert len(set(ids)) == len(store.state._records) == made


@pytest.mark.parametrize(
    ("status", "joins"),
    [(Status.DONE, True), (Status.FAILED, False), (Status.CANCELLED, False)],
)
async def test_what_came_to_nothing_is_asked_anew(
    store: FaultyStore, status: Status, joins: bool
) -> None:
    async with running_edge(store, model=MODEL) as edge, edge.client() as client:
        first = await ask(client, 0)
        await end(store, first.removeprefix("resp_"), status)
        assert (await ask(client, 1) == first) is joins


async def end(store: FaultyStore, request_id: str, status: Status) -> None:
    if status is Status.CANCELLED:
        await store.cancel(request_id, retention_ms=60_000)
        return
    writer = Writer(store, request_id)
    await writer.claim()
    await writer.finish(status)


async def test_a_key_counts_before_a_retry(store: FaultyStore) -> None:
    async with running_edge(store, model=MODEL) as edge, edge.client() as client:
        first = await ask(client, 0)
        keyed = await ask(client, 1, key="k")
        assert keyed != first
        assert await ask(client, 2, key="k") == keyed


async def test_nobody_joins_somebody_elses(store: FaultyStore, tmp_path: Any) -> None:
    from tests.services.auth_harness import KeyRing, bearer

    ring = KeyRing(tmp_path / "keys")
    mine, theirs = ring.new("me"), ring.new("them")
    async with (
        running_edge(store, model=MODEL, **ring.settings) as edge,
        edge.client() as client,
    ):
        first = await ask(client, 0, bearing=bearer(mine))
        assert await ask(client, 1, bearing=bearer(theirs)) != first
        assert await ask(client, 1, bearing=bearer(mine)) == first


async def test_a_window_of_nothing_joins_nothing(store: FaultyStore) -> None:
    edge: RunningEdge
    async with (
        running_edge(store, model=MODEL, retry_window_s=0) as edge,
        edge.client() as client,
    ):
        assert await ask(client, 0) != await ask(client, 1)

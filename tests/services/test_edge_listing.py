"""A client that has lost everything but its key finds its answers again."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from lore.protocol.commands import Cancel, Forget, Reap
from lore.store.base import StoreUnavailable
from tests.services.auth_harness import KeyRing, bearer
from tests.services.edge_harness import FaultyStore, Writer, running_edge
from tests.services.openai_harness import MODEL

PAIRS = {f"name-{number}": "value" for number in range(16)}


async def listed(client: httpx.AsyncClient, query: str = "", **headers: str) -> list[Any]:
    answer = await client.get(f"/v1/streams{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["streams"]


async def ask(client: httpx.AsyncClient, **body: Any) -> str:
    answer = await client.post("/v1/streams", json={"question": "a"} | body)
    assert answer.status_code == 201, answer.text
    return answer.json()["request_id"]


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest.mark.rule("H4")
async def test_the_live_ones_are_found_newest_first(store: FaultyStore) -> None:
    async with running_edge(store, model=MODEL) as edge, edge.client() as client:
        ids = [await ask(client)]
        await store.do(Forget(ids[0]))
        ids.append(await ask(client))
        writer = Writer(store, ids[1])
        await writer.claim()
        await writer.write("a")
        ids.append(await ask(client))
        await store.do(Cancel(ids[2], retention_ms=60_000))
        ids.append(await ask(client))
        found = await listed(client, "?state=live")
        assert [view["request_id"] for view in found] == [ids[3], ids[1]]
        assert "text" not in found[0]
        assert found[1]["next_seq"] == 2
        assert [v["request_id"] for v in await listed(client)] == [ids[3], ids[2], ids[1]]
        assert [v["request_id"] for v in await listed(client, "?limit=1")] == [ids[3]]
        whole = await client.get(found[1]["stream_url"])
        assert whole.json()["text"] == "a"


async def test_a_reaped_one_is_found_and_goes_on(store: FaultyStore) -> None:
    """P16"""
    async with running_edge(store, model=MODEL) as edge, edge.client() as client:
        request_id = await ask(client)
        await Writer(store, request_id).claim()
        await store.do(Reap(request_id, idle_ms=-1, retention_ms=60_000))
        assert await listed(client, "?state=live") == []
        (found,) = await listed(client, "?state=reaped")
        assert (await client.post(f"/v1/streams/{request_id}/revive")).status_code == 202
        (again,) = await listed(client, "?state=live")
        assert found["request_id"] == again["request_id"] == request_id


@pytest.mark.rule("A13")
async def test_nobody_finds_somebody_elses(store: FaultyStore, tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "keys")
    mine, theirs = bearer(ring.new("me")), bearer(ring.new("them"))
    async with (
        running_edge(store, model=MODEL, **ring.settings) as edge,
        edge.client() as client,
    ):
        for headers in (mine, theirs, mine):
            await client.post("/v1/streams", json={"question": "a"}, headers=headers)
        assert len(await listed(client, **mine)) == 2
        assert len(await listed(client, **theirs)) == 1
        assert (await client.get("/v1/streams")).status_code == 401


@pytest.mark.rule("H4")
@pytest.mark.parametrize("query", ["state=dead", "limit=0", "limit=101", "limit=x", "colour=blue"])
async def test_what_cannot_be_meant_is_refused_by_name(store: FaultyStore, query: str) -> None:
    async with running_edge(store, model=MODEL) as edge, edge.client() as client:
        answer = await client.get(f"/v1/streams?{query}")
        assert answer.status_code == 400
        assert answer.json()["error"]["field"] == query.partition("=")[0]


@pytest.mark.rule("H7")
async def test_metadata_is_kept_and_given_back(store: FaultyStore) -> None:
    async with running_edge(store, model=MODEL) as edge, edge.client() as client:
        native = await ask(client, metadata=PAIRS)
        response = await client.post(
            "/v1/responses",
            json={"model": MODEL, "input": "a", "background": True, "metadata": PAIRS},
        )
        assert response.json()["metadata"] == PAIRS
        plain = await ask(client)
        assert (await client.get(f"/v1/streams/{native}")).json()["metadata"] == PAIRS
        assert (await client.get(f"/v1/streams/{plain}")).json()["metadata"] == {}
        found = await listed(client, "?state=live")
        assert [view["metadata"] for view in found] == [{}, PAIRS, PAIRS]


@pytest.mark.rule("H7")
@pytest.mark.parametrize(
    "wrong",
    [
        PAIRS | {"one more": "x"},
        {"n" * 65: "x"},
        {"n": "x" * 513},
        {"n": 1},
    ],
    ids=["pairs", "name", "value", "kind"],
)
async def test_more_metadata_is_refused(store: FaultyStore, wrong: Any) -> None:
    async with running_edge(store, model=MODEL) as edge, edge.client() as client:
        answer = await client.post("/v1/streams", json={"question": "a", "metadata": wrong})
        assert answer.status_code == 400
        assert answer.json()["error"]["field"].startswith("metadata")


@pytest.mark.rule("H4")
async def test_a_list_that_cannot_be_kept_costs_nobody_an_answer(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("its server is away")

    monkeypatch.setattr(store, "list_request", away)
    async with running_edge(store, model=MODEL) as edge, edge.client() as client:
        await ask(client)
        assert await listed(client) == []

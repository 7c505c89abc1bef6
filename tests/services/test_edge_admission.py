"""Shares of the queue, and limits for each client (P17)."""

import asyncio
from typing import Any

import httpx
import pytest

from lore.protocol.commands import Claim, Waiting
from lore.protocol.lifecycle import Status
from lore.settings import load
from lore.store import MemoryStore
from lore.store.base import Limits
from lore.store.keys import PARTITIONS
from lore.store.types import Admit, Open
from lore_edge.app import Edge
from lore_edge.settings import EdgeSettings
from lore_edge.wire.subject import client_of, identify
from tests.services.edge_harness import Writer, direct_client, settings

PROXIES = {"share_by": "address", "trusted_proxies": "10.0.0.0/8,fd00::/8"}


class Timeless(MemoryStore):
    """Time stands still until a test moves it."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000
        super().__init__(clock_ms=lambda: self.now_ms)


@pytest.fixture
def store() -> Timeless:
    return Timeless()


async def post(client: httpx.AsyncClient, **headers: str) -> httpx.Response:
    return await client.post("/v1/streams", json={"question": "a"}, headers=headers)


async def ids(client: httpx.AsyncClient, count: int) -> list[str]:
    answers = [await post(client) for _ in range(count)]
    return [answer.json()["request_id"] for answer in answers]


async def claim_all(store: MemoryStore) -> list[tuple[int, str]]:
    """(place_ms, request_id) of all that wait, in the order in which a generator takes them.

    Requests of one partition stand behind each other, and ids fall into partitions by chance.
    """
    claimed: list[tuple[int, str]] = []
    while waiting := await store.do(Waiting()):
        place_ms, partition = waiting[0]
        found = await store.do(Claim(partition, "generator-1", lease_ms=60_000))
        assert found is not None
        claimed.append((place_ms, found.view.request_id))
    return claimed


def from_address(store: MemoryStore, address: str, **changes: Any) -> httpx.AsyncClient:
    edge: Any = Edge(settings(**changes), store)
    transport = httpx.ASGITransport(edge, client=(address, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://edge.example")


@pytest.mark.rule("P17.6")
@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.7", "", "203.0.113.7"),
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.2.3.4", "198.51.100.1"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("2001:db8:1:2:3::4", "", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "", "203.0.113.7"),
        ("fd00::1", "203.0.113.7", "203.0.113.7"),
    ],
)
def test_only_trusted_proxies_say_for_whom_they_ask(peer: str, forwarded: str, client: str):
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    scope = {"client": (peer, 1), "headers": headers}
    identify(scope, "anonymous")
    assert client_of(scope, settings(**PROXIES)) == client
    assert client_of(scope, settings()) == "anonymous"


def test_a_proxy_that_is_no_network_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("LORE_TRUSTED_PROXIES", "10.0.0.0/8,localhost")
    with pytest.raises(SystemExit):
        load(EdgeSettings)
    (line,) = capsys.readouterr().err.splitlines()
    assert "LORE_TRUSTED_PROXIES" in line
    assert "localhost" in line


@pytest.mark.rule("P17.6")
async def test_a_flood_from_one_address_lets_another_pass(store: Timeless):
    """P17: over all partitions, whoever asks little waits behind one request of a flood."""
    async with (
        from_address(store, "192.0.2.1", share_by="address") as flood,
        from_address(store, "192.0.2.2", share_by="address") as polite,
    ):
        first, *_ = await ids(flood, 30)
        store.now_ms += 1
        (other,) = await ids(polite, 1)
    claimed = [request_id for _, request_id in await claim_all(store)]
    assert len(claimed) == 31
    assert claimed[:2] == [first, other]


@pytest.mark.rule("P17.3")
async def test_a_flood_does_not_take_the_last_places_of_the_queue(store: Timeless):
    """P17: half of them at least are for those who have fewer of their own ahead."""
    places = {"queue_limit": 8 * PARTITIONS, "share_by": "address"}
    async with (
        from_address(store, "192.0.2.1", **places) as flood,
        from_address(store, "192.0.2.2", **places) as polite,
    ):
        answers = [await post(flood) for _ in range(8 * PARTITIONS)]
        refused = [answer for answer in answers if answer.status_code != 201]
        assert 4 * PARTITIONS <= len(answers) - len(refused) < 6 * PARTITIONS
        assert {answer.json()["error"]["code"] for answer in refused} == {"queue_full"}
        others = [await post(polite) for _ in range(30)]
        assert {answer.status_code for answer in others} == {201}


@pytest.mark.rule("P17.7")
async def test_a_reader_may_change_networks(store: Timeless):
    """What an address decides is its share alone."""
    async with (
        from_address(store, "192.0.2.1", share_by="address") as at_home,
        from_address(store, "192.0.2.2", share_by="address") as on_the_way,
    ):
        (request_id,) = await ids(at_home, 1)
        view = await on_the_way.get(f"/v1/streams/{request_id}")
        assert (view.status_code, view.json()["request_id"]) == (200, request_id)
        assert (await on_the_way.delete(f"/v1/streams/{request_id}")).status_code == 204


async def test_without_shares_the_first_to_come_is_the_first_served(store: Timeless):
    asked: list[tuple[int, str]] = []
    async with direct_client(store) as edge:
        for _ in range(5):
            store.now_ms += 1
            asked += [(store.now_ms, request_id) for request_id in await ids(edge, 1)]
    assert await claim_all(store) == asked


@pytest.mark.rule("P17.16", "P17.17")
async def test_a_client_at_its_limit_is_told_so_and_may_go_on_when_an_answer_ends(
    store: Timeless,
):
    """P17: the limit holds over all edges, and an ended answer no longer counts."""
    limited = {"share_by": "address", "streams_per_client": 2}
    async with (
        from_address(store, "192.0.2.1", **limited) as one_edge,
        from_address(store, "192.0.2.1", **limited) as other_edge,
        from_address(store, "192.0.2.2", **limited) as somebody_else,
    ):
        first, _ = await ids(one_edge, 2)
        refused = await post(other_edge)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "too_many_streams"
        assert "2" in refused.json()["error"]["message"]
        assert int(refused.headers["retry-after"]) == 5
        writer = Writer(store, first)
        await writer.claim()
        assert (await post(somebody_else)).status_code == 201
        assert (await post(other_edge)).status_code == 429
        await writer.finish()
        assert (await post(other_edge)).status_code == 201
        assert (await post(one_edge)).status_code == 429


async def test_many_at_once_do_not_slip_through_a_limit(store: Timeless):
    async with direct_client(store, streams_per_client=3) as edge:
        answers = await asyncio.gather(*(post(edge) for _ in range(12)))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [429] * 9


async def test_a_retried_post_finds_its_answer_at_the_limit(store: Timeless):
    """Also once its answer is done and no longer counts."""
    async with direct_client(store, streams_per_client=1) as edge:
        first = await post(edge, **{"idempotency-key": "k"})
        writer = Writer(store, first.json()["request_id"])
        await writer.claim()
        await writer.finish()
        assert (await post(edge)).status_code == 201
        again = await post(edge, **{"idempotency-key": "k"})
    assert again.status_code == 201
    assert again.json()["request_id"] == first.json()["request_id"]
    assert again.json()["status"] == Status.DONE


async def test_an_admitted_request_on_its_way_counts_and_a_lost_one_does_not_for_long(
    store: Timeless,
):
    async with direct_client(store, streams_per_client=1) as edge:
        await store.do(Admit("anonymous", "on its way", Limits(streams=1)))
        assert (await post(edge)).status_code == 429
        store.now_ms += 60_000
        assert (await post(edge)).status_code == 201


async def test_what_a_full_queue_refuses_does_not_count(store: Timeless):
    class Full(Timeless):
        async def do(self, command: Any) -> Any:
            full = isinstance(command, Open)
            return await super().do(command._replace(queue_limit=0) if full else command)

    full = Full()
    async with direct_client(full, streams_per_client=1) as edge:
        answers = [await post(edge) for _ in range(2)]
    assert [answer.json()["error"]["code"] for answer in answers] == ["queue_full"] * 2

"""Peers that say nothing, or half of it, and an edge that may open few files."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tests.attack.raw import Peer, peer, post, request
from tests.services.edge_harness import WAIT_S
from tests.services.edge_process import EdgeProcess, edge_process

SILENT = 400
FILES = 256
QUICK = {"head_timeout_s": 0.3, "body_timeout_s": 0.3, "keep_alive_s": 0.3, "heartbeat_s": 0.5}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def quick() -> AsyncIterator[EdgeProcess]:
    """One for all that leave it as it was."""
    async with edge_process(**QUICK) as edge:
        yield edge


HALVES = [
    pytest.param(b"", None, id="nothing"),
    pytest.param(b"GET / HT", 408, id="half a request line"),
    pytest.param(request()[:-2], 408, id="half a head"),
    pytest.param(post()[:-1], 408, id="half a body"),
    pytest.param(post("Transfer-Encoding: chunked", body=b"5\r\nab"), 408, id="half a chunk"),
    pytest.param(post("Transfer-Encoding: chunked", body=b"0\r\na: b"), 408, id="half a trailer"),
]


@pytest.mark.rule("W10")
@pytest.mark.parametrize(("sent", "status"), HALVES)
async def test_a_silent_peer_is_closed_and_told_why_where_it_began(
    quick: EdgeProcess, sent: bytes, status: int | None
):
    async with peer(quick.port) as one:
        await one.send(sent)
        if status is not None:
            answer = await one.answer()
            assert (answer.status, answer.error) == (status, "request_timeout")
        assert await one.ended()


@pytest.mark.rule("W10")
@pytest.mark.parametrize("sent", [request(), post()[:-1]])
async def test_a_peer_that_drips_has_no_more_time(quick: EdgeProcess, sent: bytes):
    async with peer(quick.port) as one:

        async def drip() -> None:
            for byte in sent * 1000:
                one.writer.write(bytes([byte]))
                await asyncio.sleep(0.1)  # the drip's pace, well below any deadline

        dripping = asyncio.create_task(drip())
        assert (await one.answer()).status == 408
        dripping.cancel()


@pytest.mark.rule("W10")
async def test_an_idle_connection_is_closed_without_a_word(quick: EdgeProcess):
    async with peer(quick.port) as one:
        await one.send(request())
        assert (await one.answer()).status == 200
        assert await one.ended()


async def test_a_stream_has_no_deadline_of_a_request(quick: EdgeProcess):
    reader = await quick.new_stream()
    for _ in range(3):
        await reader.next_comment()


async def crowd(stack: AsyncExitStack, edge: EdgeProcess, count: int, sent: bytes) -> list[Peer]:
    peers: list[Peer] = []
    for _ in range(count):
        one = await stack.enter_async_context(peer(edge.port))
        await one.send(sent)
        peers.append(one)
    return peers


@pytest.mark.rule("W11")
@pytest.mark.parametrize("sent", [b"", b"GET / HT"])
async def test_an_edge_without_descriptors_answers_goes_on_and_warns_once(sent: bytes):
    patient = {"head_timeout_s": 10 * WAIT_S, "heartbeat_s": 0.2}
    async with edge_process(files=FILES, **patient) as edge, AsyncExitStack() as stack:
        reader = await edge.new_stream()
        await crowd(stack, edge, SILENT, sent)
        assert await edge.health("/livez") == (200, "ok\n")
        await reader.next_comment()
        async with peer(edge.port) as one:
            await one.send(post())
            assert (await one.answer()).status == 201, "who waits longest makes room"
        edge.signal()
        assert edge.process.stderr is not None
        lines = (await asyncio.wait_for(edge.process.stderr.read(), 6 * WAIT_S)).splitlines()
    warnings = [line for line in map(json.loads, lines) if line["level"] != "info"]
    assert [line["event"] for line in warnings] == ["too many connections"]
    assert warnings[0]["limit"] < FILES
    assert warnings[0]["turned_away"] >= 1


async def test_many_polls_that_wait_stop_nobody_and_all_hear_the_end():
    """P18"""
    async with edge_process(heartbeat_s=0.2) as edge, AsyncExitStack() as stack:
        reader = await edge.new_stream()
        path = f"/v1/streams/{reader.headers['x-request-id']}"
        polls = await crowd(stack, edge, SILENT, request("GET", f"{path}?after=0&wait=30"))
        await reader.next_comment()
        async with peer(edge.port) as one:
            await one.send(request("GET", f"{path}?wait=0"))
            assert json.loads((await one.answer()).body)["state"]["status"] == "queued"
            for left in polls[: SILENT // 2]:
                left.abort()
            await one.send(request("DELETE", path))
            assert (await one.answer()).status == 204
        for one in polls[SILENT // 2 :]:
            assert json.loads((await one.answer()).body)["end"]["status"] == "cancelled"
        _, metrics = await edge.health("/metrics")
        assert 'lore_edge_polls{ack="client"} 0.0' in metrics


async def test_polls_of_strangers_and_of_nothing_do_not_wait(quick: EdgeProcess):
    async with peer(quick.port) as one:
        for target, status in (("A" * 22, 404), ("A" * 22 + "/", 404), ("A", 404)):
            await one.send(request("GET", f"/v1/streams/{target}?wait=30"))
            assert (await one.answer()).status == status


async def test_where_all_are_served_a_new_one_is_turned_away_with_a_reason():
    async with edge_process(max_connections=2) as edge:
        for _ in range(2):
            await edge.new_stream()
        async with peer(edge.port) as one:
            answer = await one.answer()
            assert (answer.status, answer.error) == (503, "edge_full")
            assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(("trusted", "turned_away"), [("", True), ("127.0.0.0/8", False)])
async def test_one_address_has_its_share_and_a_trusted_proxy_all(trusted: str, turned_away: bool):
    limits = {"max_connections_per_address": 2, "trusted_proxies": trusted}
    async with edge_process(**limits) as edge, AsyncExitStack() as stack:
        first, _ = await crowd(stack, edge, 2, b"")
        async with peer(edge.port) as one:
            await one.send(request())
            answer = await one.answer()
            told = (answer.status, answer.error)
            assert told == ((429, "too_many_connections") if turned_away else (200, ""))
        first.abort()
        await asyncio.wait_for(_served_again(edge), WAIT_S)


async def _served_again(edge: EdgeProcess) -> None:
    """Once the edge has noticed that the others have left."""
    while True:
        async with peer(edge.port) as one:
            await one.send(request())
            if (await one.answer()).status == 200:
                return


async def test_the_liveness_port_answers_among_silent_peers_of_its_own(quick: EdgeProcess):
    async with AsyncExitStack() as stack:
        for _ in range(100):
            one = await stack.enter_async_context(peer(quick.health_port))
            await one.send(b"GET /livez HT")
        assert await quick.health("/livez") == (200, "ok\n")


async def test_the_liveness_port_has_a_deadline(quick: EdgeProcess):
    async with peer(quick.health_port) as one:
        await one.send(b"GET /livez HT")
        assert await one.ended()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(request("HEAD", "/livez"), 200, id="HEAD"),
        pytest.param(request("HEAD", "/no"), 404, id="HEAD of nothing"),
        pytest.param(request("POST", "/livez"), 501, id="POST"),
        pytest.param(request("GET", "/" + "a" * 70_000), 414, id="a long address"),
        pytest.param(request("GET", "/livez", "A: " + "b" * 70_000), 431, id="a long field"),
        pytest.param(request("GET", "/livez", *["A: b"] * 1_000), 431, id="many fields"),
        pytest.param(b"\x00\xff\r\n\r\n", 400, id="garbage"),
        pytest.param(request("GET", "/livez", version="A/1.1"), 400, id="no version"),
        pytest.param(request("GET", "/livez", version="HTTP/2.0"), 505, id="HTTP/2"),
        pytest.param(b"PROXY TCP4 1 2 3 4\r\n\r\n", 400, id="PROXY"),
    ],
)
async def test_the_liveness_port_tells_in_a_line_what_it_does_not_take(
    quick: EdgeProcess, sent: bytes, status: int
):
    async with peer(quick.health_port) as one:
        await one.send(sent)
        answer = await one.head()
        body = await one.read()
        assert answer.status == status
        assert answer.headers["content-type"].startswith("text/plain")
        assert (body.count(b"\n") == 1) is not sent.startswith(b"HEAD")

"""What an edge's metrics say of its connections, and of what is no call."""

from contextlib import AsyncExitStack

from tests.attack.raw import peer, post, request
from tests.services.edge_harness import FaultyStore, running_edge, until
from tests.services.meters import grows, meter, shows

REFUSED = "lore_requests_refused_total"
LONG = f"A: {'b' * 1000}"


@grows(REFUSED, "invalid_http", by=1)
@grows(REFUSED, "url_too_long", by=1)
@grows(REFUSED, "headers_too_large", by=1)
@grows(REFUSED, "not_implemented", by=1)
@grows(REFUSED, "http_version_not_supported", by=1)
@grows(REFUSED, "expectation_failed", by=1)
@grows(REFUSED, "body_too_large", by=1)
@grows(REFUSED, "request_timeout", by=1)
async def test_what_is_no_call_is_counted_by_what_is_wrong():
    bounds = {"max_url_bytes": 256, "max_field_bytes": 256, "head_timeout_s": 0.1}
    async with running_edge(FaultyStore(), **bounds) as edge:
        for sent, status in [
            (request(host=None), 400),
            (request(target="/" + "a" * 1000), 414),
            (request("GET", "/", LONG), 431),
            (request("BREW"), 501),
            (request(version="HTTP/2.0"), 505),
            (post("Expect: a"), 417),
            (post("Content-Length: 99999999"), 413),
            (request()[:-1], 408),
        ]:
            async with peer(edge.port) as one:
                await one.send(sent)
                assert (await one.answer()).status == status


@shows("lore_edge_open_connections")
@grows("lore_edge_connections_refused_total", "evicted", by=1)
@grows("lore_edge_connections_refused_total", "limit", by=1)
async def test_connections_beyond_the_limit_are_counted():
    async with running_edge(FaultyStore(), max_connections=1) as edge, AsyncExitStack() as stack:
        first = await stack.enter_async_context(peer(edge.port))
        second = await stack.enter_async_context(peer(edge.port))
        assert await first.ended()
        await until(lambda: meter("lore_edge_open_connections") == 1)
        await second.send(post("Accept: text/event-stream"))
        assert (await second.head()).status == 200
        third = await stack.enter_async_context(peer(edge.port))
        assert (await third.answer()).status == 503


@grows("lore_edge_connections_refused_total", "address", by=1)
async def test_connections_beyond_an_address_s_share_are_counted():
    async with (
        running_edge(FaultyStore(), max_connections_per_address=1) as edge,
        peer(edge.port),
        peer(edge.port) as second,
    ):
        assert (await second.answer()).status == 429

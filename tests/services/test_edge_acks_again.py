"""Acks that a store forgot with its data are said again by the edge (protocol P9)."""

import pytest

from lore.protocol.lifecycle import Status
from tests.services.edge_harness import FaultyStore, Writer, ask, running_edge, stream, until


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


def acked_seq(store: FaultyStore, writer: Writer) -> int:
    view = store.state.view(writer.request_id, now_ms=0)
    assert view is not None
    return view.acked_seq


@pytest.mark.rule("P9.7")
async def test_a_window_that_forgotten_acks_had_opened_opens_again(store: FaultyStore) -> None:
    """P9: else the owner waits for acks, and the reader for text, for ever."""
    async with running_edge(store) as edge, edge.client() as client:
        writer = Writer(store, await ask(edge))
        await writer.claim()
        await writer.write("a", "b", reopen_tokens=2)
        response = await stream(edge, writer.request_id)
        await response.chunks(2)
        before = store.state.snapshot()
        acked = await client.post(f"/v1/streams/{writer.request_id}/ack", json={"seq": 2})
        assert acked.status_code == 204
        store.forget_since(before, "run-2")
        store.reset_subscriptions()
        await until(lambda: acked_seq(store, writer) == 2)
        view = await store.view(writer.request_id)
        assert view is not None
        assert view.status is Status.GENERATING


@pytest.mark.rule("P9.6")
async def test_a_reader_that_resumes_has_acknowledged_where_it_resumes(store: FaultyStore) -> None:
    """P9, P12: its last ack may have been lost on the way."""
    async with running_edge(store) as edge:
        writer = Writer(store, await ask(edge))
        await writer.claim()
        await writer.write("a", "b", "c", reopen_tokens=2)
        await stream(edge, writer.request_id, after=2)
        await until(lambda: acked_seq(store, writer) == 2)


@pytest.mark.rule("P9.6")
async def test_a_position_beyond_the_log_acknowledges_no_more_than_the_log(
    store: FaultyStore,
) -> None:
    """P9: who claims to have what was never written must not open the window for ever."""
    async with running_edge(store) as edge:
        writer = Writer(store, await ask(edge))
        await writer.claim()
        await writer.write("a", "b", reopen_tokens=2)
        await stream(edge, writer.request_id, after=1000, log=writer.view.log_id)
        await until(lambda: acked_seq(store, writer) == 2)
        await writer.write("c", reopen_tokens=3)
        view = await store.view(writer.request_id)
        assert view is not None
        assert (view.acked_seq, view.status) == (2, Status.PAUSED)

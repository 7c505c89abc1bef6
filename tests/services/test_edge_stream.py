"""An edge's streams: order, events, ends, and several readers."""

import pytest

from lore.protocol.lifecycle import Status
from lore.store import MemoryStore
from tests.services.edge_harness import Writer, acknowledge, ask, running_edge, stream, text_of


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def test_a_stream_opens_with_retry_and_state_and_ends_with_the_usage(store: MemoryStore):
    async with running_edge(store) as edge:
        request_id = await ask(edge)
        response = await stream(edge, request_id)
        opened = await response.event()
        assert opened is not None
        assert (opened.name, opened.data["status"], opened.data["reason"]) == (
            "state",
            "queued",
            "open",
        )
        assert response.retry_ms == 1000
        assert opened.data["edge"] == "edge-1"
        writer = Writer(store, request_id)
        await writer.claim()
        await writer.write("A list ", "holds\n", "“things”.")
        await writer.finish()
        events = await response.events()
        assert text_of(events) == writer.text
        assert [e.id for e in events if e.name == "message"] == ["1", "2", "3"]
        assert [e.data["reason"] for e in events if e.name == "state"] == ["claimed"]
        assert events[-1].name == "end"
        assert events[-1].data == {
            "status": "done",
            "finish_reason": "stop",
            "error": None,
            "last_seq": 3,
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        }


async def test_a_reader_that_resumes_gets_what_follows_and_the_view_has_the_whole(
    store: MemoryStore,
):
    """P1, P12: history and live chunks in one pass, on another edge."""
    async with running_edge(store) as one, running_edge(store, edge_id="edge-2") as two:
        request_id = await ask(one)
        writer = Writer(store, request_id)
        await writer.claim()
        await writer.write("a", "b", "c", "d")
        first = await stream(one, request_id)
        assert text_of(await first.chunks(2)) == "ab"
        first.close()
        second = await stream(two, request_id, last_event_id="2")
        assert text_of(await second.chunks(2)) == "cd"
        assert (await acknowledge(one, request_id, 4)).status_code == 204
        await writer.write("e")
        await writer.finish(Status.DONE)
        assert text_of(await second.events()) == "e"
        async with two.client() as client:
            view = (await client.get(f"/v1/streams/{request_id}")).json()
        assert (view["text"], view["status"], view["acked_seq"]) == ("abcde", "done", 4)

"""What an edge's metrics say of readers that poll (protocol P18)."""

import asyncio

import pytest

from tests.services.edge_harness import (
    WAIT_S,
    FaultyStore,
    Writer,
    ask,
    request,
    running_edge,
    until,
)
from tests.services.meters import grows, meter, shows
from tests.services.poll_harness import LONG, generating, poll, waiting


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest.mark.rule("P18.2")
@grows("lore_polls_total", "text", by=1)
@grows("lore_chunks_sent_total", by=2)
@grows("lore_tokens_delivered_total")
async def test_what_follows_a_position_comes_in_one_finished_response(store: FaultyStore):
    async with running_edge(store, edge_id="one") as edge:
        writer = await generating(store, edge, "a", "b", "c")
        answer = await poll(edge, writer.request_id, 1)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert int(answer.headers["content-length"]) == len(answer.content)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-request-id"] == writer.request_id
        told = answer.json()
        state = told.pop("state")
        assert told == {
            "request_id": writer.request_id,
            "log_id": writer.view.log_id,
            "after": 1,
            "seq": 3,
            "text": "bc",
            "tokens": 3,
            "end": None,
        }
        assert (state["status"], state["reason"], state["edge"]) == ("generating", "open", "one")
        assert state["window"] == 32


@pytest.mark.rule("P18.3")
@shows("lore_edge_polls")
async def test_a_poll_waits_for_text_and_gathers_what_comes_with_it(store: FaultyStore):
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a")
        task = await waiting(edge, writer.request_id, 1)
        assert meter("lore_edge_polls", ack="client") == 1
        await writer.write("b", "c")
        told = (await task).json()
        assert (told["text"], told["seq"], told["tokens"]) == ("bc", 3, 3)
        assert meter("lore_edge_polls", ack="client") == 0


@pytest.mark.rule("P18.5")
@grows("lore_polls_total", "nothing", by=1)
async def test_a_poll_without_news_is_answered_in_time(store: FaultyStore):
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a")
        told = (await poll(edge, writer.request_id, 1, 0.05)).json()
        assert (told["text"], told["seq"], told["tokens"], told["end"]) == ("", 1, 1, None)


@pytest.mark.rule("P18.4")
@grows("lore_polls_total", "state", by=1)
async def test_a_change_of_state_is_news(store: FaultyStore):
    async with running_edge(store) as edge:
        writer = Writer(store, await ask(edge))
        task = await waiting(edge, writer.request_id)
        await writer.claim()
        told = (await task).json()
        assert told["state"]["status"] == "generating"
        assert told["state"]["reason"] in ("claimed", "resumed"), (
            "the view may come before the news"
        )
        assert told["text"] == ""


@pytest.mark.rule("H5")
@grows("lore_polls_total", "end", by=2)
@grows("lore_answers_total", "done", by=2)
async def test_the_end_comes_with_the_last_text_and_again_to_one_who_has_all(store: FaultyStore):
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a")
        task = await waiting(edge, writer.request_id, 1)
        await writer.write("b")
        await writer.finish()
        told = (await task).json()
        assert told["text"] == "b"
        assert told["end"] == {
            "status": "done",
            "finish_reason": "stop",
            "error": None,
            "last_seq": 2,
            "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
        }
        again = (await poll(edge, writer.request_id, 2, LONG)).json()
        assert (again["text"], again["end"]) == ("", told["end"])


@grows("lore_polls_total", "left", by=1)
async def test_a_reader_that_leaves_is_waited_for_no_more(store: FaultyStore):
    async with running_edge(store) as edge:
        writer = await generating(store, edge)
        task = await waiting(edge, writer.request_id)
        task.cancel()
        await until(lambda: meter("lore_edge_polls", ack="client") == 0)
        await until(lambda: store.following(writer.request_id) == 0)
        async with asyncio.timeout(WAIT_S):
            await asyncio.wait({task})


@pytest.mark.rule("E15")
@grows("lore_polls_total", "sent_away", by=1)
async def test_an_edge_that_stops_sends_those_away_who_wait(store: FaultyStore):
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a")
        response = asyncio.create_task(
            request(edge, "GET", f"/v1/streams/{writer.request_id}?after=1&wait={LONG}")
        )
        await until(lambda: meter("lore_edge_polls", ack="client") == 1)
        await edge.edge.streams.drain(0.0)
        answer = await response
        assert answer.headers["connection"] == "close"
        assert (await answer.json())["state"]["reason"] == "drain"
        refused = await poll(edge, writer.request_id)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")

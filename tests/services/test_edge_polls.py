"""Reading an answer in finished responses (protocol P18)."""

import asyncio
from dataclasses import replace

import pytest

from lore.protocol import poll as protocol
from lore.protocol.commands import Cancel, Reap, Revive
from lore.protocol.lifecycle import Status
from lore.store.base import ChunkMessage
from lore.store.memory.state import StoreState
from tests.services.edge_harness import (
    FaultyStore,
    acknowledge,
    ask,
    fork,
    running_edge,
    stream,
    until,
)
from tests.services.poll_harness import LONG, generating, poll, read, waiting


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


# what is answered


@pytest.mark.rule("P18.4")
@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
async def test_any_end_is_told_after_its_text(store: FaultyStore, status: Status):
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a")
        if status is Status.FAILED:
            await writer.finish(Status.FAILED, "the model failed")
        else:
            await store.do(Cancel(writer.request_id, retention_ms=60_000))
        told = (await poll(edge, writer.request_id, 0, LONG)).json()
        assert (told["text"], told["end"]["status"]) == ("a", status)


@pytest.mark.rule("P18.4")
async def test_much_text_comes_in_parts(store: FaultyStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(protocol, "MAX_BYTES", 2_000)
    async with running_edge(store, ring_chunks=8) as edge:
        writer = await generating(store, edge, *(f"{n} " * 10 for n in range(600)))
        await writer.finish()
        first = (await poll(edge, writer.request_id, 0, LONG)).json()
        assert 2_000 <= len(first["text"]) < 4_000
        assert first["end"] is None
        assert (await read(edge, writer.request_id))[0] == writer.text


@pytest.mark.rule("P18.6")
async def test_lost_news_is_found_as_for_a_stream(store: FaultyStore):
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a")
        task = await waiting(edge, writer.request_id, 1)
        store.loses = lambda message: isinstance(message, ChunkMessage) and message.seq == 2
        await writer.write("b", "c")
        assert (await task).json()["text"] == "bc"


# acks


@pytest.mark.rule("P18.7")
async def test_who_only_polls_never_waits_for_its_window(store: FaultyStore):
    """P5, P9: a poll after n has acknowledged n."""
    async with running_edge(store) as edge:
        writer = await generating(store, edge)
        reading = asyncio.create_task(read(edge, writer.request_id))
        for n in range(1, 21):
            await writer.write(f"{n} ", reopen_tokens=n)  # the window is closed behind each
            await until(lambda n=n: store.state._records[writer.request_id].view.acked_seq >= n)
        await writer.finish()
        text, end = await reading
        assert (text, end["last_seq"]) == (writer.text, 20)


@pytest.mark.rule("P18.8")
async def test_a_poll_that_waits_acknowledges_nothing(store: FaultyStore):
    """P7, P16: being there is no progress."""
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a", "b")
        (await poll(edge, writer.request_id)).raise_for_status()
        task = await waiting(edge, writer.request_id, 2)
        await until(lambda: store.state._records[writer.request_id].view.acked_seq == 2)
        view = store.state._records[writer.request_id].view
        await writer.write("c", reopen_tokens=3)
        assert (await task).json()["text"] == "c"
        assert store.state._records[writer.request_id].view.acked_seq == view.acked_seq
        assert (await acknowledge(edge, writer.request_id, 3)).status_code == 204


@pytest.mark.rule("P18.7")
@pytest.mark.parametrize("ack", ["socket", "none"])
async def test_other_kinds_of_ack_need_none_from_the_reader(store: FaultyStore, ack: str):
    """P8: of a finished response, too, the edge acknowledges what the peer's TCP has."""
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a", ack=ack)
        assert (await poll(edge, writer.request_id)).json()["text"] == "a"
        if ack == "socket":
            await until(lambda: store.state._records[writer.request_id].view.acked_seq == 1)
        await writer.write("b")
        await writer.finish()
        text, end = await read(edge, writer.request_id)
        assert (text, end["status"], end["last_seq"]) == ("ab", "done", 2)


# history that is lost (P4), given up (P17), or forked


@pytest.mark.rule("P4.4", "P18.6")
async def test_a_reader_below_the_fork_goes_on_in_the_other_log(store: FaultyStore):
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a", "b", "c")
        log = writer.view.log_id
        (await poll(edge, writer.request_id)).raise_for_status()
        other = await fork(store, writer, 2, "X")
        told = (await poll(edge, writer.request_id, 2, LONG, log=log)).json()
        assert (told["text"], told["log_id"]) == ("X", other.view.log_id)
        assert told["log_id"] != log


@pytest.mark.rule("P4.5", "P18.6")
@pytest.mark.parametrize("after", ["3", "3:{log}"])
async def test_a_reader_beyond_the_fork_is_told(store: FaultyStore, after: str):
    async with running_edge(store, heartbeat_s=0.02) as edge:
        writer = await generating(store, edge, "a", "b", "c")
        log = writer.view.log_id
        task = await waiting(edge, writer.request_id, 3)
        await fork(store, writer, 1, "X")
        for answer in (await task, await poll(edge, writer.request_id, after.format(log=log))):
            assert answer.status_code == 410
            assert answer.json()["error"]["code"] == "history_lost"


@pytest.mark.rule("P4.7", "P18.6")
async def test_what_the_store_lost_is_lost_and_what_never_was_is_not_found(store: FaultyStore):
    async with running_edge(store, heartbeat_s=0.02, restore_grace_s=0.1) as edge:
        writer = await generating(store, edge, "a")
        task = await waiting(edge, writer.request_id, 1)
        store.forget_since(StoreState().snapshot(), "another")
        assert (await task).json()["error"]["code"] == "history_lost"
        never = await poll(edge, "A" * 22)
        assert (never.status_code, never.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.rule("P17.11", "P18.6")
async def test_what_was_given_up_is_told_to_those_who_lack_it(store: FaultyStore):
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a", "b")
        await writer.finish()
        record = store.state._records[writer.request_id]
        record.log = []
        record.view = replace(record.view, given_up_ms=1)
        lacking = await poll(edge, writer.request_id, 1)
        assert (lacking.status_code, lacking.json()["error"]["code"]) == (410, "given_up")
        assert (await poll(edge, writer.request_id, 2)).json()["end"]["status"] == "done"


@pytest.mark.rule("P16.2")
async def test_a_reaped_request_is_waited_for_and_goes_on_once_it_is_revived(store: FaultyStore):
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a")
        await store.do(Reap(writer.request_id, idle_ms=0, retention_ms=60_000))
        told = (await poll(edge, writer.request_id)).json()
        assert (told["text"], told["state"]["status"]) == ("a", "reaped")
        task = await waiting(edge, writer.request_id, 1)
        await store.do(Revive(writer.request_id))
        assert (await task).json()["state"]["reason"] == "revived"


# what is refused


@pytest.mark.rule("P18.5")
@pytest.mark.parametrize("wait", ["", "-1", "31", "1e1", "a", "1.2345", "%2B1", "NaN", "inf"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
async def test_a_wait_that_is_none_is_named(
    store: FaultyStore, wait: str, method: str, accept: str
):
    async with running_edge(store) as edge, edge.client() as client:
        path = f"/v1/streams/{await ask(edge)}"
        answer = await client.request(method, f"{path}?wait={wait}", headers={"accept": accept})
        assert answer.status_code == 400
        if method == "GET":
            assert answer.json()["error"]["field"] == "wait"


@pytest.mark.rule("P18.6")
@pytest.mark.parametrize(("query", "field"), [("after=x", "after"), ("log=!", "log")])
async def test_a_position_is_judged_as_a_streams(store: FaultyStore, query: str, field: str):
    async with running_edge(store) as edge, edge.client() as client:
        answer = await client.get(f"/v1/streams/{await ask(edge)}?wait=1&{query}")
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


@pytest.mark.parametrize("wait", ["0", "0.001", "29.999", "30", "30.0"])
async def test_any_wait_within_its_bounds_is_taken(store: FaultyStore, wait: str):
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a")
        assert (await poll(edge, writer.request_id, 0, wait)).json()["text"] == "a"
    assert float(wait) <= protocol.MAX_WAIT_S


async def test_whoever_asks_for_a_stream_gets_one(store: FaultyStore):
    async with running_edge(store) as edge:
        response = await stream(edge, f"{await ask(edge)}?wait=1&x=")
        assert response.headers["content-type"].startswith("text/event-stream")


@pytest.mark.rule("W3")
async def test_a_head_request_does_not_wait(store: FaultyStore):
    async with running_edge(store) as edge, edge.client() as client:
        answer = await client.head(f"/v1/streams/{await ask(edge)}", params={"wait": LONG})
        assert (answer.status_code, answer.content) == (200, b"")


# readers and edges that leave


@pytest.mark.rule("E15")
async def test_an_edge_without_its_store_sends_those_away_who_wait(store: FaultyStore):
    async with running_edge(store, store_lost_s=0.3) as edge:
        await edge.edge.check_store()
        writer = await generating(store, edge, "a")
        task = await waiting(edge, writer.request_id, 1)
        store.away = True
        assert (await task).json()["state"]["reason"] == "store_lost"
        refused = await poll(edge, writer.request_id)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")


@pytest.mark.rule("E15")
async def test_a_poll_waits_for_a_store_that_is_away_for_a_moment(store: FaultyStore):
    async with running_edge(store, store_lost_s=60.0) as edge:
        writer = await generating(store, edge, *(f"{n} " for n in range(40)))
        task = await waiting(edge, writer.request_id, 40)
        store.away = True
        short = await poll(edge, writer.request_id, 0, 0)
        assert (short.status_code, short.json()["text"]) == (200, "")
        store.away = False
        await writer.write("end")
        assert (await task).json()["text"] == "end"


@pytest.mark.rule("P18.9")
async def test_a_reader_between_two_polls_is_there_and_one_who_polls_no_more_has_left(
    store: FaultyStore,
):
    """P7: before the first text."""
    async with running_edge(store, linger_s=0.3) as edge:
        writer = await generating(store, edge)

        def paused() -> bool:
            return store.state._records[writer.request_id].view.status is Status.PAUSED

        for _ in range(3):
            (await poll(edge, writer.request_id, 0, 0.2)).raise_for_status()
            assert not paused()
        await until(paused)
        (await poll(edge, writer.request_id, 0, LONG)).raise_for_status()
        await until(lambda: not paused())

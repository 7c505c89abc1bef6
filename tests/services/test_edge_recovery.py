"""What an edge does when news is lost, connections are cut, and a store forgets."""

import asyncio
import contextlib
import random
import re

import pytest

from lore.protocol.commands import Reinstate
from lore.protocol.delivery import DeliveryConfig, Step
from lore.protocol.lifecycle import Status
from lore.store.base import AckMessage, ChunkMessage, StateMessage
from lore.store.memory.state import StoreState
from lore_edge.delivery.dialect import Native
from lore_edge.delivery.reader import Reader
from lore_edge.delivery.ring import EncodedChunk
from lore_edge.wire.subject import ANONYMOUS
from tests.services.edge_harness import (
    Event,
    FaultyStore,
    RunningEdge,
    Writer,
    ask,
    fork,
    running_edge,
    stream,
    text_of,
    until,
)
from tests.services.openai_harness import MODEL

EMPTY = StoreState().snapshot()
HELLO = {"role": "user", "content": "Hello"}


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


async def generating(store: FaultyStore, edge: RunningEdge, *texts: str) -> Writer:
    writer = Writer(store, await ask(edge))
    await writer.claim()
    await writer.write(*texts)
    return writer


# gaps


@pytest.mark.rule("P10.1")
async def test_a_gap_is_filled_from_the_log_before_anything_later_goes_out(store: FaultyStore):
    async with running_edge(store) as edge:
        writer = await generating(store, edge)
        response = await stream(edge, writer.request_id)
        await writer.write("a")
        assert text_of(await response.chunks(1)) == "a"
        store.loses = lambda message: isinstance(message, ChunkMessage) and message.seq in (2, 3)
        await writer.write("b", "c")
        await writer.write("d")
        assert [e.data["seq"] for e in await response.chunks(3)] == [2, 3, 4]


@pytest.mark.rule("P4.15")
async def test_a_replica_may_serve_what_is_replayed_and_not_what_fills_a_gap(store: FaultyStore):
    async with running_edge(store) as edge:
        writer = await generating(store, edge)
        await writer.write("a", "b")
        response = await stream(edge, writer.request_id)
        assert text_of(await response.chunks(2)) == "ab"
        assert (store.reads, store.replays) == (1, 1)
        store.loses = lambda message: isinstance(message, ChunkMessage) and message.seq == 3
        await writer.write("c", "d")
        assert text_of(await response.chunks(2)) == "cd"
        assert (store.reads, store.replays) == (2, 1)


@pytest.mark.rule("P10.1")
async def test_a_gap_of_many_pages_is_filled_to_its_end(store: FaultyStore):
    async with running_edge(store) as edge:
        writer = await generating(store, edge)
        response = await stream(edge, writer.request_id)
        await response.event()
        store.loses = lambda message: isinstance(message, ChunkMessage) and message.seq < 600
        await writer.write(*(f"{n} " for n in range(600)))
        assert text_of(await response.chunks(600)) == writer.text


@pytest.mark.rule("P1.1", "P10.1")
async def test_every_pattern_of_lost_news_leaves_the_text_whole(store: FaultyStore):
    """P1, P10: half of everything is lost, in many orders; the reader must see all of it."""
    rng = random.Random(7)
    store.loses = lambda message: rng.random() < 0.5
    async with running_edge(store, heartbeat_s=0.05, ring_chunks=4) as edge:
        writer = await generating(store, edge)
        response = await stream(edge, writer.request_id)
        reading = asyncio.create_task(response.events("message", "end"))
        for n in range(200):
            await writer.write(f"{n} ")
            if rng.random() < 0.3:
                await asyncio.sleep(0)
        await writer.finish()
        events = await reading
        assert [e.data["seq"] for e in events[:-1]] == list(range(1, 201))
        assert text_of(events) == writer.text


async def test_a_lost_last_chunk_is_found_when_the_pause_is_told(store: FaultyStore):
    async with running_edge(store) as edge:
        writer = await generating(store, edge)
        response = await stream(edge, writer.request_id)
        store.loses = lambda message: isinstance(message, ChunkMessage)
        await writer.write("a", "b", reopen_tokens=2)
        assert text_of(await response.chunks(2)) == "ab"


async def test_when_all_news_is_lost_a_silence_makes_the_edge_look(store: FaultyStore):
    async with running_edge(store, heartbeat_s=0.02) as edge:
        writer = await generating(store, edge)
        response = await stream(edge, writer.request_id)
        await response.event()
        store.loses = lambda message: True
        await writer.write("a", "b", reopen_tokens=2)
        await response.until_event("state", reason="paused")
        assert text_of(await response.chunks(2)) == "ab"
        await writer.finish()
        assert (await response.event() or Event("", "", {})).name == "end"


@pytest.mark.rule("P10.1")
async def test_live_chunks_that_come_twice_or_late_go_out_once(store: FaultyStore):
    async with running_edge(store) as edge:
        writer = await generating(store, edge)
        response = await stream(edge, writer.request_id)
        await writer.write("a", "b")
        feed = edge.edge.feeds.find(writer.request_id, ANONYMOUS)
        assert feed is not None
        for message in await store.read(writer.request_id, after=0):
            feed.on_message(message)
        await writer.write("c")
        await writer.finish()
        assert text_of(await response.events()) == "abc"


@pytest.mark.rule("P4.12", "P12.2")
async def test_what_was_missed_without_a_subscription_is_read_when_it_is_back(
    store: FaultyStore,
):
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a")
        response = await stream(edge, writer.request_id)
        await response.chunks(1)
        store.loses = lambda message: True
        await writer.write("b", "c")
        store.loses = lambda message: False
        store.reset_subscriptions()
        assert text_of(await response.chunks(2)) == "bc"


@pytest.mark.rule("P12.2")
async def test_chunks_that_come_while_a_stream_opens_are_not_lost(store: FaultyStore):
    """P12: between the subscription and the first look."""
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a")
        look = store.view
        raced = False

        async def view_after_an_append(request_id: str):
            nonlocal raced
            found = await look(request_id)
            if store.following(request_id) and not raced:
                raced = True
                await writer.write("b")
                await asyncio.sleep(0)  # its message reaches the feed before the view does
            return found

        store.view = view_after_an_append
        response = await stream(edge, writer.request_id, after=1)
        assert text_of(await response.chunks(1)) == "b"


# cuts


@pytest.mark.rule("P1.1", "P12.1")
async def test_readers_cut_at_random_between_two_edges_get_every_text_once(store: FaultyStore):
    """P1, P12: 10 answers, each read over 8 cuts, wherever they fall."""
    rng = random.Random(11)
    async with running_edge(store) as one, running_edge(store, edge_id="edge-2") as two:
        writers = [await generating(store, one) for _ in range(10)]

        async def read(writer: Writer) -> str:
            events: list[Event] = []
            last_id = None
            for _ in range(8):
                response = await stream(
                    rng.choice([one, two]), writer.request_id, last_event_id=last_id
                )
                events += await response.chunks(rng.randrange(6))
                response.close()
                last_id = events[-1].id if events else None
            response = await stream(two, writer.request_id, last_event_id=last_id)
            if response.status == 200:
                events += await response.events("message")
            assert [e.data["seq"] for e in events] == list(range(1, len(events) + 1))
            return text_of(events)

        async def write(writer: Writer) -> None:
            for n in range(60):
                await writer.write(f"{n} ")
                await asyncio.sleep(rng.random() * 0.01)
            await writer.finish()

        texts, _ = await asyncio.gather(
            asyncio.gather(*map(read, writers)), asyncio.gather(*map(write, writers))
        )
        assert texts == [writer.text for writer in writers]


# the store is away


async def test_live_readers_outlast_an_absent_store(store: FaultyStore):
    async with running_edge(store, heartbeat_s=0.02) as edge:
        writer = await generating(store, edge, "a")
        response = await stream(edge, writer.request_id)
        assert text_of(await response.chunks(1)) == "a"
        store.away = True
        store.reset_subscriptions()
        await response.next_comment()
        store.away = False
        await writer.write("b")
        await writer.finish()
        events = await response.events()
        assert text_of(events) == "b"
        assert events[-1].name == "end"


async def test_a_reader_of_history_waits_for_an_absent_store(store: FaultyStore):
    async with running_edge(store, ring_chunks=1, heartbeat_s=0.02) as edge:
        writer = await generating(store, edge, "a", "b", "c")
        keeper = await stream(edge, writer.request_id, after=3)  # keeps the feed
        await keeper.event()
        store.away = True
        response = await stream(edge, writer.request_id)
        await response.next_comment()
        store.away = False
        assert text_of(await response.chunks(3)) == "abc"


# forks


@pytest.mark.rule("E3", "P4.4")
async def test_a_reader_below_the_fork_goes_on_with_ids_that_name_the_log(store: FaultyStore):
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a", "b", "c", "d")
        old_log = writer.view.log_id
        other = await fork(store, writer, 2, "X", "Y")
        new_log = other.view.log_id
        assert new_log != old_log
        response = await stream(edge, writer.request_id, after=1, log=old_log)
        chunks = await response.chunks(3)
        assert text_of(chunks) == "bXY"
        assert [e.id for e in chunks] == [f"{seq}:{new_log}" for seq in (2, 3, 4)]
        again = await stream(edge, writer.request_id, last_event_id=chunks[1].id, log=old_log)
        assert text_of(await again.chunks(1)) == "Y", "the id's log is newer than the URL's"
        whole = await stream(edge, writer.request_id)
        assert text_of(await whole.chunks(4)) == "abXY"


@pytest.mark.rule("E3", "P4.5")
@pytest.mark.parametrize("position", ["3", "4", "9"])
async def test_a_reader_beyond_the_fork_is_told_that_its_history_is_lost(
    store: FaultyStore, position: str
):
    """P4: 410 before the stream began."""
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a", "b", "c", "d")
        log_id = writer.view.log_id
        await fork(store, writer, 2, "X", "Y")
        refused = [
            await stream(edge, writer.request_id, last_event_id=position, log=log_id),
            await stream(edge, writer.request_id, after=f"{position}:{log_id}"),
            await stream(edge, writer.request_id, after=position),
            await stream(edge, writer.request_id, after=f"1:{'f' * 11}"),
        ]
        for response in refused:
            assert response.status == 410
            assert (await response.json())["error"]["code"] == "history_lost"


@pytest.mark.rule("P4.6")
async def test_an_edge_that_has_not_heard_of_a_fork_looks_before_it_says_that_history_is_lost(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch
):
    """P4: the reader comes from an edge that has heard of it."""
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a", "b", "c", "d")
        slow = await stream(edge, writer.request_id)
        assert text_of(await slow.chunks(4)) == "abcd"
        monkeypatch.setattr(store, "_dispatch", lambda publication: None)  # news is under way
        other = await fork(store, writer, 2, "X", "Y")
        newer = await stream(edge, writer.request_id, after=f"3:{other.view.log_id}")
        assert newer.status == 200
        assert text_of(await newer.chunks(1)) == "Y"


@pytest.mark.rule("P4.4", "P4.5")
async def test_a_position_that_names_no_log_is_of_the_first_one(store: FaultyStore):
    """P4: after two forks it once counted as the parent's, and was spliced."""
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a", "b", "c", "d")
        second = await fork(store, writer, 2, "X", "Y", "Z")
        await fork(store, second, 4, "!")
        assert (await stream(edge, writer.request_id, after=3)).status == 410
        of_the_parent = f"3:{second.view.log_id}"
        response = await stream(edge, writer.request_id, after=of_the_parent)
        assert text_of(await response.chunks(2)) == "Y!"


@pytest.mark.rule("P1.1", "P4.5")
@pytest.mark.parametrize("lost_news", ["none", "states", "chunks", "all"])
async def test_a_fork_during_a_stream_ends_the_readers_beyond_it_and_no_others(
    store: FaultyStore, lost_news: str
):
    """P1, P4: whatever of the news of it is lost."""
    lost = {
        "none": (),
        "states": (StateMessage,),
        "chunks": (ChunkMessage,),
        "all": (ChunkMessage, StateMessage, AckMessage),
    }[lost_news]
    async with running_edge(store, heartbeat_s=0.05) as edge:
        writer = await generating(store, edge, "a", "b", "c", "d")
        beyond = await stream(edge, writer.request_id)
        assert text_of(await beyond.chunks(4)) == "abcd"
        store.loses = lambda message: isinstance(message, lost)
        other = await fork(store, writer, 2, "X", "Y", "Z", "!")
        events = await beyond.events("message", "error")
        assert [e.name for e in events] == ["error"], "not one chunk of another log"
        assert events[0].data["error"]["code"] == "history_lost"
        below = await stream(edge, writer.request_id, after=2, log=writer.view.log_id)
        assert text_of(await below.chunks(4)) == "XYZ!"
        await other.finish()
        assert (await below.events())[-1].name == "end"


@pytest.mark.rule("P4.4")
async def test_a_live_reader_below_the_fork_reads_on_without_noticing(store: FaultyStore):
    """P4: its generator died, the store forgot what no reader had."""
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a", "b")
        response = await stream(edge, writer.request_id)
        assert text_of(await response.chunks(2)) == "ab"
        store.loses = lambda message: True
        await writer.write("c", "d")
        store.loses = lambda message: False
        other = await fork(store, writer, 2, "X", "Y")
        await other.finish()
        events = await response.events()
        assert text_of(events) == "XY"
        assert [e.id for e in events if e.name == "message"] == [
            f"3:{other.view.log_id}",
            f"4:{other.view.log_id}",
        ]


@pytest.mark.rule("P4.5")
@pytest.mark.parametrize("memory", ["page", "ring"])
async def test_what_was_in_memory_before_a_fork_is_not_sent_after_it(
    store: FaultyStore, memory: str
):
    """P4: a slow reader, below the fork, and chunks that the log no longer has."""
    async with running_edge(store) as edge, contextlib.AsyncExitStack() as uses:
        writer = await generating(store, edge)
        texts = ("a", "b", "c", "d")
        if memory == "page":
            await writer.write(*texts)
        feed = await uses.enter_async_context(edge.edge.feeds.use(writer.request_id, ANONYMOUS))
        sent: list[EncodedChunk] = []

        def take() -> None:
            if reader.next() is Step.SEND:
                sent.extend(reader.take(1).pieces)

        reader = Reader(
            feed,
            Native("edge-1", 3.0),
            DeliveryConfig(),
            position=0,
            log_id=writer.view.log_id,
            sender=None,
            now=asyncio.get_running_loop().time,
            on_news=lambda: None,
        )
        feed.readers.add(reader)
        if memory == "page":
            await reader.fetch(Step.LOAD)
        else:
            await writer.write(*texts)
        take()
        reader.on_news = take  # at once, whatever the feed is in the middle of
        await fork(store, writer, 2, "X", "Y")
        await until(lambda: feed.log_id != writer.view.log_id and feed.head == 4)
        while reader.position < 4:
            take()
            if reader.next() is Step.LOAD:
                await reader.fetch(Step.LOAD)
        data = b"".join(piece.data for piece in sent).decode()
        assert re.findall('"text": "(.)"', data) == ["a", "b", "X", "Y"]


async def test_a_position_ahead_of_the_same_log_waits_for_it(store: FaultyStore):
    """P3: the store forgot a tail that its generator sends again."""
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a", "b")
        response = await stream(edge, writer.request_id, after=3, log=writer.view.log_id)
        await writer.write("c", "d")
        await writer.finish()
        assert text_of(await response.events()) == "d"


async def test_a_position_that_an_ended_log_never_reached_is_lost_history(store: FaultyStore):
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a", "b")
        ahead = await stream(edge, writer.request_id, after=3)
        await ahead.event()
        await writer.finish()
        events = await ahead.events("error", "end")
        assert [e.name for e in events] == ["error"]
        assert (await stream(edge, writer.request_id, after=3)).status == 410


async def test_a_store_that_forgot_and_is_told_again_is_no_news_to_a_reader(store: FaultyStore):
    """P3: the same generator, the same log: nothing doubled, nothing lost."""
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a")
        before = store.state.snapshot()
        response = await stream(edge, writer.request_id)
        await writer.write("b", "c")
        assert text_of(await response.chunks(3)) == "abc"
        store.forget_since(before, "run-2")
        store.reset_subscriptions()
        await until(lambda: store.views > 3)
        await writer.append(writer.chunks[1:])
        await writer.write("d")
        await writer.finish()
        assert text_of(await response.events()) == "d"


async def test_a_request_is_followed_as_long_as_it_has_a_reader_however_late_that_begins(
    store: FaultyStore,
):
    """A loop that was busy between the feed's start and its reader's once dropped the feed."""
    async with running_edge(store, linger_s=1e-6) as edge:
        writer = await generating(store, edge)
        response = await stream(edge, writer.request_id)
        await writer.write("a")
        assert text_of(await response.chunks(1)) == "a"
        response.close()
        await until(lambda: store.following(writer.request_id) == 0)


@pytest.mark.rule("P4.7")
async def test_a_store_that_comes_back_empty_is_waited_for_until_it_is_told_again(
    store: FaultyStore,
):
    """P3: its readers hear nothing of it, those who connect meanwhile included."""
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a", "b")
        response = await stream(edge, writer.request_id)
        assert text_of(await response.chunks(2)) == "ab"
        body = await store.body(writer.request_id)
        assert body is not None
        store.forget_since(EMPTY, "run-2")
        store.reset_subscriptions()
        looked = store.views
        opening = asyncio.create_task(stream(edge, writer.request_id, after=1))
        await until(lambda: store.views > looked + 1)
        await store.do(Reinstate(writer.view, body, writer.chunks, lease_ms=60_000))
        await writer.write("c")
        await writer.finish()
        assert text_of(await response.events()) == "c"
        assert text_of(await (await opening).events()) == "bc"


@pytest.mark.rule("P4.7", "P17.1")
async def test_what_nobody_gives_back_is_told_as_lost_history(store: FaultyStore):
    """P4, P17: a queued request goes with an empty store, and its reader hears it."""
    async with running_edge(store, restore_grace_s=0.2) as edge:
        waiting = await ask(edge)
        response = await stream(edge, waiting)
        await response.event()
        store.forget_since(EMPTY, "run-2")
        store.reset_subscriptions()
        events = await response.events("error", "end")
        assert [e.data["error"]["code"] for e in events] == ["history_lost"]
        assert (await stream(edge, waiting, after=3)).status == 410


async def test_an_id_that_never_was_is_not_found_also_after_a_loss(store: FaultyStore):
    async with running_edge(store, restore_grace_s=0.2) as edge:
        assert (await stream(edge, "x" * 22)).status == 404
        store.forget_since(EMPTY, "run-2")
        assert (await stream(edge, "x" * 22)).status == 404


async def test_a_store_met_for_the_first_time_has_lost_nothing(store: FaultyStore):
    """An edge knows a store's life when it has connected, which is after it was made. It once
    took that for a loss, and each partition's first unknown id waited for the grace time."""
    store.state.run_id = ""
    async with running_edge(store) as edge:
        store.state.run_id = "run-1"
        views = store.views
        assert (await stream(edge, "x" * 22)).status == 404
        assert store.views == views + 1, "nothing waited for it"


@pytest.mark.rule("P4.7")
async def test_an_edge_without_readers_notices_a_loss(store: FaultyStore):
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a", "b")
        body = await store.body(writer.request_id)
        assert body is not None
        async with running_edge(store) as spare:
            await spare.edge.check_store()
            store.forget_since(EMPTY, "run-2")
            views = store.views
            opening = asyncio.create_task(stream(spare, writer.request_id, after=1))
            await until(lambda: store.views > views + 2)
            await store.do(Reinstate(writer.view, body, writer.chunks, lease_ms=60_000))
            await writer.finish()
            assert text_of(await (await opening).events()) == "b"


# holes


@pytest.mark.rule("P4.10")
async def test_a_reader_who_needs_what_an_ended_log_lost_is_told(store: FaultyStore):
    """P4. A broken append-only file once left such readers waiting for ever."""
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a", "b", "c", "d")
        store.holes = {3}
        await writer.finish(Status.FAILED, "the log is broken")
        events = await (await stream(edge, writer.request_id)).events("message", "error", "end")
        assert [e.name for e in events] == ["message", "message", "error"]
        assert text_of(events[:2]) == "ab"
        assert events[2].data["error"]["code"] == "history_lost"
        behind = await (await stream(edge, writer.request_id, after=3)).events("message", "end")
        assert [e.name for e in behind] == ["message", "end"]


@pytest.mark.rule("P4.10")
async def test_one_who_waits_at_the_hole_when_the_answer_ends_is_told(store: FaultyStore):
    """P4, P10: nothing behind a hole goes out, neither before nor after the end."""
    async with running_edge(store) as edge:
        writer = await generating(store, edge, "a")
        response = await stream(edge, writer.request_id)
        await response.chunks(1)
        store.loses = lambda message: isinstance(message, ChunkMessage) and message.seq == 2
        await writer.write("b", "c")
        store.holes = {2}
        await writer.finish()
        events = await response.events("message", "error", "end")
        assert [(e.name, e.data["error"]["code"]) for e in events] == [("error", "history_lost")]


@pytest.mark.rule("P4.10")
async def test_a_whole_text_with_a_hole_is_refused_as_lost(store: FaultyStore):
    """P4: and not as a store that is away, which would be asked again for ever."""
    async with running_edge(store) as edge, edge.client() as client:
        writer = await generating(store, edge, "a", "b")
        store.holes = {1}
        assert (await client.get(f"/v1/streams/{writer.request_id}")).status_code == 503
        await writer.finish()
        refused = await client.get(f"/v1/streams/{writer.request_id}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (410, "history_lost")


@pytest.mark.rule("P4.10")
async def test_a_caller_who_waits_for_the_whole_is_told_of_the_hole(store: FaultyStore):
    async with running_edge(store, model=MODEL) as edge, edge.client() as client:
        asking = asyncio.create_task(
            client.post("/v1/chat/completions", json={"model": MODEL, "messages": [HELLO]})
        )
        await until(lambda: store.state._records)
        writer = Writer(store, next(iter(store.state._records)))
        await writer.claim()
        await writer.write("a", "b")
        store.holes = {2}
        await writer.finish()
        refused = await asking
        assert (refused.status_code, refused.json()["error"]["code"]) == (410, "history_lost")

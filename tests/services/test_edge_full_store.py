"""What callers hear of a full store, and of an answer that it gave up (P17)."""

import asyncio
from typing import Any

import httpx
import pytest

from lore.protocol.commands import Ack, Cancel, GiveUp
from lore.store import MemoryStore
from lore.store.base import NewRequest, Outcome
from lore.store.keys import PARTITIONS, partition_of
from lore.store.memory import wall_clock_ms
from lore.store.types import Open, StoreFull
from lore_edge.admission.create import derived_ids
from tests.services.edge_harness import (
    Writer,
    ask,
    direct_client,
    running_edge,
    settings,
    stream,
    text_of,
    until,
)

STREAM = {"accept": "text/event-stream"}


class FullStore(MemoryStore):
    """Refuses what begins."""

    retry_after_s: float | None = 12.3

    async def do(self, command: Any) -> Any:
        if not isinstance(command, Open):
            return await super().do(command)
        full = StoreFull("the store is full")
        full.retry_after_s = self.retry_after_s
        raise full


@pytest.mark.rule("P17.12")
@pytest.mark.parametrize(("known_s", "said"), [(12.3, "13"), (0.0, "1"), (None, "60")])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/streams", {"question": "a"}),
        (
            "/v1/chat/completions",
            {"model": "default", "messages": [{"role": "user", "content": "a"}]},
        ),
        ("/v1/responses", {"model": "default", "input": "a", "background": True}),
    ],
)
async def test_a_full_store_is_told_from_one_that_is_away(
    path: str, body: dict[str, Any], known_s: float | None, said: str
) -> None:
    store = FullStore()
    store.retry_after_s = known_s
    async with direct_client(store) as client:
        answer = await client.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_full")
    assert answer.headers["retry-after"] == said


async def given_up(store: MemoryStore, request_id: str) -> None:
    """Answered, read, and given up."""
    writer = Writer(store, request_id)
    await writer.claim()
    await writer.write("one ", "two ", "three")
    await writer.finish()
    await store.do(Ack(request_id, 3))
    partition, ever = partition_of(request_id), 2**60
    assert store.state.do(GiveUp(partition, until_ms=ever, most=9), now_ms=wall_clock_ms()) == 1


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.rule("P17.11")
async def test_who_comes_for_an_answer_that_was_given_up_is_told_why() -> None:
    """410 to who needs its text; who has all of it hears its end."""
    store = MemoryStore()
    async with running_edge(store) as edge, edge.client() as client:
        request_id = await ask(edge)
        await given_up(store, request_id)
        path = f"/v1/streams/{request_id}"
        for headers, query in (
            ({}, ""),
            (STREAM, ""),
            (STREAM, "?after=2"),
            (STREAM | {"last-event-id": "1"}, ""),
        ):
            assert code_of(await client.get(path + query, headers=headers)) == (410, "given_up")
        assert code_of(await client.get(f"{path}/messages")) == (410, "given_up")
        assert (await client.get(f"{path}?after=3", headers=STREAM)).status_code == 204
        assert (await client.post(f"{path}/ack", json={"seq": 3})).status_code == 204
        assert code_of(await client.delete(path)) == (409, "already_ended")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/v1/chat/completions",
            {"model": "default", "messages": [{"role": "user", "content": "a"}]},
        ),
        ("/v1/responses", {"model": "default", "input": "a"}),
    ],
)
async def test_openais_api_says_so_too(path: str, body: dict[str, Any]) -> None:
    store = MemoryStore()
    async with running_edge(store) as edge, edge.client() as client:
        answer = asyncio.create_task(client.post(path, json=body))
        await until(lambda: bool(store.state._records))
        (request_id,) = store.state._records
        writer = Writer(store, request_id)
        await writer.claim()
        await writer.write("one ")
        await writer.finish()
        name = (await answer).json()["id"]
        await store.do(Ack(request_id, 1))
        now_ms = wall_clock_ms()
        store.state.do(GiveUp(partition_of(request_id), until_ms=now_ms, most=9), now_ms=now_ms)
        assert code_of(await client.get(f"{path}/{name}")) == (410, "given_up")


@pytest.mark.rule("P17.11")
async def test_a_reader_that_lags_when_its_answer_is_given_up_is_told() -> None:
    """Another one has acknowledged everything."""
    store = MemoryStore()
    async with running_edge(store, ring_bytes=1024) as edge:
        request_id = await ask(edge)
        slow = await stream(edge, request_id, receive_buffer=4096)
        writer = Writer(store, request_id)
        await writer.claim()
        for number in range(200):
            await writer.write(f"{number} " * 2000)
        await writer.finish()
        await store.do(Ack(request_id, 200))
        now_ms = wall_clock_ms()
        store.state.do(GiveUp(partition_of(request_id), until_ms=now_ms, most=9), now_ms=now_ms)
        store._deliver()
        events = await slow.events()
        assert events[-1].name == "error"
        assert events[-1].data["error"]["code"] == "given_up"
        text = text_of(events)
        assert writer.text.startswith(text)
        assert text != writer.text


async def test_a_key_whose_answer_was_given_up_does_not_ask_anew() -> None:
    store = MemoryStore()
    async with direct_client(store) as client:
        key = {"Idempotency-Key": "k"}
        made = await client.post("/v1/streams", json={"question": "a"}, headers=key)
        await given_up(store, made.json()["request_id"])
        again = await client.post("/v1/streams", json={"question": "a"}, headers=key)
        assert code_of(again) == (410, "given_up")


@pytest.mark.rule("H2")
async def test_keys_find_room_wherever_the_queue_has_some() -> None:
    """P17: a key's first partition may be full by chance; a retry finds what was made elsewhere,
    also once there is room in the first one again."""
    store = MemoryStore()
    async with direct_client(store, queue_limit=PARTITIONS) as client:
        first, second, *_ = derived_ids(settings().secret, "anonymous", "k")
        other = next(i for i in map(str, range(9999)) if partition_of(i) == partition_of(first))
        await store.do(Open(NewRequest(other, "s", "{}", "f", "client", 32), queue_limit=1))
        key = {"Idempotency-Key": "k"}
        made = await client.post("/v1/streams", json={"question": "a"}, headers=key)
        assert (made.status_code, made.json()["request_id"]) == (201, second)
        await store.do(Cancel(other, retention_ms=1))
        again = await client.post("/v1/streams", json={"question": "a"}, headers=key)
        assert again.json()["request_id"] == second


@pytest.mark.rule("H2")
async def test_two_posts_of_one_key_make_one_request_whatever_each_of_them_meets() -> None:
    """The first finds its partition full, and the second would find room there."""

    class Emptying(MemoryStore):
        async def do(self, command: Any) -> Any:
            answer: Any = await super().do(command)
            refused = isinstance(command, Open) and answer.outcome is Outcome.FULL
            if refused and not met.is_set():
                met.set()
                await super().do(Cancel(other, retention_ms=1))  # there is room now
                await meanwhile.wait()
            return answer

    store, met, meanwhile = Emptying(), asyncio.Event(), asyncio.Event()
    async with direct_client(store, queue_limit=PARTITIONS) as client:
        first, *_ = derived_ids(settings().secret, "anonymous", "k")
        other = next(i for i in map(str, range(9999)) if partition_of(i) == partition_of(first))
        await store.do(Open(NewRequest(other, "s", "{}", "f", "client", 32), queue_limit=1))
        key = {"Idempotency-Key": "k"}
        waits = asyncio.create_task(client.post("/v1/streams", json={"question": "a"}, headers=key))
        await met.wait()
        overtakes = await client.post("/v1/streams", json={"question": "a"}, headers=key)
        meanwhile.set()
        ids = {(await waits).json()["request_id"], overtakes.json()["request_id"]}
        assert len(ids) == 1

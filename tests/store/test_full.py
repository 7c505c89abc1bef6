"""A server whose memory is full (P17): what is given up for new requests, and what is not."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from lore.protocol.chunk import Chunk
from lore.protocol.commands import Ack, Cancel, Reap, Revive
from lore.protocol.lifecycle import Status
from lore.store import ValkeyStore
from lore.store.base import Claimed, Outcome, StateMessage
from lore.store.keys import partition_of
from lore.store.types import Admit, Limits, Open, StoreFull
from lore.store.valkey import room
from tests.store.backends import (
    RETENTION_MS,
    Backend,
    Clock,
    Deployment,
    Recorder,
    chunk,
    expire_keys,
    new,
)

FLOOR_MS = 600_000
MINUTE_MS = 60_000
LARGE = [Chunk(1, "x" * 100_000, (1,), 1), Chunk(2, "y" * 100_000, (2,), 2)]

pytestmark = pytest.mark.parametrize("deployment", ["valkey", "cluster"], indirect=True)


class Full:
    """One server, its answers of 200 kB, and its limit."""

    def __init__(self, deployment: Deployment, backend: Backend) -> None:
        self.backend, self.store = backend, backend.store
        self.server = deployment.at("a")
        port = self.server.get_connection_kwargs()["port"]
        found: dict[int, str] = {}
        for name in (f"r{number}" for number in range(1000)):
            if deployment.at(name).get_connection_kwargs()["port"] == port:
                found.setdefault(partition_of(name), name)
        self.names = iter(found.values())
        """Of this server, each in a partition of its own."""

    async def owned(self) -> Claimed:
        return await self.backend.owned(next(self.names))

    async def answer(self, *, acked: int = 2, status: Status = Status.DONE) -> str:
        """One that has ended, a minute after the one before."""
        self.backend.pass_time(MINUTE_MS)
        claimed = await self.owned()
        name = claimed.view.request_id
        await self.backend.append(claimed, *LARGE)
        if status is Status.CANCELLED:
            await self.store.do(Cancel(name, retention_ms=RETENTION_MS))
        else:
            await self.backend.finish(claimed, 3, status=status)
        if acked:
            await self.store.do(Ack(name, acked))
        return name

    def limit(self, room: int) -> None:
        """So many bytes less than it has now are too much."""
        self.server.config_set("maxmemory", self.used() + room)

    def used(self) -> int:
        info = self.server.info("memory")
        return info["used_memory"] - info["mem_not_counted_for_evict"]

    async def given_up(self, names: list[str]) -> list[str]:
        views = await asyncio.gather(*map(self.store.view, names))
        return [view.request_id for view in views if view is not None and view.given_up_ms]

    async def begin(self) -> bool:
        return (await self.store.do(Open(new(next(self.names)), queue_limit=1000))).created


@pytest.fixture
async def full(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Full]:
    monkeypatch.setattr(room, "LOOK_AGAIN_S", 0)  # the clock is moved by hand
    clock = Clock()
    store = ValkeyStore(deployment.url, clock_ms=clock, floor_ms=FLOOR_MS)
    await store.connect()
    backend = Backend(store, clock, lambda now_ms: expire_keys(deployment.admin, now_ms))
    full = Full(deployment, backend)
    yield full
    await store.close()
    full.server.config_set("maxmemory", 0)


@pytest.mark.rule("P17.9", "P17.10")
async def test_what_was_read_is_given_up_first_the_oldest_first(full: Full) -> None:
    """P17: nothing live, unread, reaped or too young."""
    unread = [await full.answer(acked=acked) for acked in (0, 1)]
    live = await full.owned()
    await full.backend.append(live, *LARGE)
    reaped = await full.owned()
    await full.backend.append(reaped, *LARGE)
    await full.store.do(Ack(reaped.view.request_id, 2))
    await full.store.do(Reap(reaped.view.request_id, idle_ms=0, retention_ms=RETENTION_MS))
    kinds = [Status.DONE, Status.FAILED, Status.CANCELLED, *[Status.DONE] * 5]
    read = [await full.answer(status=status) for status in kinds]
    full.backend.pass_time(FLOOR_MS - 1)  # the last one is too young
    full.limit(-300_000)
    assert await full.begin()
    gone = await full.given_up(read)
    assert 2 <= len(gone) < len(read)
    assert gone == read[: len(gone)]
    others = [*unread, live.view.request_id, reaped.view.request_id]
    assert await full.given_up(others) == []
    assert await full.store.log(live.view.request_id) == LARGE
    assert (await full.backend.append(live, chunk(3))).outcome is Outcome.OK
    for name in (*unread, reaped.view.request_id, *read[len(gone) :]):
        assert len(await full.store.read(name, after=0)) == 2
    for name in gone:
        assert await full.store.read(name, after=0) == []
        assert await full.store.body(name) is None


@pytest.mark.rule("P17.11")
async def test_what_is_left_of_it_tells_whose_it_was_and_expires_when_it_would_have(
    full: Full,
) -> None:
    name, reader = await full.answer(), Recorder()
    before = await full.store.view(name)
    await full.store.follow(name, reader)
    full.backend.pass_time(FLOOR_MS)
    full.limit(-1)
    assert await full.begin()
    view = await full.store.view(name)
    assert before is not None
    assert view is not None
    for field in (
        "subject",
        "status",
        "next_seq",
        "acked_seq",
        "finish_reason",
        "generated_tokens",
    ):
        assert getattr(view, field) == getattr(before, field)
    assert await reader.first(1) == [StateMessage(Status.DONE, "ended")]
    again = await full.store.do(Open(new(name), queue_limit=1000))
    assert (again.created, again.view) == (False, view)
    assert (await full.store.do(Ack(name, 2))).outcome is Outcome.OK
    full.backend.pass_time(RETENTION_MS - FLOOR_MS)
    assert await full.store.view(name) is None


@pytest.mark.rule("P17.8", "P17.12")
async def test_a_new_request_is_refused_until_the_time_that_it_is_told(full: Full) -> None:
    """P17: all that begins is refused alike; what was accepted goes on."""
    live = await full.owned()
    reaped = await full.owned()
    await full.store.do(Reap(reaped.view.request_id, idle_ms=0, retention_ms=RETENTION_MS))
    read = [await full.answer() for _ in range(3)]
    full.backend.pass_time(1000)
    full.limit(-300_000)  # more than one of them
    for begin in (
        lambda: full.begin(),
        lambda: full.store.do(Admit("a", "a", Limits(streams=1))),
        lambda: full.store.do(Revive(reaped.view.request_id)),
    ):
        with pytest.raises(StoreFull) as raised:
            await begin()
        assert raised.value.retry_after_s == (FLOOR_MS - MINUTE_MS) / 1000 - 1  # the second's turn
    assert await full.given_up(read) == []
    assert (await full.backend.append(live, *LARGE)).outcome is Outcome.OK
    assert (await full.store.do(Ack(live.view.request_id, 2))).outcome is Outcome.OK
    assert (await full.backend.finish(live, 3)).status is Status.DONE
    full.limit(-300_000)
    full.backend.pass_time(FLOOR_MS - MINUTE_MS - 1000)
    assert await full.begin()


@pytest.mark.rule("P17.12")
async def test_where_nothing_has_ended_the_floor_is_all_that_can_be_promised(full: Full) -> None:
    live = await full.owned()
    await full.backend.append(live, *LARGE)
    full.limit(-100_000)
    with pytest.raises(StoreFull) as raised:
        await full.begin()
    assert raised.value.retry_after_s == FLOOR_MS / 1000
    assert await full.store.log(live.view.request_id) == LARGE


async def test_many_who_find_a_full_server_make_room_together(full: Full) -> None:
    read = [await full.answer() for _ in range(12)]
    full.backend.pass_time(FLOOR_MS)
    full.limit(-300_000)
    names = [next(full.names) for _ in range(4)]
    asked = [full.store.do(Open(new(name), queue_limit=1000)) for name in names]
    assert all(one.created for one in await asyncio.gather(*asked))
    assert 2 <= len(await full.given_up(read)) < len(read)


async def test_who_asks_again_at_once_is_refused_without_another_look(
    full: Full, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LOOK_AGAIN_S", 3600)
    full.limit(-100_000)
    looks = 0
    for _ in range(2):
        with pytest.raises(StoreFull) as raised:
            await full.begin()
        assert raised.value.retry_after_s == FLOOR_MS / 1000
        looks = looks or full.server.info("commandstats")["cmdstat_info"]["calls"]
    assert full.server.info("commandstats")["cmdstat_info"]["calls"] == looks + 1  # this one's own

"""What replicas serve to readers who replay, and what they must not."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import valkey

from lore.store import ValkeyStore
from lore.store.base import View
from lore.store.keys import log_key, partition_of
from lore.store.valkey.client import replicas
from lore.store.valkey.client.location import Location
from tests.store.backends import Backend, Clock, chunks
from tests.valkeys import Cluster, Server, Trio

NAME = "replayed"
WHOLE = [f"word {seq} " for seq in range(1, 6)]

Group = Cluster | Trio


@pytest.fixture(params=["trio", "cluster"])
def group(request: pytest.FixtureRequest) -> Group:
    return request.getfixturevalue(request.param)


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "LOOK_EVERY_S", 0.05)


@asynccontextmanager
async def replayed(group: Group) -> AsyncIterator[tuple[ValkeyStore, View]]:
    """A log of five chunks, and a store that a replica already answers."""
    with primary_of(group).client() as client:
        client.flushall()
    store = ValkeyStore(f"{group.url}{'&' if '?' in group.url else '?'}replica_reads=yes")
    await store.connect()
    try:
        backend = Backend(store, Clock(), expire=lambda now_ms: None)
        await backend.append(await backend.owned(NAME), *chunks(1, 5))
        view = await store.view(NAME)
        assert view is not None
        async with asyncio.timeout(20):
            while await asked_of_primary(group, lambda: whole(store, view)):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        yield store, view
    finally:
        await store.close()


def primary_of(group: Group) -> Server:
    return group.primary if isinstance(group, Trio) else group.owner(partition_of(NAME))


def replicas_of(group: Group) -> list[Server]:
    primary = primary_of(group)
    if isinstance(group, Cluster):
        return [group.replica_of(primary)]
    return [server for server in group.data if server is not primary]


async def whole(store: ValkeyStore, view: View | None) -> None:
    found = await store.read(NAME, after=0, known=view)
    assert [chunk.text for chunk in found] == WHOLE


async def asked_of_primary(group: Group, read: Callable[[], Awaitable[object]]) -> int:
    """How many pages the primary gave out meanwhile."""
    before = _pages(primary_of(group))
    await read()
    return _pages(primary_of(group)) - before


def _pages(server: Server) -> int:
    with server.client() as client:
        stats: Any = client.info("commandstats")
    return stats.get("cmdstat_xrange", {}).get("calls", 0)


@pytest.mark.rule("P4.15")
async def test_a_replica_serves_what_is_replayed_and_nothing_that_is_decided_by(
    group: Group,
) -> None:
    async with replayed(group) as (store, view):
        assert await asked_of_primary(group, lambda: whole(store, view)) == 0
        assert await asked_of_primary(group, lambda: whole(store, None)) == 1
        assert await asked_of_primary(group, lambda: store.log(NAME)) == 1


async def test_a_replica_that_does_not_answer_costs_a_reader_a_moment(group: Group) -> None:
    async with replayed(group) as (store, view):
        for server in replicas_of(group):
            server.send(signal.SIGSTOP)
        try:
            assert await asked_of_primary(group, lambda: whole(store, view)) == 1
        finally:
            for server in replicas_of(group):
                server.send(signal.SIGCONT)
    await asyncio.to_thread(group.settle)


@pytest.mark.rule("P4.14")
async def test_a_replica_that_lags_makes_no_hole(trio: Trio) -> None:
    """P4: the primary is asked before anything counts as lost."""
    async with replayed(trio) as (store, view):
        _on_replicas(trio, lambda client: client.xdel(log_key(NAME), "5-0"))
        assert await asked_of_primary(trio, lambda: whole(store, view)) == 1
        _on_replicas(trio, lambda client: client.xdel(log_key(NAME), "2-0"))
        assert await asked_of_primary(trio, lambda: whole(store, view)) == 1


@pytest.mark.rule("P4.14")
async def test_a_replica_of_another_log_is_not_believed(trio: Trio) -> None:
    """P4: it has followed a primary that was replaced."""

    def overwrite(client: valkey.Valkey) -> None:
        entries: Any = client.xrange(log_key(NAME))
        client.delete(log_key(NAME))
        for number, (_, entry) in enumerate(entries, 1):
            client.xadd(log_key(NAME), entry | {"l": "other"}, id=f"{number}-0")

    async with replayed(trio) as (store, view):
        _on_replicas(trio, overwrite)
        assert await asked_of_primary(trio, lambda: whole(store, view)) == 1


def _on_replicas(trio: Trio, harm: Callable[[valkey.Valkey], object]) -> None:
    for server in replicas_of(trio):
        with server.client() as client:
            client.config_set("replica-read-only", "no")
            harm(client)
            client.config_set("replica-read-only", "yes")


def test_the_option_is_yes_or_no() -> None:
    assert Location("valkey://here?replica_reads=yes").replica_reads
    assert not Location("valkey+cluster://here").replica_reads
    with pytest.raises(ValueError, match="replica_reads must be yes or no"):
        Location("valkey://here?replica_reads=maybe")

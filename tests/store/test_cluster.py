"""What the store does in a cluster whose partitions go from one server to another.

The cluster is the session's: each test leaves it whole."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from lore.protocol.commands import Ack, Claim, Release, Silent, Waiting
from lore.store import StoreUnavailable, ValkeyStore
from lore.store.base import ChunkMessage, Outcome, Position
from lore.store.keys import log_key, partition_of, request_key
from lore.store.types import Open
from lore.store.valkey.client.functions import Functions
from tests.store.backends import LEASE_MS, Backend, Clock, Recorder, chunk, chunks, eventually, new
from tests.valkeys import Cluster


@pytest.fixture
async def on_cluster(cluster: Cluster) -> AsyncIterator[Backend]:
    for server in cluster.primaries:
        with server.client() as client:
            client.flushall()
    store = ValkeyStore(cluster.url)
    await store.connect()
    yield Backend(store, Clock(), expire=lambda now_ms: None)
    await store.close()


@pytest.fixture
def moving(cluster: Cluster) -> Iterator[Callable[[int], "Move"]]:
    """Takes a partition to another server, and back when the test is over."""
    moves: list[Move] = []

    def begin(partition: int) -> Move:
        move = Move(cluster, partition)
        moves.append(move)
        return move

    yield begin
    for move in moves:
        cluster.move([move.partition], move.source)
    cluster.settle()


class Move:
    def __init__(self, cluster: Cluster, partition: int) -> None:
        self._cluster, self.partition = cluster, partition
        self.source = cluster.owner(partition)
        self.target = next(server for server in cluster.primaries if server is not self.source)

    async def begin(self) -> None:
        """From now on what is not at the source is asked for at the target."""
        await asyncio.to_thread(self._cluster.begin_move, self.partition, self.source, self.target)

    async def end(self) -> None:
        await asyncio.to_thread(self._cluster.end_move, self.partition, self.source, self.target)


def at(store: Any, request_id: str) -> int:
    """The port that the store asks for a request."""
    functions: Functions = store._functions[partition_of(request_id)]
    return functions.endpoint.address.port


def seqs(heard: list[Any]) -> list[int]:
    return [one.seq for one in heard if isinstance(one, ChunkMessage)]


@pytest.mark.rule("P4.12", "P4.13")
async def test_calls_and_subscriptions_follow_a_partition_that_moves(
    on_cluster: Backend, moving: Callable[[int], Move]
) -> None:
    """P10, P12: its followers hear of a reset, and then of what follows."""
    store, reader, wakes = on_cluster.store, Recorder(), Recorder()
    await store.on_wake(wakes)
    claimed = await on_cluster.owned("a")
    await store.follow("a", reader)
    await on_cluster.append(claimed, chunk(1))
    await reader.until(lambda heard: seqs(heard) == [1])
    move = moving(partition_of("a"))
    await move.begin()
    await move.end()
    assert (await on_cluster.append(claimed, chunk(2))).outcome is Outcome.OK
    await reader.until(lambda heard: "reset" in heard)
    await wakes.until(lambda heard: heard[-1] == ("wake", partition_of("a")))
    assert ("wake", None) not in wakes.heard  # no server was away
    assert at(store, "a") == move.target.port
    await on_cluster.append(claimed, chunk(3))
    await reader.until(lambda heard: seqs(heard)[-1:] == [3])
    assert await store.log("a") == chunks(1, 3)
    await store.do(Release("a", "g1", claimed.view.epoch))
    await wakes.until(lambda heard: heard[-1] == ("wake", partition_of("a")))


@pytest.mark.rule("P15.11")
async def test_a_server_that_was_given_a_partition_says_nothing_about_owners(
    on_cluster: Backend, moving: Callable[[int], Move]
) -> None:
    """P15: who has no subscriber there may not have found it yet."""
    store, claimed = on_cluster.store, await on_cluster.owned("a")
    partition = partition_of("a")
    silent = (Silent(store.run_id(partition), 0, ("g1",)),)
    waiting = await store.do(Waiting(LEASE_MS, silent))
    assert [place[1] for place in waiting] == [partition]
    move = moving(partition)
    await move.begin()
    await move.end()
    assert at(store, "a") == move.source.port  # it has not heard of the move
    assert await store.do(Claim(partition, "g2", LEASE_MS, silent=silent)) is None
    found = await eventually(lambda: _at(store, "a", move.target.port))
    assert found
    again = (Silent(store.run_id(partition), 0, ("g1",)),)
    taken = await store.do(Claim(partition, "g2", LEASE_MS, silent=again))
    assert taken is not None
    assert taken.view.log_id != claimed.view.log_id


async def _at(store: Any, request_id: str, port: int) -> bool | None:
    return at(store, request_id) == port or None


async def test_a_call_on_a_partition_that_is_half_moved_waits_for_it(
    on_cluster: Backend, moving: Callable[[int], Move]
) -> None:
    """P2: a function has its keys in one place or is not done, and is done once."""
    claimed = await on_cluster.owned("a")
    move = moving(partition_of("a"))
    await move.begin()
    calls = [
        asyncio.create_task(on_cluster.append(claimed, chunk(1))),
        asyncio.create_task(on_cluster.open(ids_in_one_partition_of("a"))),
    ]
    done, _ = await asyncio.wait(calls, timeout=0.2)
    assert not done
    await move.end()
    position, opened = await asyncio.gather(*calls)
    assert position.outcome is Outcome.OK
    assert opened.created
    assert await on_cluster.store.log("a") == [chunk(1)]


def ids_in_one_partition_of(request_id: str) -> str:
    """Another request of the same partition."""
    return next(
        name
        for name in (f"other-{number}" for number in range(10_000))
        if partition_of(name) == partition_of(request_id)
    )


async def test_what_has_moved_already_is_asked_for_where_it_is(
    on_cluster: Backend, cluster: Cluster, moving: Callable[[int], Move]
) -> None:
    """ASK: the keys of one request are over there, the partition's other ones still here."""
    claimed = await on_cluster.owned("a")
    await on_cluster.append(claimed, chunk(1))
    move = moving(partition_of("a"))
    await move.begin()
    with move.source.client() as client:
        keys = (request_key("a"), log_key("a"))
        client.execute_command("MIGRATE", "127.0.0.1", move.target.port, "", 0, 5000, "KEYS", *keys)
    view = await on_cluster.store.view("a")
    assert view is not None
    assert view.next_seq == 2
    assert await on_cluster.store.log("a") == [chunk(1)]
    assert at(on_cluster.store, "a") == move.source.port
    await move.end()


@pytest.mark.rule("P4.2", "P4.11")
async def test_a_claim_after_a_move_is_from_another_server(
    on_cluster: Backend, moving: Callable[[int], Move]
) -> None:
    """P4: what is asked for at another server names that server's life, also on the call that
    was sent to the one before and redirected. Nobody can tell that nothing was lost."""
    first = await on_cluster.owned("a")
    await on_cluster.append(first, chunk(1), lease_ms=1)
    store = on_cluster.store
    before = store.run_id(partition_of("a"))
    move = moving(partition_of("a"))
    await move.begin()
    await move.end()
    second = await eventually(lambda: store.do(Claim(partition_of("a"), "g2", lease_ms=LEASE_MS)))
    assert second.view.forks == f"{first.view.log_id}:2"
    await eventually(lambda: known(store.run_id(partition_of("a")) != before))
    assert (await on_cluster.append(second, chunk(2), lease_ms=1)).outcome is Outcome.OK
    third = await eventually(lambda: store.do(Claim(partition_of("a"), "g3", lease_ms=LEASE_MS)))
    assert third.view.log_id == second.view.log_id


async def known(is_so: bool) -> bool | None:
    return is_so or None


@pytest.mark.rule("P4.11")
async def test_a_promotion_is_another_servers_life_and_nothing_is_lost_in_order(
    on_cluster: Backend, cluster: Cluster
) -> None:
    """P3, P4: an operator's failover, with nothing restarted."""
    store, reader = on_cluster.store, Recorder()
    claimed = await on_cluster.owned("a")
    await store.follow("a", reader)
    await on_cluster.append(claimed, chunk(1))
    before = store.run_id(partition_of("a"))
    await asyncio.to_thread(cluster.fail_over, partition_of("a"))

    async def append_there() -> Position | None:
        position = await on_cluster.append(claimed, *chunks(1, 2))
        return position if store.run_id(partition_of("a")) != before else None

    position = await eventually(append_there)
    assert (position.outcome, position.next_seq) == (Outcome.OK, 3)
    await reader.until(lambda heard: "reset" in heard)
    await on_cluster.append(claimed, chunk(3))
    await reader.until(lambda heard: seqs(heard)[-1:] == [3])
    await asyncio.to_thread(cluster.settle)


async def test_a_primary_that_dies_is_replaced_and_the_others_serve_meanwhile(
    on_cluster: Backend, cluster: Cluster
) -> None:
    """P3: a replica that was promoted and lacks what was acknowledged last is given it again."""
    store, reader = on_cluster.store, Recorder()
    claimed = await on_cluster.owned("a")
    await store.follow("a", reader)
    await on_cluster.append(claimed, chunk(1))
    dead = cluster.owner(partition_of("a"))
    elsewhere = next(
        name
        for name in (f"b{number}" for number in range(1000))
        if cluster.owner(partition_of(name)) is not dead
    )
    replica = cluster.replica_of(dead)
    replica.send(signal.SIGSTOP)
    with dead.client() as client:
        client.client_kill_filter(_type="slave")
    await on_cluster.append(claimed, chunk(2))  # acknowledged, and never replicated
    dead.kill()
    replica.send(signal.SIGCONT)
    assert (await on_cluster.open(elsewhere)).created
    with pytest.raises(StoreUnavailable):
        await store.do(Ack("a", 1))
    await asyncio.to_thread(cluster.until_failed_over, partition_of("a"), dead)
    lost = await eventually(lambda: on_cluster.append(claimed, chunk(3)))
    assert (lost.outcome, lost.next_seq) == (Outcome.GAP, 2)
    assert (await on_cluster.append(claimed, *chunks(2, 3))).outcome is Outcome.OK
    await reader.until(lambda heard: seqs(heard)[-1:] == [3])
    assert await store.log("a") == chunks(1, 3)
    await asyncio.to_thread(dead.start)
    await asyncio.to_thread(cluster.settle)


async def test_a_server_that_joins_gets_the_functions_with_its_first_partition(
    on_cluster: Backend, cluster: Cluster
) -> None:
    partition = partition_of("a")
    source = cluster.owner(partition)
    claimed = await on_cluster.owned("a")
    joined = await asyncio.to_thread(cluster.add)
    await asyncio.to_thread(cluster.move, [partition], joined)
    assert (await on_cluster.append(claimed, chunk(1))).outcome is Outcome.OK
    assert at(on_cluster.store, "a") == joined.port
    await asyncio.to_thread(cluster.move, [partition], source)
    await asyncio.to_thread(cluster.remove, joined)
    assert (await eventually(lambda: on_cluster.append(claimed, chunk(2)))).outcome is Outcome.OK
    await asyncio.to_thread(cluster.settle)
    nodes = on_cluster.store._servers._nodes  # type: ignore[attr-defined]
    await eventually(lambda: known(joined.address not in nodes))


async def test_a_cluster_is_found_by_any_of_its_nodes(cluster: Cluster) -> None:
    store = ValkeyStore(f"valkey+cluster://127.0.0.1:1,{cluster.servers[-1].address}")
    await store.connect()
    assert await store.queue_depth() >= 0
    await store.close()


async def test_a_node_of_a_cluster_is_not_taken_for_a_single_server(cluster: Cluster) -> None:
    server = cluster.owner(partition_of("a"))
    other = next(one for one in cluster.primaries if one is not server)
    store = ValkeyStore(f"valkey://{other.address}")
    await store.connect()
    with pytest.raises(StoreUnavailable, match=r"must begin with valkey\+cluster://"):
        await store.do(Open(new("a"), queue_limit=1))
    await store.close()


async def test_a_single_server_is_not_taken_for_a_cluster(server: Any) -> None:
    store = ValkeyStore(server.connection_url.replace("valkey", "valkey+cluster", 1))
    with pytest.raises(StoreUnavailable, match="is not a node of a cluster"):
        await store.connect()


async def test_a_cluster_that_is_not_there_is_named_without_its_password() -> None:
    store = ValkeyStore("valkey+cluster://:s3cret@127.0.0.1:1")
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1 cannot be reached") as found:
        await store.connect()
    assert "s3cret" not in str(found.value)

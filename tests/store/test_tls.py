"""Stores behind TLS that want a client certificate: one server, and groups of them."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from lore.store import StoreUnavailable, ValkeyStore
from lore.store.base import ChunkMessage, Outcome
from lore.store.keys import partition_of
from tests.store.backends import Backend, Clock, Recorder, chunk, chunks, eventually
from tests.valkeys import Cluster, Tls, Trio

LONG_MS = 120_000
"""No lease runs out while a primary is replaced."""


async def test_a_store_is_reached_by_tls_with_a_client_certificate(tls: Tls) -> None:
    store = ValkeyStore(tls.url)
    await store.connect()
    assert await store.view("nobody") is None
    await store.close()


async def test_without_a_client_certificate_there_is_no_store(tls: Tls) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await ValkeyStore(tls.anonymous_url).connect()


async def test_a_server_that_an_unknown_authority_signed_is_not_trusted(tls: Tls) -> None:
    with pytest.raises(StoreUnavailable, match="certificate verify failed"):
        await ValkeyStore(f"valkeys://127.0.0.1:{tls.port}").connect()


async def test_a_server_must_be_who_the_url_says_unless_that_is_waived(tls: Tls) -> None:
    url = tls.url.replace("127.0.0.1", "localhost")
    with pytest.raises(StoreUnavailable, match="not valid for 'localhost'"):
        await ValkeyStore(url).connect()
    store = ValkeyStore(f"{url}&ssl_check_hostname=no")
    await store.connect()
    await store.close()


@pytest.fixture(scope="module", params=[Trio, Cluster])
def group(request: pytest.FixtureRequest) -> Iterator[Trio | Cluster]:
    with request.param(tls=True) as group:
        yield group


@pytest.fixture
async def on_group(group: Trio | Cluster) -> AsyncIterator[Backend]:
    store = ValkeyStore(group.url)
    await store.connect()
    yield Backend(store, Clock(), expire=lambda now_ms: None)
    await store.close()


async def test_a_group_behind_tls_serves_an_answer_from_end_to_end(on_group: Backend) -> None:
    store, reader, wakes = on_group.store, Recorder(), Recorder()
    await store.on_wake(wakes)
    await store.follow("a", reader)
    await on_group.open("a")
    assert await wakes.first(1) == [("wake", partition_of("a"))]
    claimed = await on_group.claim("a")
    await on_group.append(claimed, *chunks(1, 3))
    await reader.until(lambda heard: seqs(heard) == [1, 2, 3])
    await on_group.finish(claimed, 4)
    assert await store.log("a") == chunks(1, 3)
    assert await store.queue_depth() == 0


async def test_a_group_does_not_take_a_client_without_a_certificate(group: Trio | Cluster) -> None:
    with pytest.raises(StoreUnavailable, match=r"cannot be reached|no primary"):
        await ValkeyStore(group.anonymous_url).connect()
    with pytest.raises(StoreUnavailable, match="certificate verify failed"):
        await ValkeyStore(re.sub("ssl_ca_certs=[^&]*&", "", group.url)).connect()


async def test_a_failover_is_followed_by_tls(on_group: Backend, group: Trio | Cluster) -> None:
    """P3"""
    reader = Recorder()
    claimed = await on_group.owned("b")
    await on_group.store.follow("b", reader)
    await on_group.append(claimed, chunk(1), lease_ms=LONG_MS)
    dead = group.primary if isinstance(group, Trio) else group.owner(partition_of("b"))
    dead.kill()
    there = await eventually(lambda: on_group.append(claimed, *chunks(1, 2), lease_ms=LONG_MS))
    assert (there.outcome, there.next_seq) == (Outcome.OK, 3)
    await reader.until(lambda heard: "reset" in heard)
    assert await on_group.store.log("b") == chunks(1, 2)
    await asyncio.to_thread(dead.start)
    if isinstance(group, Trio):
        await asyncio.to_thread(group.demote, dead)
    else:
        await asyncio.to_thread(group.settle)


def seqs(heard: list[Any]) -> list[int]:
    return [one.seq for one in heard if isinstance(one, ChunkMessage)]

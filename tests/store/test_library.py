"""The function library that a server has: lost, older, newer, and called by the release before."""

import asyncio
from typing import Any

import pytest

from lore.store import ValkeyStore
from lore.store.base import NewRequest, Outcome
from lore.store.functions import CODE, must_load, version_of
from lore.store.keys import (
    client_keys,
    partition_of,
)
from lore.store.valkey.calls import keys_of
from tests.store.backends import (
    Backend,
    Deployment,
    chunk,
    new,
)


async def test_a_lost_function_library_is_loaded_again(
    on_valkey: Backend, deployment: Deployment
) -> None:
    for server in deployment.primaries:
        server.function_flush("SYNC")
    names = [f"r{number}" for number in range(50)]
    opened = await asyncio.gather(
        *(on_valkey.store.open(new(name), queue_limit=50) for name in names)
    )
    assert all(one.created for one in opened)


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
    deployment: Deployment, on_server: str, loads: bool
) -> None:
    assert must_load(CODE, on_server) is loads
    if "register_function" not in on_server:
        return  # no server takes a library without functions
    for server in deployment.primaries:
        server.function_load(on_server, replace=True)
    store = ValkeyStore(deployment.url)
    await store.connect()
    for server in deployment.primaries:
        (library,) = server.function_list("lore", withcode=True)
        assert library[-1].decode() == (CODE if loads else on_server)
        server.function_load(CODE, replace=True)
    await store.close()


async def test_appends_of_one_turn_are_one_call_to_each_server(
    on_valkey: Backend, deployment: Deployment
) -> None:
    """Of a cluster one to each partition, whose keys lie in one slot."""
    names = [f"r{number}" for number in range(20)]
    partitions = {partition_of(name) for name in names}
    assert 1 < len(partitions) < len(names)
    for name in names:
        await on_valkey.open(name)
    owned = [await on_valkey.claim(name) for name in sorted(names, key=partition_of)]

    def calls() -> int:
        return sum(
            server.info("commandstats")["cmdstat_fcall"]["calls"] for server in deployment.primaries
        )

    before = calls()
    answers = await asyncio.gather(*(on_valkey.append(claimed, chunk(1)) for claimed in owned))
    assert {answer.outcome for answer in answers} == {Outcome.OK}
    assert calls() - before == (len(partitions) if deployment.kind == "cluster" else 1)


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

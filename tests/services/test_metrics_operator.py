"""What the operator's metrics say when their cause is there."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from lore.protocol.commands import Cancel, Renew
from lore.store import MemoryStore, StoreUnavailable, ValkeyStore
from lore.store.base import View, Vitals
from lore.store.valkey.codec import vitals_from
from lore_operator.cluster import ApiServer
from lore_operator.rbac import NEEDS
from lore_operator.settings import OperatorSettings
from lore_operator.sweeper import Sweeper
from tests.services.edge_harness import until
from tests.services.kube_stub import NAMESPACE, KubeStub, pod, policy
from tests.services.meters import ROWS, grows, meter, shows
from tests.store.backends import LEASE_MS, Backend, Clock, chunk, chunks
from tests.valkeys import Daemon

OWNER = "gen-1-0000000a"


class Held(MemoryStore):
    """``wrong`` is raised instead of an answer."""

    wrong: Exception | None = None

    async def live(self, *, limit: int = 1000) -> list[View]:
        if self.wrong is not None:
            raise self.wrong
        return await super().live(limit=limit)


class Stand:
    def __init__(self, kube: KubeStub) -> None:
        self.kube = kube
        self.clock = Clock()
        self.store = Held(clock_ms=self.clock)
        self.backend = Backend(self.store, self.clock, expire=lambda now_ms: None)
        cluster = ApiServer(NAMESPACE, kube.login)
        self.sweeper = Sweeper(OperatorSettings(), cluster, self.store, self.clock)

    async def parked(self) -> None:
        claimed = await self.backend.owned("a", OWNER)
        await self.backend.append(claimed, *chunks(1, 3), reopen_tokens=100)


@pytest.fixture
async def operator() -> AsyncIterator[Stand]:
    async with KubeStub().serve() as kube:
        await kube.put("streampolicies", policy(stall={"afterSeconds": 20}))
        await kube.put("pods", pod())
        stand = Stand(kube)
        yield stand
        await stand.sweeper.stop()


@grows("lore_sweeps_total", "ok", by=1)
@grows("lore_sweep_seconds", by=1)
@shows("lore_last_sweep_timestamp_seconds")
async def test_a_sweep_is_counted_timed_and_dated(operator: Stand) -> None:
    await operator.sweeper.sweep()
    assert meter("lore_last_sweep_timestamp_seconds") == operator.clock.now_ms / 1000


@grows("lore_sweeps_total", "store_away", by=1)
@grows("lore_sweeps_total", "failed")
@shows("lore_last_sweep_timestamp_seconds")
async def test_a_sweep_that_sees_nothing_is_told_apart_and_is_not_dated(operator: Stand) -> None:
    await operator.sweeper.sweep()
    seen_s = meter("lore_last_sweep_timestamp_seconds")
    operator.backend.pass_time(1_000)
    operator.store.wrong = StoreUnavailable("away")
    await operator.sweeper.sweep()
    operator.store.wrong = RuntimeError("a mistake of ours")
    before = meter("lore_sweeps_total", outcome="failed")
    await operator.sweeper.start()
    await until(lambda: meter("lore_sweeps_total", outcome="failed") > before)
    assert meter("lore_last_sweep_timestamp_seconds") == seen_s


@grows("lore_sweeps_total", "incomplete", by=1)
async def test_a_sweep_without_the_api_server_is_incomplete(operator: Stand) -> None:
    operator.kube.away = True
    await operator.sweeper.sweep()


@shows("lore_live_requests")
@shows("lore_queue_oldest_seconds")
async def test_a_queue_that_nobody_takes_from_grows_and_ages(operator: Stand) -> None:
    await operator.parked()
    for name in ("first", "second"):
        await operator.backend.open(name)
        operator.backend.pass_time(3_000)
    await operator.sweeper.sweep()
    assert meter("lore_live_requests", status="queued") == 2
    assert meter("lore_live_requests", status="paused") == 1
    assert meter("lore_live_requests", status="generating") == 0
    assert meter("lore_queue_oldest_seconds") == 6
    for name in ("first", "second"):
        await operator.backend.claim(name)
    await operator.sweeper.sweep()
    assert meter("lore_live_requests", status="queued") == 0
    assert meter("lore_queue_oldest_seconds") == 0


@grows("lore_requests_reaped_total", by=1)
async def test_a_window_that_stalls_is_reaped(operator: Stand) -> None:
    """P16"""
    await operator.parked()
    operator.backend.pass_time(20_000)
    await operator.sweeper.sweep()


@shows("lore_findings")
async def test_what_nobody_moves_on_is_found_and_what_moves_is_not(operator: Stand) -> None:
    await operator.kube.delete("pods", "gen-1")
    await operator.kube.put("streampolicies", policy(stall={"afterSeconds": 20, "action": "Park"}))
    await operator.parked()
    operator.backend.pass_time(700_000)
    await operator.sweeper.sweep()
    assert meter("lore_findings", finding="stalled") == 1
    assert meter("lore_findings", finding="waiting") == 0
    await operator.store.do(Cancel("a", retention_ms=60_000))
    await operator.backend.owned("lost", OWNER)
    await operator.backend.open("waits")
    operator.backend.pass_time(700_000)
    await operator.sweeper.sweep()
    assert meter("lore_findings", finding="stalled") == 0
    assert meter("lore_findings", finding="orphaned") == 1
    assert meter("lore_findings", finding="waiting") == 1


@grows("lore_leases_released_total", "gone", by=1)
async def test_the_lease_of_a_killed_generator_is_released(operator: Stand) -> None:
    claimed = await operator.backend.owned("a", OWNER)
    await operator.backend.append(claimed, chunk(1))
    await operator.sweeper.sweep()
    await operator.kube.delete("pods", "gen-1")
    await operator.sweeper.sweep()


@grows("lore_leases_released_total", "silent", by=1)
async def test_the_lease_of_a_generator_that_hangs_is_released(operator: Stand) -> None:
    """Its pod is not ready, and its leases stand still while another's move."""
    await operator.backend.owned("late", OWNER)
    moves = (await operator.backend.owned("soon", "gen-2-0000000b")).view
    await operator.kube.put("pods", pod("gen-2"))
    await operator.sweeper.sweep()
    await operator.kube.put("pods", pod(ready=False))
    for _ in range(3):
        operator.backend.pass_time(2_500)
        lease = (moves.request_id, moves.epoch, moves.log_id)
        await operator.store.do(Renew(0, moves.owner, leases=[lease], lease_ms=LEASE_MS))
        await operator.sweeper.sweep()


@shows("lore_generator_pods")
async def test_pods_are_counted_by_what_they_can_do(operator: Stand) -> None:
    await operator.kube.put("pods", pod("gen-2", ready=False))
    await operator.sweeper.sweep()
    assert meter("lore_generator_pods", state="ready") == 1
    assert meter("lore_generator_pods", state="unready") == 1
    leaving = pod("gen-1")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    await operator.kube.put("pods", leaving)
    await operator.sweeper.sweep()
    assert meter("lore_generator_pods", state="ready") == 0
    assert meter("lore_generator_pods", state="leaving") == 1


@shows("lore_operator_denied")
async def test_a_right_that_is_missing_is_named(operator: Stand) -> None:
    need = NEEDS[0]
    operator.kube.denied = {(need.verb, need.resource)}
    await operator.sweeper.sweep()
    assert meter("lore_operator_denied", right=str(need)) == 1
    operator.kube.denied = set()
    await operator.sweeper.sweep()
    assert meter("lore_operator_denied", right=str(need)) == 0


def test_every_right_has_its_name_in_the_table() -> None:
    assert set(ROWS["lore_operator_denied"].cells) == set(map(str, NEEDS))


@shows("lore_valkey_memory_used_bytes")
@shows("lore_valkey_memory_limit_bytes")
@shows("lore_valkey_replicas")
@shows("lore_valkey_replica_lag_bytes")
async def test_the_stores_server_is_looked_at(operator: Stand, monkeypatch: Any) -> None:
    async def vitals() -> Vitals:
        return Vitals(9, 10, 2, 3)

    monkeypatch.setattr(operator.store, "vitals", vitals)
    await operator.sweeper.sweep()
    assert meter("lore_valkey_memory_used_bytes") == 9
    assert meter("lore_valkey_memory_limit_bytes") == 10
    assert meter("lore_valkey_replicas") == 2
    assert meter("lore_valkey_replica_lag_bytes") == 3


async def test_a_real_valkey_tells_its_memory_and_its_limit() -> None:
    with Daemon(save="", maxmemory="64mb") as server:
        store = ValkeyStore(server.connection_url)
        await store.connect()
        vitals = await store.vitals()
        await store.close()
    assert 0 < vitals.memory_bytes < vitals.memory_limit_bytes == 64 * 1024**2
    assert (vitals.replicas, vitals.replica_lag_bytes) == (0, 0)


def test_replicas_that_are_in_step_are_told_from_those_that_are_not() -> None:
    info = """# Memory\r
used_memory:130\r
mem_not_counted_for_evict:30\r
maxmemory:0\r
# Replication\r
role:master\r
connected_slaves:3\r
slave0:ip=10.0.0.1,port=6379,state=online,offset=900,lag=0,type=replica\r
slave1:ip=10.0.0.2,port=6379,state=online,offset=400,lag=1,type=replica\r
slave2:ip=10.0.0.3,port=6379,state=wait_bgsave,offset=0,lag=0,type=replica\r
master_repl_offset:1000\r
"""
    assert vitals_from(info) == Vitals(100, 0, 2, 600)

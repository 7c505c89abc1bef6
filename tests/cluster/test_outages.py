"""What lasts: a store that is away for longer than leases, an edge that stands still, an edge that
does not reach the store. Each under readers."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from tests.cluster.killer import cut_off, frozen, has_iptables
from tests.cluster.kube import Object, until
from tests.cluster.load import STREAMS, Load
from tests.cluster.release import Release
from tests.cluster.test_release import leases_for

STORE_PORT = 6379
LEASE_S = 10
AWAY_S = 1.8 * LEASE_S


@asynccontextmanager
async def gone(release: Release) -> AsyncIterator[None]:
    """Its data is on its volume, and there is no pod."""
    workload = release.workload("valkey")
    await asyncio.to_thread(release.namespace, "scale", workload, "--replicas=0")
    await until(lambda: release.pods("valkey") == [], "the end of Valkey's pod")
    try:
        yield
    finally:
        await asyncio.to_thread(release.namespace, "scale", workload, "--replicas=1")
        await asyncio.to_thread(release.namespace.rolled_out, workload)


def unreachable(release: Release) -> AbstractAsyncContextManager[None]:
    """It runs, and no packet reaches it."""
    (pod,) = release.pods("valkey")
    return cut_off(release.namespace, pod, STORE_PORT)


async def need_iptables(release: Release, pod: Object) -> None:
    if not await has_iptables(release.namespace, pod):
        pytest.skip("the node has no iptables")


@pytest.mark.parametrize("outage", [gone, unreachable])
async def test_a_store_away_for_longer_than_leases_costs_no_reader_a_character(
    release: Release, outage: Callable[[Release], AbstractAsyncContextManager[None]]
) -> None:
    """P1, P2, P15."""
    if outage is unreachable:
        await need_iptables(release, release.pods("valkey")[0])
    async with leases_for(release, ["valkey"]):
        async with Load(release) as load:
            began_s = time.monotonic()
            async with outage(release):
                await asyncio.sleep(AWAY_S)  # how long it lasts
            away_s = time.monotonic() - began_s
            await asyncio.to_thread(release.settled)
        load.report(f"the store {outage.__name__} for {away_s:.1f} s, leases of {LEASE_S} s")
    assert load.violations == []


async def away_from_readers(release: Release, load: Load, edge: Object) -> None:
    """The node has noticed, and meanwhile every reader has had an answer."""
    uid, before = edge["metadata"]["uid"], load.ended

    def left() -> bool:
        return uid not in {pod["metadata"]["uid"] for pod in release.ready("edge")}

    await until(left, "an edge that is not ready")
    await until(lambda: load.ended >= before + STREAMS, "answers without that edge")


@pytest.mark.parametrize("kind", ["frozen", "cut off from the store"])
async def test_an_edge_that_is_there_and_serves_nobody_costs_no_reader_a_character(
    release: Release, kind: str
) -> None:
    """P1, P2."""
    edge = release.pods("edge")[0]
    if kind == "frozen":
        trouble = frozen(release.namespace, edge)
    else:
        await need_iptables(release, edge)
        trouble = cut_off(release.namespace, edge, STORE_PORT)
    async with Load(release) as load:
        async with trouble:
            await away_from_readers(release, load, edge)
        await asyncio.to_thread(release.settled)
    load.report(f"edge {kind}")
    assert load.violations == []

"""What befalls a store of several servers: a cluster's primaries die, are replaced, freeze, and
hand their partitions on; sentinels name another primary. ``python -m tests.faults.groups`` runs
each under 200 streams and says how long readers waited: the longest time between two pieces of
text of those streams that were being read when it happened."""

import argparse
import asyncio
import contextlib
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import uvloop

from loadtest.harness.record import Report, quantile
from lore.logs import configure_logging
from lore.store import ValkeyStore
from tests.faults.fleet import Fleet, Part
from tests.faults.kinds import Kind
from tests.faults.proxy import Proxy
from tests.faults.readers import Outcome, Question
from tests.faults.run import Round, run_round
from tests.parting import NEEDS, can_part
from tests.valkeys import Cluster, Group, Trio

RATE = 5
"""Tokens a second of each stream: 200 of them, and their readers, fit two cores."""
LONGEST_S = 20
BEGIN_S = 20.0
"""How long a fault waits for the streams to begin."""
MOVED_AT_ONCE = 8
FROZEN_S = 4.0
"""Longer than a primary may be silent."""


class GroupFleet(Fleet):
    """Without proxies to the store: the servers of a group tell clients where they are."""

    def __init__(self, group: Cluster | Trio, **settings: Any) -> None:
        super().__init__(**settings)
        self.group = group
        self.store = ValkeyStore(group.url)

    async def _start(self) -> None:
        await super()._start()
        self.links = replace(self.links, generator=[], edge=[])

    async def cut_store(self) -> None:
        await asyncio.to_thread(self._cut_all)

    def _cut_all(self) -> None:
        for server in self.group.servers:
            with server.client() as client:
                for kind in ("normal", "pubsub"):
                    client.execute_command("CLIENT", "KILL", "TYPE", kind)

    async def _start_valkey(self) -> None: ...

    def _url(self, link: Proxy) -> str:
        return self.group.url

    @property
    def parts(self) -> list[Part]:
        return [*self.edges, *self.generators]

    async def until_begun(self) -> None:
        """Wait for the streams that have not begun; what they wait for from now on is a pause."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BEGIN_S):
                while not all(one.is_read or one.pause_s for one in self.questions):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        for one in self.questions:
            one.was_hit, one.pause_s = one.is_read, 0.0


def _kind(name: str, what: Callable[[Any, random.Random], None], *, may_lose: bool = False) -> Kind:
    async def inject(fleet: Fleet, rng: random.Random) -> None:
        assert isinstance(fleet, GroupFleet)
        group: Any = fleet.group
        await fleet.until_begun()
        await asyncio.to_thread(what, group, rng)

    return Kind(name, inject, times=1, may_lose=may_lose)


def nothing(group: Group, rng: random.Random) -> None:
    """For comparison."""


def cluster_kill(cluster: Cluster, rng: random.Random) -> None:
    partition = rng.randrange(64)
    primary = cluster.owner(partition)
    primary.kill()
    cluster.until_failed_over(partition, primary)
    primary.start()
    cluster.settle()


def cluster_promotion(cluster: Cluster, rng: random.Random) -> None:
    cluster.fail_over(rng.randrange(64))
    cluster.settle()


def cluster_frozen(cluster: Cluster, rng: random.Random) -> None:
    """It wakes up and does not know that its replica has taken its place."""
    partition = rng.randrange(64)
    primary = cluster.owner(partition)
    primary.send(signal.SIGSTOP)
    cluster.until_failed_over(partition, primary)
    primary.send(signal.SIGCONT)
    cluster.settle()


def cluster_parted(cluster: Cluster, rng: random.Random) -> None:
    """Cut off from the other nodes alone: clients that still ask it hear of no other."""
    partition = rng.randrange(64)
    primary = cluster.owner(partition)
    with cluster.parted(primary):
        cluster.until_failed_over(partition, primary)
        time.sleep(FROZEN_S)  # it stays so, and nobody may wait for it
    cluster.settle()


def cluster_reshard(cluster: Cluster, rng: random.Random) -> None:
    source, target = rng.sample(cluster.primaries, 2)
    cluster.move(cluster.partitions_of(source)[:MOVED_AT_ONCE], target)
    cluster.settle()


def cluster_add_and_remove(cluster: Cluster, rng: random.Random) -> None:
    source = rng.choice(cluster.primaries)
    partitions = cluster.partitions_of(source)[:MOVED_AT_ONCE]
    added = cluster.add()
    cluster.move(partitions, added)
    cluster.move(partitions, source)
    cluster.remove(added)
    cluster.settle()


def sentinel_kill(trio: Trio, rng: random.Random) -> None:
    primary = trio.primary
    primary.kill()
    trio.until_failed_over(primary)
    primary.start()
    trio.settle()


def sentinel_frozen(trio: Trio, rng: random.Random) -> None:
    primary = trio.primary
    primary.send(signal.SIGSTOP)
    trio.until_failed_over(primary)
    primary.send(signal.SIGCONT)
    trio.settle()


def _careful(what: Callable[[Trio, random.Random], None]) -> Callable[[Trio, random.Random], None]:
    """As docs/store.md wants it: a primary that has no replica any more refuses to write."""

    def inject(trio: Trio, rng: random.Random) -> None:
        _must_have(trio, 1)
        what(trio, rng)
        _must_have(trio, 0)

    return inject


def _must_have(trio: Trio, replicas: int) -> None:
    for server in trio.data:
        with server.client() as client:
            client.config_set("min-replicas-max-lag", 2)
            client.config_set("min-replicas-to-write", replicas)


def sentinel_and_primary_kill(trio: Trio, rng: random.Random) -> None:
    """Two sentinels are left, which is just enough to name another primary."""
    sentinel, primary = trio.sentinels[-1], trio.primary
    sentinel.kill()
    primary.kill()
    trio.until_failed_over(primary)
    primary.start()
    sentinel.start()
    trio.settle()


def sentinel_failover(trio: Trio, rng: random.Random) -> None:
    trio.fail_over()
    trio.settle()


CUT_OFF = _kind("cluster: primary cut off", cluster_parted, may_lose=True)
CLUSTER_KINDS = (
    _kind("cluster: nothing", nothing),
    _kind("cluster: primary kill -9", cluster_kill, may_lose=True),
    _kind("cluster: primary frozen", cluster_frozen, may_lose=True),
    CUT_OFF,
    _kind("cluster: replica promoted", cluster_promotion),
    _kind("cluster: 8 partitions moved", cluster_reshard),
    _kind("cluster: node added and removed", cluster_add_and_remove),
)
CAREFUL = "min-replicas-to-write 1"
SENTINEL_KINDS = (
    _kind("sentinel: nothing", nothing),
    _kind("sentinel: primary kill -9", sentinel_kill, may_lose=True),
    _kind("sentinel: primary and a sentinel kill -9", sentinel_and_primary_kill, may_lose=True),
    _kind("sentinel: primary frozen", sentinel_frozen, may_lose=True),
    _kind(f"sentinel: primary frozen, {CAREFUL}", _careful(sentinel_frozen), may_lose=True),
    _kind("sentinel: failover asked for", sentinel_failover, may_lose=True),
    _kind(f"sentinel: failover asked for, {CAREFUL}", _careful(sentinel_failover), may_lose=True),
)
HEAD = ("", "streams", "being read", "lost", "doubled", "history_lost", "pause p50", "p99", "max")


async def faults(
    group: Group, kinds: Sequence[Kind], streams: int, seed: int, rate: int = RATE
) -> list[Round]:
    """A round of each kind."""
    rng = random.Random(seed)
    rounds: list[Round] = []
    async with AsyncExitStack() as stack:
        assert isinstance(group, Cluster | Trio)
        settings = {"slots": streams, "lease_s": 5, "synthetic_rate": rate}
        fleet = await stack.enter_async_context(GroupFleet(group, generator=settings))
        for kind in kinds:
            fleet.questions = [
                Question.draw(rng, number, max_tokens=rate * LONGEST_S) for number in range(streams)
            ]
            rounds.append(await run_round(fleet, [kind], fleet.questions, rng))
            print(*row(rounds[-1]), sep="  ", flush=True)
            for line in rounds[-1].violations:
                print(f"  VIOLATION {line}\n  logs: {fleet.folder}", flush=True)
        if not any(one.violations for one in rounds):
            fleet.forget_logs()
    return rounds


def row(this: Round) -> list[str]:
    outcomes = [question.outcome for question in this.questions]
    pauses = [question.pause_s for question in this.questions if question.was_hit]
    told, whole = outcomes.count(Outcome.TOLD), outcomes.count(Outcome.WHOLE)
    doubled = outcomes.count(Outcome.DOUBLED) + outcomes.count(Outcome.REORDERED)
    lost = len(outcomes) - told - whole - doubled
    seconds = [f"{quantile(pauses, part):.2f} s" for part in (0.5, 0.99, 1.0)]
    return [this.name, *map(str, (len(outcomes), len(pauses), lost, doubled, told)), *seconds]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.groups", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.getrandbits(32))
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--kind", action="append", help="only those with this in their name")
    options = parser.parse_args()
    configure_logging("faults", "error")
    command = f"python -m tests.faults.groups --streams {options.streams} --seed {options.seed}"
    report = Report("Streams through a store of several servers", command)
    rounds: list[Round] = []
    for group, every in ((Cluster(), CLUSTER_KINDS), (Trio(), SENTINEL_KINDS)):
        kinds = [k for k in every if not options.kind or any(w in k.name for w in options.kind)]
        if CUT_OFF in kinds and not can_part():
            kinds.remove(CUT_OFF)
            print(f"left out: {CUT_OFF.name} ({NEEDS})", flush=True)
        if kinds:
            with group:
                rounds += uvloop.run(faults(group, kinds, options.streams, options.seed))
    report.table(HEAD, [row(this) for this in rounds])
    report.publish(keep=False)
    sys.exit(any(this.violations for this in rounds))


if __name__ == "__main__":
    main()

"""Fifty streams under faults, with an operator and a Prometheus that watches all of it."""

import asyncio
import contextlib
import random
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from dashboards.prometheus import Prometheus, Target
from dashboards.rules import groups
from lore.cli.fleet import free_ports, readiness
from lore_client import Reader
from tests.faults import kinds
from tests.faults.fleet import Fleet, NotReady, Part
from tests.faults.readers import READER, Question, ask_and_read
from tests.services.kube_stub import KubeStub, pod, policy

STREAMS, SPREAD_S = 50, 4.0
"""Streams, and how long they take to begin."""
VANISHING = 6
"""Every so many readers one leaves in the middle and does not come back."""
SCRAPE_S, SCRAPED_S = 1.0, 60.0
MEMORY_BYTES = 256 * 2**20
FAULTS = (
    kinds.pubsub_kill,
    kinds.net_reset,
    kinds.generator_kill,
    kinds.net_trickle,
    kinds.edge_term,
)


@dataclass
class Run:
    """``begin_s`` and ``end_s`` bound what happened, in Unix time."""

    prometheus: Prometheus
    begin_s: float = field(default_factory=time.time)
    end_s: float = 0.0


@contextlib.asynccontextmanager
async def watched_run(
    folder: Path,
    seed: int,
    *,
    streams: int = STREAMS,
    spread_s: float = SPREAD_S,
    stall_s: int = 600,
) -> AsyncIterator[Run]:
    """All is over, and everything was scraped once more, when the context begins; the Prometheus
    is there in it.

    ``stall_s``: when answers that nobody reads are reaped; a slow reader's are, too, if it is
    short. Raises NoProgram without a Prometheus.
    """
    rng = random.Random(seed)
    async with Fleet() as fleet, KubeStub().serve() as kube:
        await kube.put("streampolicies", policy(stall={"afterSeconds": stall_s}))
        await kube.put("pods", pod())
        await fleet.valkey.admin.config_set("maxmemory", MEMORY_BYTES)
        operator = _operator(kube, fleet, folder)
        parts = [*fleet.edges, *fleet.generators, operator]
        targets = [Target(part.name, part.health_port) for part in parts]
        rules = {"groups": groups()}
        prometheus = Prometheus(folder, targets, interval_s=SCRAPE_S, rules=rules)
        try:
            await asyncio.gather(operator.restart(), _started(prometheus))
            # A ready Prometheus takes seconds to its first scrape: what happens before has no rate.
            await _all_scraped(prometheus, len(targets))
            run = Run(prometheus)
            await _streams(fleet, rng, streams, spread_s)
            await _all_scraped(prometheus, len(targets))
            run.end_s = time.time()
            yield run
        finally:
            await prometheus.stop(grace_s=5)
            if operator.is_running():
                await operator.die()
        fleet.forget_logs()


async def _streams(fleet: Fleet, rng: random.Random, count: int, spread_s: float) -> None:
    """Returns when each has been read to its end, or left."""
    questions = [Question.draw(rng, number) for number in range(count)]
    async with (
        Reader(fleet.readers, config=READER) as reader,
        Reader(fleet.readers, config=READER) as leaving,
        asyncio.TaskGroup() as tasks,
    ):
        for number, question in enumerate(questions):
            own = random.Random(rng.random())
            if number % VANISHING:
                tasks.create_task(_read(reader, question, own, spread_s))
            else:
                tasks.create_task(_vanish(leaving, question, own, spread_s))
        for inject in FAULTS:
            await asyncio.sleep(spread_s / len(FAULTS))
            await inject(fleet, rng)


async def _read(reader: Reader, question: Question, rng: random.Random, spread_s: float) -> None:
    await asyncio.sleep(rng.uniform(0, spread_s))
    await ask_and_read(reader, question, rng)


async def _vanish(reader: Reader, question: Question, rng: random.Random, spread_s: float) -> None:
    await asyncio.sleep(rng.uniform(0, spread_s))
    asked = await reader.create(messages=question.messages, seed=question.seed, ack="client")
    stream = reader.stream(asked.request_id)
    async for _ in stream:
        if stream.position >= 3:
            break
    await stream.aclose()


async def _all_scraped(prometheus: Prometheus, count: int) -> None:
    """Once more from now on. Raises NotReady."""
    since_s = time.time()
    try:
        async with asyncio.timeout(SCRAPED_S):
            while True:
                found = await prometheus.query("timestamp(up == 1)")
                fresh = [one for one in found if float(one["value"][1]) > since_s]
                if len(fresh) == count:
                    return
                await asyncio.sleep(SCRAPE_S / 4)
    except TimeoutError:
        errors = {one["labels"]["pod"]: one["lastError"] for one in await prometheus.targets()}
        raise NotReady(f"not scraped: {errors}") from None


async def _started(prometheus: Prometheus) -> None:
    await prometheus.start()
    await prometheus.until_ready()


def _operator(kube: KubeStub, fleet: Fleet, folder: Path) -> Part:
    (port,) = free_ports(1)
    env = {
        "LORE_VALKEY_URL": fleet.valkey.url,
        "LORE_HEALTH_PORT": str(port),
        "LORE_SWEEP_S": "0.5",
        "KUBECONFIG": str(kube.kubeconfig(folder / "kubeconfig")),
    }
    argv = [sys.executable, "-m", "lore_operator"]
    return Part("operator-1", argv, env, folder / "operator.log", readiness(port))

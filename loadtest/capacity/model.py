"""What one edge, one Valkey and one generator carry, and what so many streams take.

All of it is multiplication, and meant to be read. CPU is in µs a second; a core has a million.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from loadtest.capacity.inputs import Assumed, Measured
from lore.store.keys import PARTITIONS
from lore.store.valkey.client.cluster import SLOTS as PARTITION_OF_SLOT

CORE_US = 1e6
CLUSTER_SLOTS = 16_384


M, A = Measured(), Assumed()

CHUNKS = A.tokens_per_s * M.chunks_per_token
ACKS = CHUNKS * M.acks_per_chunk
REQUESTS = 1 / A.answer_s
"""Of one stream, in a second."""


def busiest(primaries: int, *, even: bool = True) -> float:
    """The share of all partitions that the primary with the most has; not ``even``: where the
    slots are dealt out in equal ranges, as ``valkey-cli --cluster create`` does."""
    if even:
        return ceil(PARTITIONS / primaries) / PARTITIONS
    counts = [0] * primaries
    for slot in PARTITION_OF_SLOT:
        counts[slot * primaries // CLUSTER_SLOTS] += 1
    return max(counts) / PARTITIONS


@dataclass(frozen=True)
class Installation:
    """Streams that share one Valkey, or one cluster of it."""

    streams: int
    slots: int
    """Requests that a generator decodes at a time."""
    primaries: int = 1

    # generators

    @property
    def generators(self) -> int:
        return ceil(self.streams / (self.slots * A.slots_in_use))

    @property
    def column(self) -> int:
        """Which of the measured pairs holds: 500 streams in one generator, or fewer."""
        return int(self.slots * A.slots_in_use >= 500)

    @property
    def opened(self) -> float:
        """Requests a second."""
        return self.streams * REQUESTS

    @property
    def generator_us(self) -> float:
        """Of its event loop, in a second."""
        chunks = CHUNKS * self.streams / self.generators * M.generator_us[self.column]
        return chunks * self._client + self.opened * M.empty_claim_caller_us

    @property
    def _client(self) -> float:
        return M.cluster_client if self.primaries > 1 else 1

    @property
    def _valkey(self) -> float:
        return M.cluster_valkey if self.primaries > 1 else 1

    # edges

    @property
    def edge_us(self) -> float:
        """Of one stream, in a second."""
        chunk_us = M.edge_us[self.column] * self._client + M.ack_edge_us
        return CHUNKS * chunk_us + REQUESTS * M.return_us

    @property
    def streams_per_edge(self) -> int:
        return int(A.utilisation * CORE_US / self.edge_us)

    @property
    def edges(self) -> int:
        return max(2, ceil(self.streams / self.streams_per_edge))

    # Valkey, all primaries together

    def valkey_parts(self) -> dict[str, tuple[float, float]]:
        """Of each kind of work: how often a second, and µs of Valkey a second."""
        request_us = M.open_us + M.claim_us + M.finish_us
        request_us += 2 * (M.follow_us + M.unfollow_us) + 2 * M.view_us
        wakes = self.opened * self.generators
        polls = self.generators * PARTITIONS
        looks = self.streams / A.sweep_s
        return {
            "chunks": self._work(self.streams * CHUNKS, M.valkey_us[self.column] * self._valkey),
            "acks": (self.streams * ACKS, self.streams * CHUNKS * M.ack_valkey_us),
            "requests": self._work(self.opened, request_us),
            "generators woken by a request": self._work(wakes, M.wake_us + M.empty_claim_us),
            "generators that poll the queues": self._work(polls, M.look_us),
            "the operator's sweeps": self._work(looks, M.view_us),
        }

    @staticmethod
    def _work(times: float, us: float) -> tuple[float, float]:
        return times, times * us

    @property
    def valkey_us(self) -> float:
        return sum(us for _, us in self.valkey_parts().values())

    @property
    def wake_share(self) -> float:
        return self.valkey_parts()["generators woken by a request"][1] / self.valkey_us

    @property
    def fits(self) -> bool:
        return self.valkey_us * busiest(self.primaries) <= A.utilisation * CORE_US

    @property
    def memory_bytes(self) -> float:
        """Of answers under way and kept, with an hour's retention, and of subscriptions."""
        return self.kept_bytes(A.retention_s) + self.subscriptions * M.subscription_bytes

    def kept_bytes(self, retention_s: float) -> float:
        return (self.streams * 0.5 + self.opened * retention_s) * M.answer_bytes

    @property
    def connections(self) -> int:
        """Of one primary: two of each edge, generator and the operator."""
        return 2 * (self.edges + self.generators + 1)

    @property
    def subscriptions(self) -> int:
        """An edge's for each request that it follows, its generator's, and those of the queues."""
        return 2 * self.streams + PARTITIONS * self.generators


def most(fits: Callable[[int], bool]) -> int:
    """The largest number of streams that fits, to two figures."""
    low, high = 1, 2
    while fits(high):
        low, high = high, 2 * high
    while high - low > max(1, low // 200):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    step = 10 ** max(0, len(str(low)) - 2)
    return low // step * step


def most_streams(primaries: int, slots: int) -> int:
    return most(lambda streams: Installation(streams, slots, primaries).fits)


def primaries_for(streams: int, slots: int) -> int | None:
    """The fewest, with the partitions dealt out evenly; None where 64 are not enough."""
    return next((n for n in range(1, PARTITIONS + 1) if Installation(streams, slots, n).fits), None)


@dataclass(frozen=True)
class Sizing:
    """Cells that know nothing of each other, each an installation."""

    streams: int
    cells: int
    cell: Installation


CELL_PRIMARIES = 16


def sizing(streams: int, slots: int) -> Sizing:
    """One installation while it takes ``CELL_PRIMARIES`` at most, which leaves room to grow."""
    cells = ceil(streams / most_streams(CELL_PRIMARIES, slots))
    each = ceil(streams / cells)
    primaries = primaries_for(each, slots)
    assert primaries is not None
    return Sizing(streams, cells, Installation(each, slots, primaries))


@dataclass(frozen=True)
class Storm:
    """Readers of edges that are gone come back."""

    readers: float
    """Of each edge that is left."""
    spare: float
    """Of its core."""

    @property
    def peak(self) -> float:
        """GETs a second."""
        return self.readers / A.first_try_s

    @property
    def seconds(self) -> float:
        """Until all are served, if none asks twice."""
        return max(A.first_try_s, self.readers * M.return_us / (self.spare * CORE_US))


def one_edge_dies(one: Installation) -> Storm:
    left = one.edges - 1
    return Storm(one.streams / one.edges / left, max(0.01, 1 - A.utilisation))


def all_edges_lose_their_readers(one: Installation) -> Storm:
    """A balancer in front of all of them starts anew. Nothing else is to do meanwhile."""
    return Storm(one.streams / one.edges, 1)


def primary_fails_over_s(one: Installation) -> float:
    """Of the new primary's core: both sides subscribe, look, read a second's chunks and report."""
    each_us = 2 * M.follow_us + M.view_us + CHUNKS * M.read_us + M.renew_us
    return one.streams * busiest(one.primaries) * each_us / CORE_US


def parked_us() -> float:
    """µs of Valkey a second for a request whose reader lets it stand: its lease is renewed."""
    return 4 / A.lease_s * M.renew_us


def edge_mib(streams: int, each_kib: float) -> float:
    return M.edge_mib + streams * each_kib / 1024


def silence_s(streams: int) -> float:
    """How long an edge may read nothing before one Valkey cuts its subscriptions off."""
    return A.pubsub_hard_bytes / (streams * CHUNKS * M.valkey_out_bytes)


def limits(slots: int) -> list[tuple[float, str, str]]:
    """(streams, what is full, what then) of one installation as it comes, in this order."""
    edge, gpu = Installation(1000, slots), A.streams_per_gpu
    loop = A.utilisation * CORE_US / (CHUNKS * M.generator_us[edge.column])
    bundled = A.bundled_bytes / (M.answer_bytes * (0.5 + A.retention_s * REQUESTS))
    sweeper = A.sweep_s * CORE_US / M.view_caller_us
    clients = most(lambda n: Installation(n, slots, PARTITIONS).connections <= A.max_clients)
    quarter = most(lambda n: Installation(n, slots).wake_share <= 0.25)
    node = A.conntrack / 2 / A.connections_per_reader
    found = [
        (bundled, "memory of the bundled Valkey (1 GiB, answers kept for an hour)",
         "read answers are given up, then requests refused; add memory, or shorten the retention"),
        (gpu, "KV memory of one GPU (Qwen3-8B on 80 GB, contexts of 800 tokens)",
         "requests wait in the queue; add generators"),
        (edge.streams_per_edge, "the core of one edge", "delivery lags; add edges"),
        (most_streams(1, slots), "the core of one Valkey", "everything lags; use a cluster"),
        (loop, "the core of one generator's event loop",
         "tokens wait to be appended; add generators"),
        (quarter, "a quarter of Valkey's CPU goes to waking generators",
         "use fewer, larger generators, or another installation"),
        (most_streams(PARTITIONS, slots), "the cores of 64 primaries",
         "there are no more partitions; add an installation"),
        (node, "conntrack of one node (262,144), with all edges on it",
         "connections are dropped; spread the edges, or raise the limit"),
        (sweeper, "the operator's core", "sweeps take longer than 5 s"),
        (clients, "10,000 connections per primary (maxclients)",
         "components cannot connect; raise it, or add an installation"),
    ]  # fmt: skip
    return sorted(found, key=lambda one: one[0])

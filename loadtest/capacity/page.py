"""The tables of ``docs/capacity.md``, each between two marks that carry its name."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from loadtest.capacity.model import (
    ACKS,
    CELL_PRIMARIES,
    CHUNKS,
    CORE_US,
    A,
    Installation,
    M,
    all_edges_lose_their_readers,
    busiest,
    edge_mib,
    limits,
    most_streams,
    one_edge_dies,
    parked_us,
    primary_fails_over_s,
    silence_s,
    sizing,
)

SLOTS = 512
"""Of a generator with a GPU of its own; 0.8 of them are what its KV memory holds, or a few less."""
SIZES = (1_000, 100_000, 10_000_000)
STEPS = (1, 4, 16, 64)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def count(number: float) -> str:
    """Three figures, and no more."""
    if number < 10:
        return f"{number:.2g}" if number % 1 else f"{number:.0f}"
    digits = max(0, len(str(int(number))) - 3)
    return f"{round(number / 10**digits) * 10**digits:,}"


def size(octets: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if octets < 999.5:
            return f"{count(octets)} {unit}"
        octets /= 1000
    return f"{count(octets)} PB"


def percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def inputs() -> str:
    return table(
        ("per chunk", "generator µs", "Valkey µs", "edge µs"),
        [
            [f"{streams} streams per generator", M.generator_us[i], M.valkey_us[i], M.edge_us[i]]
            for i, streams in enumerate((100, 500))
        ]
        + [["added by acknowledgments", "-", f"{M.ack_valkey_us:.1f}", f"{M.ack_edge_us:.1f}"]],
    )


def one_of_each() -> str:
    one = Installation(1000, SLOTS)
    loop_us = CHUNKS * M.generator_us[0]
    valkey = most_streams(1, SLOTS)
    full = A.utilisation * CORE_US
    rows = [
        ["an edge", one.streams_per_edge, one.edge_us],
        ["a Valkey server", valkey, Installation(valkey, SLOTS).valkey_us / valkey],
        ["a generator's event loop", full / loop_us, loop_us],
    ]
    return table(
        (f"one core at {percent(A.utilisation)}", "streams", "chunks/s", "µs/s per stream"),
        [[name, count(n), count(n * CHUNKS), count(us)] for name, n, us in rows]
        + [["a GPU, limited by KV memory", count(A.streams_per_gpu),
            count(A.streams_per_gpu * CHUNKS), "-"]],
    )  # fmt: skip


def stream_second() -> str:
    streams = most_streams(CELL_PRIMARIES, SLOTS)
    one = Installation(streams, SLOTS, CELL_PRIMARIES)
    rows = [
        [name, f"{times / streams:.3g}", f"{us / streams:.0f}", percent(us / one.valkey_us)]
        for name, (times, us) in one.valkey_parts().items()
    ]
    return table((f"one stream of {streams:,}", "per second", "Valkey µs", "share"), rows)


def stream_bytes() -> str:
    rows = [
        ["generators and edges to Valkey", CHUNKS * M.valkey_in_bytes],
        ["Valkey to generators and edges", CHUNKS * M.valkey_out_bytes],
        ["edge to reader, in HTTP", CHUNKS * M.reader_bytes],
    ]
    return table(("one stream", "per second"), [[name, size(octets)] for name, octets in rows])


def installations() -> str:
    rows: list[list[Any]] = []
    for slots in (64, SLOTS):
        for primaries in STEPS:
            streams = most_streams(primaries, slots)
            one = Installation(streams, slots, primaries)
            row = [slots, primaries, f"{streams:,}", one.generators, one.edges]
            rows.append([*row, percent(one.wake_share), f"{one.connections:,}"])
    head = ("slots per generator", "primaries", "streams", "generators", "edges")
    return table((*head, "Valkey CPU for wake-ups", "connections per primary"), rows)


def placement() -> str:
    rows = [
        [
            n,
            round(64 * busiest(n)),
            f"{1 / busiest(n):.3g}",
            round(64 * busiest(n, even=False)),
            f"{1 / busiest(n, even=False):.3g}",
        ]
        for n in (3, 4, 6, 8, 16, 32, 64)
    ]
    head = ("primaries", "balanced: most partitions on one", "effective", "equal slot ranges: most")
    return table((*head, "effective"), rows)


def sizes() -> str:
    all_of = [sizing(streams, SLOTS) for streams in SIZES]

    def flow(octets: float) -> list[str]:
        return [f"{size(s.streams * CHUNKS * octets)}/s" for s in all_of]

    lines: list[tuple[str, list[str]]] = [
        ("installations", [count(s.cells) for s in all_of]),
        ("streams per installation", [f"{s.cell.streams:,}" for s in all_of]),
        ("chunks/s", [count(s.streams * CHUNKS) for s in all_of]),
        ("acks/s", [count(s.streams * ACKS) for s in all_of]),
        ("new requests/s", [count(s.streams / A.answer_s) for s in all_of]),
        (f"generators of {SLOTS} slots, one GPU each",
         [count(s.cells * s.cell.generators) for s in all_of]),
        ("edges (one core each)", [count(s.cells * s.cell.edges) for s in all_of]),
        ("Valkey primaries (and as many replicas)",
         [count(s.cells * s.cell.primaries) for s in all_of]),
        ("connections per primary", [count(s.cell.connections) for s in all_of]),
        ("subscriptions per primary", [count(_on_one(s.cell)) for s in all_of]),
        ("to Valkey, total", flow(M.valkey_in_bytes)),
        ("from Valkey, total", flow(M.valkey_out_bytes)),
        ("to readers, total", flow(M.reader_bytes)),
        ("answers kept for an hour", [size(s.cells * s.cell.memory_bytes) for s in all_of]),
        ("in one primary", [size(s.cell.memory_bytes * _share(s.cell)) for s in all_of]),
        ("in one primary with `retentionS: 300`",
         [size(s.cell.kept_bytes(300) * _share(s.cell)) for s in all_of]),
        ("metric series", [count(s.cells * _series(s.cell)) for s in all_of]),
    ]  # fmt: skip
    head = [f"{streams:,} streams" for streams in SIZES]
    return table(("", *head), [[name, *cells] for name, cells in lines])


def storms() -> str:
    cells = [sizing(streams, SLOTS).cell for streams in SIZES[:2]]
    lines: list[tuple[str, list[str]]] = [
        ("an edge dies: readers that reconnect", [count(c.streams / c.edges) for c in cells]),
        ("GETs per second at each other edge, in the first 0.25 s",
         [count(one_edge_dies(c).peak) for c in cells]),
        ("minimum time until all are served",
         [f"{one_edge_dies(c).seconds:.2f} s" for c in cells]),
        ("all edges lose all readers: GETs per second at each",
         [count(all_edges_lose_their_readers(c).peak) for c in cells]),
        ("minimum time until all are served",
         [f"{all_edges_lose_their_readers(c).seconds:.2f} s" for c in cells]),
        ("a primary fails over: CPU of the new one for reconnects",
         [f"{primary_fails_over_s(c):.2f} s" for c in cells]),
    ]  # fmt: skip
    head = [f"{c.streams:,} streams, {c.edges} edges" for c in cells]
    return table(("", *head), [[name, *row] for name, row in lines])


def room() -> str:
    streams = Installation(1000, SLOTS).streams_per_edge
    sockets = streams * A.connections_per_reader
    whole = edge_mib(streams, A.connections_per_reader * M.connection_kib)
    slow = edge_mib(streams, M.slow_reader_kib)
    parked = A.utilisation * CORE_US / parked_us()
    rows = [
        [f"readers of an edge at {percent(A.utilisation)}", f"{streams}, {sockets} connections"],
        ["memory of that edge; if its readers read nothing", f"{whole:.0f} MiB; {slow:.0f} MiB"],
        ["its file descriptors, with 64 primaries", f"about {sockets + 2 * 64}"],
        ["ports of one balancer address to one edge", f"{A.ports:,}"],
        ["conntrack of a node (262,144 entries, both sides of a proxy)",
         f"{A.conntrack // (2 * sockets)} edges"],
        ["time until one Valkey cuts off a stuck edge (32 MiB)", f"{silence_s(streams):.0f} s"],
        ["Valkey CPU for a parked request, per second",
         f"{parked_us():.1f} µs: {count(parked)} on a core"],
    ]  # fmt: skip
    return table(("resource", "value"), rows)


def first() -> str:
    rows = [[count(streams), what, then] for streams, what, then in limits(SLOTS)]
    return table(("streams", "bottleneck", "effect and remedy"), rows)


def _share(one: Installation) -> float:
    return busiest(one.primaries)


def _on_one(one: Installation) -> float:
    return one.subscriptions * _share(one)


def _series(one: Installation) -> int:
    return one.edges * M.series_edge + one.generators * M.series_generator


TABLES = {
    "inputs": inputs,
    "one of each": one_of_each,
    "stream-second": stream_second,
    "bytes": stream_bytes,
    "installations": installations,
    "placement": placement,
    "sizes": sizes,
    "storms": storms,
    "room": room,
    "first": first,
}


def page(before: str) -> str:
    """The page with its tables made anew. Raises KeyError for a table that is not known."""
    return re.sub(
        r"(<!-- (.+?) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}",
        before,
        flags=re.DOTALL,
    )

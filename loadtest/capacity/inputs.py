"""What the sizing stands on: ``Measured`` is the only place with measured numbers, ``Assumed`` says
what readers do and how full things may be.

After a change: ``python -m loadtest.capacity docs/capacity.md``. CPU is in µs.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """Each group says where it stands. Pairs are for 100 and for 500 streams of one generator."""

    # RESULTS.md, "What a delivered chunk costs": CPU µs of each, ack none
    generator_us: tuple[float, float] = (29.2, 16.1)
    valkey_us: tuple[float, float] = (27.7, 17.7)
    edge_us: tuple[float, float] = (31.8, 23.4)

    # RESULTS.md, "What acknowledgments cost": what clients that acknowledge add to each chunk,
    # 100 streams
    ack_valkey_us: float = 35.6 - 29.9
    ack_edge_us: float = 66.0 - 33.8

    # RESULTS.md, "What a request costs": bytes
    chunks_per_token: float = 278 / 300
    acks_per_chunk: float = 0.13
    valkey_in_bytes: float = 295
    valkey_out_bytes: float = 178
    reader_bytes: float = 69
    subscription_bytes: float = 250

    # the same: CPU µs of Valkey for each call
    open_us: float = 37.6
    claim_us: float = 45.4
    finish_us: float = 32.2
    follow_us: float = 5.6
    unfollow_us: float = 0.3
    view_us: float = 10.4
    read_us: float = 0.6  # of each chunk in a page
    renew_us: float = 23.2
    look_us: float = 4.7  # at one partition's queue
    empty_claim_us: float = 11.7
    wake_us: float = 1.2  # of each generator that hears of a request

    # the same: CPU µs of the caller
    empty_claim_caller_us: float = 50.4
    view_caller_us: float = 36.5

    # RESULTS.md, "What an answer takes in the store": bytes of an answer that is kept, with its
    # request. Each of its 300 tokens is a chunk, which is the most
    answer_bytes: float = 18_824

    # RESULTS.md, "2,000 idle connections, a reconnect storm, a drain"
    edge_mib: float = 74
    slow_reader_kib: float = 306
    return_us: float = 520  # of the edge, for each reader that comes back

    # RESULTS.md, "What one edge carries": of an idle connection
    connection_kib: float = 20.4

    # RESULTS.md, "A cluster against a single server": what a chunk costs there, times; of Valkey
    # it is the sum of 3 primaries to one of 1
    cluster_client: float = 1.21
    cluster_valkey: float = (7.23 + 6.56 + 12.67) / 25.27

    # counted in core/lore/metrics.py, every label's value
    series_edge: int = 451
    series_generator: int = 483


@dataclass(frozen=True)
class Assumed:
    """What readers do, how full things may be, and limits that others set."""

    tokens_per_s: float = 20
    answer_tokens: int = 300
    prompt_tokens: int = 500
    retention_s: float = 3600
    utilisation: float = 0.6
    """Of a core. What is left carries peaks, a lost neighbour and the collector of garbage."""
    slots_in_use: float = 0.8

    lease_s: float = 10
    sweep_s: float = 5
    first_try_s: float = 0.25  # readers of a lost edge come back within this, evenly
    bundled_bytes: float = 2**30  # the chart's valkey.bundled.maxMemory, 1gb
    max_clients: int = 10_000  # Valkey's default
    pubsub_hard_bytes: float = 32 * 2**20  # Valkey's default for what waits for one subscriber
    ports: int = 28_232  # Linux's net.ipv4.ip_local_port_range
    conntrack: int = 262_144  # a usual net.netfilter.nf_conntrack_max of a node
    connections_per_reader: int = 2  # the stream, and one that its acks share

    # Qwen3-8B in bfloat16 on 80 GB: 36 layers, 8 KV heads of 128, keys and values of 2 bytes each
    kv_bytes_per_token: int = 36 * 8 * 128 * 2 * 2
    kv_room_bytes: float = 0.9 * 80e9 - 16.4e9

    @property
    def answer_s(self) -> float:
        return self.answer_tokens / self.tokens_per_s

    @property
    def streams_per_gpu(self) -> int:
        return int(
            self.kv_room_bytes
            // (self.kv_bytes_per_token * (self.prompt_tokens + self.answer_tokens))
        )

"""Every metric that Lore exports, named in one place (Prometheus conventions, base units).

No label holds an id: cardinality is bounded by the code, not by the load.
"""

from prometheus_client import Counter, Gauge, Histogram

_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_WAIT_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

# Edge

EDGE_BUFFER_UTILIZATION = Gauge(
    "lore_edge_buffer_utilization_ratio",
    "Bytes that wait in this edge to be written, over those that may wait",
)
EDGE_CONNECTIONS = Gauge("lore_edge_connections", "Open streams", ["ack"])
CHUNKS_SENT = Counter("lore_chunks_sent_total", "Chunks written to readers for the first time")
RETRANSMISSIONS = Counter(
    "lore_retransmissions_total", "Chunks written to a reader again", ["reason"]
)
RESUMES = Counter("lore_resumes_total", "Streams that began after the first chunk", ["reason"])
GAP_FILLS = Counter("lore_gap_fills_total", "Reads of the log because live news was missing")
SLOW_READERS = Counter("lore_slow_readers_total", "Times a reader fell back to reading the log")
CHUNK_TRANSMISSION = Histogram(
    "lore_chunk_transmission_seconds", "From append to the socket", buckets=_LATENCY_S
)
ACK_ROUND_TRIP = Histogram(
    "lore_ack_round_trip_seconds", "From a chunk's write to its ack", buckets=_LATENCY_S
)
ACK_PROCESSING = Histogram(
    "lore_ack_processing_seconds", "From an ack's arrival to the store's answer", buckets=_LATENCY_S
)
REQUESTS_REFUSED = Counter("lore_requests_refused_total", "Requests not accepted", ["code"])

# Generator

GENERATOR_REQUESTS = Gauge("lore_generator_requests", "Requests this generator owns", ["state"])
GENERATOR_SLOTS = Gauge("lore_generator_slots", "Requests that decode well side by side")
KV_USED = Gauge("lore_generator_kv_used_ratio", "KV memory in use")
TOKENS_GENERATED = Counter("lore_tokens_generated_total", "Tokens decoded")
CHUNKS_APPENDED = Counter("lore_chunks_appended_total", "Chunks added to logs")
REQUESTS_ENDED = Counter("lore_requests_ended_total", "Requests that ended here", ["status"])
TAKEOVERS = Counter("lore_takeovers_total", "Requests continued from another owner's log")
FENCED = Counter("lore_fenced_appends_total", "Appends refused because the lease was lost")
WINDOW_STALLS = Counter("lore_window_stalls_total", "Times a closed window parked a request")
QUEUE_WAIT = Histogram("lore_queue_wait_seconds", "From acceptance to claim", buckets=_WAIT_S)
TIME_TO_FIRST_TOKEN = Histogram(
    "lore_time_to_first_token_seconds", "From acceptance to the first chunk", buckets=_WAIT_S
)
INTER_TOKEN = Histogram(
    "lore_inter_token_seconds", "Between a request's decoding steps", buckets=_LATENCY_S
)

# Operator

SWEEPS = Counter("lore_sweeps_total", "Looks at all live requests", ["outcome"])
SWEEP_DURATION = Histogram("lore_sweep_seconds", "How long a sweep takes", buckets=_LATENCY_S)
LIVE_REQUESTS = Gauge("lore_live_requests", "Live requests in the last sweep", ["status"])
QUEUE_OLDEST = Gauge("lore_queue_oldest_seconds", "How long the oldest waiting request has waited")
FINDINGS = Gauge("lore_findings", "Requests that nobody moves on", ["finding"])
REQUESTS_REAPED = Counter("lore_requests_reaped_total", "Stalled requests taken from generators")
LEASES_RELEASED = Counter(
    "lore_leases_released_total", "Requests taken from generators that were lost", ["loss"]
)
OPERATOR_DENIED = Gauge(
    "lore_operator_denied", "1 where RBAC denies what the operator needs", ["verb", "resource"]
)

"""Every metric that Lore exports: names, labels, buckets and help in one table, by service.

Names follow Prometheus (base units, ``_total`` for counters). No label holds an id, and each
declares its values, so that their number is bounded here and does not depend on the load.
``docs/metrics.md`` is generated from this module: ``make metrics``.
"""

from collections.abc import Iterator, Mapping
from importlib.metadata import version

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import InfoMetricFamily
from prometheus_client.registry import Collector

from lore.metering import Exporter, Row, Table

_CALL_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
_TRANSMISSION_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30)
_ROUND_TRIP_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TOKEN_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2.5, 10)
_WAIT_S = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_SPEED = (1, 2, 5, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500)
_RATIO = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)

_ACKS = ("client", "socket", "none")

every, edge, generator, operator = Table(), Table(), Table(), Table()

# Every service

STORE_FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    "edge": (
        *("lore_open", "lore_ack", "lore_cancel", "lore_revive", "lore_forget", "lore_admit"),
        *("lore_settle", "lore_leave", "lore_give_up", "lore_readers"),
        *("ZADD", "ZRANGE", "ZREM", "ZREMRANGEBYSCORE", "PEXPIREAT"),
        *("HMGET", "HGET", "XRANGE", "SSUBSCRIBE", "other"),
    ),
    "generator": (
        *("lore_claim", "lore_append_all", "lore_finish", "lore_renew", "lore_release"),
        *("lore_prompt", "lore_reinstate", "lore_waiting", "lore_meet", "PUBSUB"),
        *("HSET", "PEXPIREAT"),
        *("HMGET", "XRANGE", "SSUBSCRIBE", "other"),
    ),
    "operator": ("lore_reap", "lore_release", "HMGET", "ZRANGE", "INFO", "other"),
}
"""The commands of the store that each service calls; any other is counted as ``other``."""
_FUNCTIONS = dict.fromkeys(name for names in STORE_FUNCTIONS.values() for name in names)
_LINKS = ("calls", "subscriptions")

STORE_CALL = every.histograms(
    "lore_store_call_seconds",
    "From sending a command to the store to its reply, including errors",
    _CALL_S,
    function=_FUNCTIONS,
)
STORE_ERRORS = every.counters(
    "lore_store_errors_total",
    "Commands to the store that failed: it did not answer, or refused",
    function=_FUNCTIONS,
)
STORE_CONNECTIONS = every.gauges(
    "lore_store_connections", "Usable connections to the store", link=_LINKS
)
STORE_LOST = every.counters(
    "lore_store_connections_lost_total", "Lost connections to the store", link=_LINKS
)
LOOP_LAG = every.histogram(
    "lore_event_loop_lag_seconds",
    "How late a timer of the event loop fires, sampled four times a second",
    _CALL_S,
)
LOG_LINES_LOST = every.counter(
    "lore_log_lines_lost_total",
    "Log lines that could not be written: the disk is full, or the pipe has no reader",
)

# Edge

REFUSALS = (
    *("queue_full", "too_many_streams", "too_many_requests", "too_many_tokens"),
    *("prompt_too_long", "context_length_exceeded", "answer_too_long", "unauthorized"),
    *("store_unavailable", "store_full", "auth_unavailable", "draining"),
    *("invalid_http", "url_too_long", "headers_too_large", "request_timeout", "body_too_large"),
    *("not_implemented", "http_version_not_supported", "expectation_failed"),
)
OUTCOMES = ("done", "failed", "cancelled", "history_lost", "given_up", "gone", "cut")

EDGE_BUFFER_UTILIZATION = edge.gauge(
    "lore_edge_buffer_utilization_ratio",
    "Bytes buffered for readers who are ready for them, over the bytes that may be buffered. It is "
    "full if the edge is too slow, never because a reader is",
)
DELIVERY_LAG = edge.gauge(
    "lore_edge_delivery_lag_seconds",
    "The longest time that a reader who is ready has waited for a chunk that is in the log. Beyond "
    "some seconds, delivery is stalled",
)
CONNECTIONS = edge.gauges("lore_edge_connections", "Open streams, by ack kind", ack=_ACKS)
POLLS_WAITING = edge.gauges(
    "lore_edge_polls",
    "Waiting long polls, by ack kind. Most readers poll because something on the path buffers "
    "streams",
    ack=_ACKS,
)
BLOCKED_CONNECTIONS = edge.gauge(
    "lore_edge_blocked_connections", "Open streams whose reader accepts nothing at the moment"
)
OPEN_CONNECTIONS = edge.gauge(
    "lore_edge_open_connections", "Connections to this edge, including idle ones"
)
CONNECTIONS_REFUSED = edge.counters(
    "lore_edge_connections_refused_total",
    "Connections closed because there were too many: an idle one to make room, a new one at the "
    "edge's limit, or a new one at the limit of its address",
    reason=("evicted", "limit", "address"),
)
FEEDS = edge.gauge("lore_edge_feeds", "Requests that this edge follows for its readers")
STREAMS_ENDED = edge.counters(
    "lore_edge_streams_ended_total",
    "Streams that ended: with the answer, or because the reader left, was sent elsewhere, did not "
    "respond to any retransmission, or could not be served",
    reason=("end", "disconnect", "sent_away", "unresponsive", "error"),
)
REQUESTS_ACCEPTED = edge.counter("lore_requests_accepted_total", "Requests put into the queue")
REQUESTS_REFUSED = edge.counters(
    "lore_requests_refused_total", "Calls answered with this error", code=REFUSALS
)
ANSWERS_GIVEN_UP = edge.counter(
    "lore_answers_given_up_total",
    "Answers that were read and given up because the store was full",
)
REQUESTS_REVIVED = edge.counter(
    "lore_requests_revived_total", "Reaped requests that a reader revived"
)
ANSWERS = edge.counters(
    "lore_answers_total",
    "Ends of answers, counted for each reader who was told: done, failed and cancelled as the "
    "request; history_lost and gone if the text was lost with a store or is no longer kept; cut if "
    "this edge had to break a stream that its reader cannot resume",
    outcome=OUTCOMES,
)
CHUNKS_SENT = edge.counter(
    "lore_chunks_sent_total", "Chunks written to readers, first time on a connection"
)
TOKENS_DELIVERED = edge.counter(
    "lore_tokens_delivered_total",
    "Tokens of the chunks written to readers, first time on a connection. Two readers of an answer "
    "count twice. The first chunk after a resume may be left out",
)
RETRANSMISSIONS = edge.counters(
    "lore_retransmissions_total",
    "Chunks sent to a reader again: no ack came in time, or a partial ack showed another loss",
    reason=("timeout", "partial_ack"),
)
RESUMES = edge.counters(
    "lore_resumes_total",
    "Resumed streams, by how the reader named its position",
    reason=("last_event_id", "after", "starting_after"),
)
POLLS = edge.counters(
    "lore_polls_total",
    "Long polls, by result: text, the answer's end, another state, nothing new, or a redirect to "
    "another edge; left: the reader had gone",
    outcome=("text", "end", "state", "nothing", "sent_away", "left"),
)
GAP_FILLS = edge.counter(
    "lore_gap_fills_total", "Reads of the log because published chunks did not arrive"
)
SLOW_READERS = edge.counter(
    "lore_slow_readers_total", "Times a reader fell so far behind that the log serves it"
)
CHUNK_TRANSMISSION = edge.histogram(
    "lore_chunk_transmission_seconds",
    "From a chunk's append (the store's clock, in ms) to its write to a reader who was connected "
    "and up to date",
    _TRANSMISSION_S,
)
ACKS = edge.counters(
    "lore_acks_total",
    "Acks posted by readers, by the store's answer",
    outcome=("ok", "ahead", "unknown"),
)
ACK_ROUND_TRIP = edge.histogram(
    "lore_ack_round_trip_seconds",
    "From a chunk's write to its ack by the reader, except retransmitted chunks",
    _ROUND_TRIP_S,
)
ACK_PROCESSING = edge.histogram(
    "lore_ack_processing_seconds", "From an ack's arrival to the store's answer", _CALL_S
)

# Generator

GENERATOR_REQUESTS = generator.gauges(
    "lore_generator_requests",
    "Requests of this generator: decoding or next to decode, parked behind a closed window, paced "
    "(parked while others wait, because their readers have enough for now), or finished and kept "
    "in case the store loses data",
    state=("decoding", "parked", "paced", "kept"),
)
GENERATOR_SLOTS = generator.gauge(
    "lore_generator_slots", "Requests that this generator can decode concurrently"
)
KV_USED = generator.gauge("lore_generator_kv_used_ratio", "KV memory in use")
ENGINE_SERVERS = generator.gauges(
    "lore_engine_servers",
    "Servers of a remote engine, as this generator sees them",
    state=("up", "down"),
)
ENGINE_WAITING = generator.gauge(
    "lore_engine_waiting", "Requests queued in the remote engine, as its servers report"
)
ENGINE_CALLS = generator.counter(
    "lore_engine_calls_total",
    "Calls of the remote engine. An answer whose window closes needs more than one",
)
ENGINE_TROUBLES = generator.counters(
    "lore_engine_troubles_total",
    "Failed calls of the remote engine: connection refused or still loading; another engine, model "
    "or key; a broken answer; silence; 429 or 503; a refused request",
    kind=("away", "unfit", "failed", "silent", "busy", "refused"),
)
WINDOW_UTILIZATION = generator.histogram(
    "lore_window_utilization_ratio",
    "Unacknowledged tokens over the window, of each request whose window applies, sampled once a "
    "second. It is full if the reader is slow; more pods do not help",
    _RATIO,
)
TOKEN_WAIT = generator.gauge(
    "lore_generator_token_wait_seconds",
    "The longest time that a request with credit has waited for its next token",
)
TOKENS_GENERATED = generator.counter("lore_tokens_generated_total", "Tokens decoded")
TOKENS_ACKNOWLEDGED = generator.counter(
    "lore_tokens_acknowledged_total",
    "Tokens that readers acknowledged, each counted once, by the generator that owns the request "
    "or ended it",
)
TOKENS_WASTED = generator.counters(
    "lore_tokens_wasted_total",
    "Generated tokens that no reader had acknowledged half a minute after the request was done or "
    "failed, or when it was cancelled or reaped. Counted once, by the last owner; requests with "
    "ack none do not count",
    status=("done", "failed", "cancelled", "reaped"),
)
CHUNKS_APPENDED = generator.counter("lore_chunks_appended_total", "Chunks added to logs")
APPENDS_REPEATED = generator.counters(
    "lore_appends_repeated_total",
    "Appends sent again: the store did not answer, lacked earlier chunks, or had lost the request",
    reason=("no_answer", "gap", "forgotten"),
)
FENCED = generator.counter(
    "lore_fenced_appends_total", "Appends refused because the lease was lost"
)
REQUESTS_ENDED = generator.counters(
    "lore_requests_ended_total",
    "Requests that this generator ended",
    status=("done", "failed", "cancelled"),
)
REQUESTS_PARKED = generator.counters(
    "lore_requests_parked_total",
    "Times that a request was taken out of the batch: by a closed window, or for pace, because "
    "others waited and its reader had enough for now",
    reason=("window", "pace"),
)
PARKED = generator.histogram(
    "lore_request_parked_seconds", "How long a closed window kept a request parked", _WAIT_S
)
TAKEOVERS = generator.counter(
    "lore_takeovers_total", "Claims of requests that this or another generator had begun"
)
GENERATORS_WATCHED = generator.gauge(
    "lore_generators_watched", "Other generators whose end this one would detect"
)
HANDED_BACK = generator.counter(
    "lore_requests_handed_back_total", "Requests that a stopping generator returned to the queue"
)
QUEUE_WAIT = generator.histogram(
    "lore_queue_wait_seconds", "From a request's acceptance to its first claim", _WAIT_S
)
TIME_TO_FIRST_TOKEN = generator.histogram(
    "lore_time_to_first_token_seconds", "From acceptance to the first chunk in the log", _WAIT_S
)
INTER_TOKEN = generator.histogram(
    "lore_inter_token_seconds", "Between a request's decoding steps, excluding parking", _TOKEN_S
)
GENERATION_SPEED = generator.histogram(
    "lore_generation_tokens_per_second",
    "Tokens a second of each ended request, while it was decoding",
    _SPEED,
)

# Operator

SWEEPS = operator.counters(
    "lore_sweeps_total",
    "Sweeps over all live requests",
    outcome=("ok", "incomplete", "store_away", "failed"),
)
SWEEP_DURATION = operator.histogram("lore_sweep_seconds", "How long a sweep takes", _ROUND_TRIP_S)
LAST_SWEEP = operator.gauge(
    "lore_last_sweep_timestamp_seconds",
    "When a sweep last saw all live requests, in Unix time; 0: never",
)
LIVE_REQUESTS = operator.gauges(
    "lore_live_requests",
    "Live requests in the last sweep; queued is the depth of the queue",
    status=("queued", "generating", "paused"),
)
QUEUE_OLDEST = operator.gauge(
    "lore_queue_oldest_seconds", "How long the oldest waiting request has waited"
)
FINDINGS = operator.gauges(
    "lore_findings",
    "Requests without progress, in the last sweep",
    finding=("stalled", "orphaned", "stuck", "waiting"),
)
REQUESTS_REAPED = operator.counter(
    "lore_requests_reaped_total", "Stalled requests that were reaped"
)
LEASES_RELEASED = operator.counters(
    "lore_leases_released_total",
    "Requests released from lost generators",
    loss=("gone", "silent"),
)
GENERATOR_PODS = operator.gauges(
    "lore_generator_pods",
    "Generator pods in the last sweep",
    state=("ready", "unready", "leaving"),
)
OPERATOR_DENIED = operator.gauges(
    "lore_operator_denied",
    "1 if RBAC denies a right that the operator needs",
    right=(
        *("get streampolicies", "watch streampolicies", "patch streampolicies/status"),
        *("list pods", "watch pods", "patch pods", "create events"),
    ),
)
VALKEY_MEMORY = operator.gauge("lore_valkey_memory_used_bytes", "Memory that Valkey reports in use")
VALKEY_MEMORY_LIMIT = operator.gauge(
    "lore_valkey_memory_limit_bytes", "Valkey's maxmemory; 0: no limit"
)
VALKEY_REPLICAS = operator.gauge("lore_valkey_replicas", "Replicas that are in sync")
VALKEY_REPLICA_LAG = operator.gauge(
    "lore_valkey_replica_lag_bytes", "How far the slowest replica is behind"
)

SERVICES: Mapping[str, Table] = {"edge": edge, "generator": generator, "operator": operator}

ARTICLE: Mapping[str, tuple[str, ...]] = {
    "Buffer utilization rates": (
        "lore_edge_buffer_utilization_ratio",
        "lore_window_utilization_ratio",
    ),
    "Chunk transmission latency": ("lore_chunk_transmission_seconds",),
    "Acknowledgment processing times": ("lore_ack_processing_seconds",),
    "Retransmission counts": ("lore_retransmissions_total",),
    "Model generation speed": ("lore_generation_tokens_per_second", "lore_inter_token_seconds"),
}
"""The five metrics of the article that Lore began with, by their names in the article."""


EVERYWHERE = "every service"


class _BuildInfo(Collector):
    def __init__(self, service: str) -> None:
        self._labels = {"service": service, "version": version("lore-core")}

    def collect(self) -> list[InfoMetricFamily]:
        return [
            InfoMetricFamily("lore_build", "Which service this is, and its version", self._labels)
        ]


def exported_by(service: str) -> CollectorRegistry:
    """The registry of a service: its own metrics, those that all have, and those that
    prometheus_client has for every Python process.
    """
    registry = CollectorRegistry()
    registry.register(_BuildInfo(service))
    shown = {"function": STORE_FUNCTIONS[service]}
    registry.register(Exporter([every, SERVICES[service]], shown))
    for of_process in (PlatformCollector, ProcessCollector, GCCollector):
        of_process(registry=registry)
    return registry


def rows() -> Iterator[tuple[str, Row]]:
    """Every metric, with the service that has it."""
    tables = {EVERYWHERE: every, **SERVICES}
    return ((service, row) for service, table in tables.items() for row in table.rows)

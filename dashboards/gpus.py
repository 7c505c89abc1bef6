"""*GPUs*: how efficient the generators are, and how many of their tokens are read."""

from dashboards.grafana import AMBER, RED, Query, board, now, over_time, quantile, quantiles, rate

GENERATED = "sum(increase(lore_tokens_generated_total{RELEASE}[1h]))"

BOARD = board(
    "lore-gpus",
    "Lore / GPUs",
    "How efficient the generators are: how fast they decode, how full they are, and how many of "
    "their tokens are read.",
    [
        now(
            "Tokens per second",
            "All generators together.",
            rate("lore_tokens_generated_total"),
            "short",
            decimals=1,
        ),
        now(
            "Tokens read",
            "The share of the last hour's generated tokens that readers acknowledged. Unfinished "
            "answers, and answers with ack `none`, keep it below 100 %.",
            f"sum(increase(lore_tokens_acknowledged_total{{RELEASE}}[1h])) / {GENERATED}",
            "percentunit",
            decimals=1,
        ),
        now(
            "Wasted tokens",
            "The share of the last hour's generated tokens that nobody had acknowledged when "
            "their request was over.",
            f"sum(increase(lore_tokens_wasted_total{{RELEASE}}[1h])) / {GENERATED}",
            "percentunit",
            [(0.1, AMBER), (0.3, RED)],
            decimals=1,
        ),
        now(
            "Slots in use",
            "Decoding requests over slots, of all generators.",
            'sum(lore_generator_requests{RELEASE, state="decoding"}) '
            "/ sum(lore_generator_slots{RELEASE})",
            "percentunit",
            [(0.8, AMBER), (0.95, RED)],
        ),
        now(
            "Fullest KV",
            "KV memory in use in the fullest generator. Parked requests give up theirs first.",
            "max(lore_generator_kv_used_ratio{RELEASE})",
            "percentunit",
            [(0.9, AMBER), (0.98, RED)],
        ),
        now(
            "Oldest queued request",
            "How long it has waited, as the operator measures it.",
            "max(lore_queue_oldest_seconds{RELEASE})",
            "s",
            [(10, AMBER), (60, RED)],
        ),
    ],
    {
        "Efficiency": [
            over_time(
                "Tokens generated and read",
                "The gap between the two lines is tokens that are not read yet, or never.",
                [
                    Query(rate("lore_tokens_generated_total"), "generated"),
                    Query(rate("lore_tokens_acknowledged_total"), "acknowledged"),
                ],
                "short",
            ),
            over_time(
                "Wasted tokens",
                "Tokens that nobody had acknowledged when their request was over, by its status.",
                [Query(rate("lore_tokens_wasted_total", by="status"), "{{status}}")],
                "short",
                stacked=True,
            ),
        ],
        "Speed": [
            over_time(
                "Tokens per second, by generator",
                "All requests of a generator together.",
                [Query(rate("lore_tokens_generated_total", by="pod"), "{{pod}}")],
                "short",
                stacked=True,
            ),
            over_time(
                "Tokens per second of an answer",
                "Of ended answers, while they were decoding.",
                [
                    Query(quantile(q, "lore_generation_tokens_per_second"), legend, exemplars=True)
                    for q, legend in ((0.05, "p5"), (0.5, "median"))
                ],
                "short",
            ),
            over_time(
                "Inter-token latency",
                "The time between two decoding steps of a request (ITL).",
                quantiles("lore_inter_token_seconds"),
                "s",
            ),
            over_time(
                "Longest wait for a token",
                "The longest time that a request with credit has waited for its next token. "
                "Minutes mean that the engine hangs.",
                [Query("max by (pod) (lore_generator_token_wait_seconds{RELEASE})", "{{pod}}")],
                "s",
                [(30, RED)],
            ),
        ],
        "Capacity": [
            over_time(
                "Slots in use",
                "By generator. At 100 % new requests wait; a scaler adds generators before that.",
                [
                    Query(
                        'sum by (pod) (lore_generator_requests{RELEASE, state="decoding"}) '
                        "/ sum by (pod) (lore_generator_slots{RELEASE})",
                        "{{pod}}",
                    )
                ],
                "percentunit",
                [(0.8, AMBER)],
            ),
            over_time(
                "KV memory in use",
                "By generator, as a share of its KV memory.",
                [Query("max by (pod) (lore_generator_kv_used_ratio{RELEASE})", "{{pod}}")],
                "percentunit",
                [(0.9, AMBER)],
                most=1,
            ),
            over_time(
                "Waiting in the engine",
                "Requests that a remote engine has accepted and not begun.",
                [Query("sum by (pod) (lore_engine_waiting{RELEASE})", "{{pod}}")],
                "short",
            ),
            over_time(
                "Engine servers",
                "The servers of a remote engine by state, as their generators see them.",
                [Query("sum by (state) (lore_engine_servers{RELEASE})", "{{state}}")],
                "short",
            ),
            over_time(
                "Engine calls",
                "Calls of a remote engine: all, and failures by kind. The requests of a failed "
                "call continue at another server, or wait until the engine is back.",
                [
                    Query(rate("lore_engine_calls_total"), "all"),
                    Query(rate("lore_engine_troubles_total", by="kind"), "{{kind}}"),
                ],
                "short",
            ),
            over_time(
                "Requests by state",
                "Decoding, parked by a full window, or ended and kept in case the store loses its "
                "data.",
                [Query("sum by (state) (lore_generator_requests{RELEASE})", "{{state}}")],
                "short",
                stacked=True,
            ),
            over_time(
                "Time in the queue",
                "From a request's acceptance to its first claim.",
                quantiles("lore_queue_wait_seconds"),
                "s",
                [(10, AMBER)],
            ),
        ],
    },
)

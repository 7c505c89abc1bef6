"""*GPUs*: what the generators do, and what of it is read."""

from dashboards.grafana import AMBER, RED, Query, board, now, over_time, quantile, quantiles, rate

GENERATED = "sum(increase(lore_tokens_generated_total{RELEASE}[1h]))"

BOARD = board(
    "lore-gpus",
    "Lore / GPUs",
    "What the generators' work is worth: how fast they decode, how full they are, and how much of "
    "what they make is read.",
    [
        now(
            "Tokens a second",
            "Decoded by all generators together.",
            rate("lore_tokens_generated_total"),
            "short",
            decimals=1,
        ),
        now(
            "Read, of what was made",
            "Tokens that readers acknowledged in the last hour, for each that was generated. "
            "Answers that are on their way, or asked for to be kept, make it less than 1.",
            f"sum(increase(lore_tokens_acknowledged_total{{RELEASE}}[1h])) / {GENERATED}",
            "percentunit",
            decimals=1,
        ),
        now(
            "Made for nobody",
            "Tokens of the last hour that nobody had acknowledged when their request was over, "
            "for each that was generated.",
            f"sum(increase(lore_tokens_wasted_total{{RELEASE}}[1h])) / {GENERATED}",
            "percentunit",
            [(0.1, AMBER), (0.3, RED)],
            decimals=1,
        ),
        now(
            "Slots in use",
            "Requests that decode, over those that decode well side by side.",
            'sum(lore_generator_requests{RELEASE, state="decoding"}) '
            "/ sum(lore_generator_slots{RELEASE})",
            "percentunit",
            [(0.8, AMBER), (0.95, RED)],
        ),
        now(
            "Fullest KV",
            "KV memory in use in the fullest generator. Parked requests give theirs up first.",
            "max(lore_generator_kv_used_ratio{RELEASE})",
            "percentunit",
            [(0.9, AMBER), (0.98, RED)],
        ),
        now(
            "Longest wait now",
            "How long the oldest request in the queue has waited, as the operator counts it.",
            "max(lore_queue_oldest_seconds{RELEASE})",
            "s",
            [(10, AMBER), (60, RED)],
        ),
    ],
    {
        "Worth": [
            over_time(
                "Tokens generated and read",
                "The gap between the two lines is made and not yet read, or never.",
                [
                    Query(rate("lore_tokens_generated_total"), "generated"),
                    Query(rate("lore_tokens_acknowledged_total"), "acknowledged"),
                ],
                "short",
            ),
            over_time(
                "Made for nobody",
                "Tokens that nobody had acknowledged when their request was over, by how it ended.",
                [Query(rate("lore_tokens_wasted_total", by="status"), "{{status}}")],
                "short",
                stacked=True,
            ),
        ],
        "Speed": [
            over_time(
                "Tokens a second, by generator",
                "All that it decodes.",
                [Query(rate("lore_tokens_generated_total", by="pod"), "{{pod}}")],
                "short",
                stacked=True,
            ),
            over_time(
                "Tokens a second, of one answer",
                "While it was decoding, of the answers that ended.",
                [
                    Query(quantile(q, "lore_generation_tokens_per_second"), legend, exemplars=True)
                    for q, legend in ((0.05, "slowest twentieth"), (0.5, "median"))
                ],
                "short",
            ),
            over_time(
                "Between two tokens",
                "Between two decoding steps of one request (ITL).",
                quantiles("lore_inter_token_seconds"),
                "s",
            ),
            over_time(
                "Waiting for its next token",
                "The request with credit that waits longest. Minutes: the engine hangs.",
                [Query("max by (pod) (lore_generator_token_wait_seconds{RELEASE})", "{{pod}}")],
                "s",
                [(30, RED)],
            ),
        ],
        "Room": [
            over_time(
                "Slots in use",
                "By generator. At 1 each further request waits: generators are added before that.",
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
                "By generator.",
                [Query("max by (pod) (lore_generator_kv_used_ratio{RELEASE})", "{{pod}}")],
                "percentunit",
                [(0.9, AMBER)],
                most=1,
            ),
            over_time(
                "Waiting in the engine",
                "Of an engine that is driven over HTTP: requests that it has taken and not begun.",
                [Query("sum by (pod) (lore_engine_waiting{RELEASE})", "{{pod}}")],
                "short",
            ),
            over_time(
                "Servers of the engine",
                "Of an engine that is driven over HTTP, as its generators see them.",
                [Query("sum by (state) (lore_engine_servers{RELEASE})", "{{state}}")],
                "short",
            ),
            over_time(
                "Calls of the engine",
                "All, and by kind those that failed: their requests go on elsewhere, or wait until "
                "the engine is back.",
                [
                    Query(rate("lore_engine_calls_total"), "all"),
                    Query(rate("lore_engine_troubles_total", by="kind"), "{{kind}}"),
                ],
                "short",
            ),
            over_time(
                "Requests by state",
                "Decoding, parked behind a full window, or ended and kept for a forgetful store.",
                [Query("sum by (state) (lore_generator_requests{RELEASE})", "{{state}}")],
                "short",
                stacked=True,
            ),
            over_time(
                "In the queue",
                "From a request's acceptance to its first claim.",
                quantiles("lore_queue_wait_seconds"),
                "s",
                [(10, AMBER)],
            ),
        ],
    },
)

"""*Readers*: what the people who wait for an answer feel."""

from dashboards.grafana import (
    AMBER,
    GREEN,
    RED,
    Query,
    board,
    now,
    over_time,
    quantile,
    quantiles,
    rate,
)

INTACT = (
    '1 - sum(increase(lore_answers_total{RELEASE, outcome=~"failed|history_lost|gone|cut"}[1h])) '
    '/ sum(increase(lore_answers_total{RELEASE, outcome!="cancelled"}[1h]))'
)

BOARD = board(
    "lore-readers",
    "Lore / Readers",
    "Whether readers get their text: how long they wait, how it comes, and how it ends.",
    [
        now(
            "Answers intact",
            "Of the answers that came to an end in the last hour, those that came whole to their "
            "readers. What its asker cancelled does not count. The objective is 99.9 %.",
            INTACT,
            "percentunit",
            [(0.99, AMBER), (0.999, GREEN)],
            below=RED,
            decimals=2,
        ),
        now(
            "First text, p95",
            "From asking to the first chunk in the log. Waiting in the queue is in it.",
            quantile(0.95, "lore_time_to_first_token_seconds"),
            "s",
            [(2.5, AMBER), (10, RED)],
        ),
        now(
            "On its way, p99",
            "From a chunk's append to its write to a reader.",
            quantile(0.99, "lore_chunk_transmission_seconds"),
            "s",
            [(0.25, AMBER), (1, RED)],
        ),
        now(
            "Held up",
            "How long the reader who waits longest has waited for text that is in its log and that "
            "it would take. Beyond some seconds, delivery is stalled.",
            "max(lore_edge_delivery_lag_seconds{RELEASE})",
            "s",
            [(2, AMBER), (10, RED)],
        ),
        now(
            "Open streams",
            "Readers that are connected to an edge now.",
            "sum(lore_edge_connections{RELEASE})",
            "short",
        ),
        now(
            "Turned away",
            "Requests a second that were not accepted: a full queue, a limit, no store.",
            rate("lore_requests_refused_total"),
            "reqps",
            [(0.1, AMBER), (1, RED)],
        ),
    ],
    {
        "Until the text begins": [
            over_time(
                "First text",
                "From asking to the first chunk in the log (TTFT).",
                quantiles("lore_time_to_first_token_seconds"),
                "s",
            ),
            over_time(
                "In the queue",
                "From acceptance to the first claim by a generator. High: too few generators.",
                quantiles("lore_queue_wait_seconds"),
                "s",
            ),
            over_time(
                "Accepted and turned away",
                "Requests, and those refused by the code that the client got.",
                [
                    Query(rate("lore_requests_accepted_total"), "accepted"),
                    Query(rate("lore_requests_refused_total", by="code"), "{{code}}"),
                ],
                "reqps",
            ),
        ],
        "While it comes": [
            over_time(
                "On its way",
                "From a chunk's append to its write to a reader: Valkey and the edge, and nothing "
                "of the reader's own network.",
                quantiles("lore_chunk_transmission_seconds"),
                "s",
            ),
            over_time(
                "Between two tokens",
                "Between two decoding steps of one request (ITL). Parking is not in it.",
                quantiles("lore_inter_token_seconds"),
                "s",
            ),
            over_time(
                "Open streams",
                "By who acknowledges: the client, the edge for its socket, or nobody; and those "
                "whose reader takes nothing at the moment. Beside them readers that poll, and all "
                "connections, idle ones too.",
                [
                    Query("sum by (ack) (lore_edge_connections{RELEASE})", "{{ack}}"),
                    Query("sum(lore_edge_blocked_connections{RELEASE})", "takes nothing"),
                    Query("sum(lore_edge_polls{RELEASE})", "polls"),
                    Query("sum(lore_edge_open_connections{RELEASE})", "all connections"),
                ],
                "short",
            ),
        ],
        "Coming back": [
            over_time(
                "Streams that ended",
                "With the answer; the reader left; sent elsewhere; no sign of life; or an error. "
                "And connections that were closed because there were too many.",
                [
                    Query(rate("lore_edge_streams_ended_total", by="reason"), "{{reason}}"),
                    Query(
                        rate("lore_edge_connections_refused_total", by="reason"),
                        "too many: {{reason}}",
                    ),
                ],
                "ops",
                stacked=True,
            ),
            over_time(
                "Resumes",
                "Streams that began after a chunk, by how the reader named it.",
                [Query(rate("lore_resumes_total", by="reason"), "{{reason}}")],
                "ops",
                stacked=True,
            ),
            over_time(
                "Polls",
                "Finished responses that readers waited for, by what came in them. Many of them: "
                "a proxy in front of these edges holds streams back.",
                [Query(rate("lore_polls_total", by="outcome"), "{{outcome}}")],
                "reqps",
                stacked=True,
            ),
            over_time(
                "Slow readers",
                "How often a reader fell so far behind that it is served from the log. It costs "
                "nobody else anything.",
                [Query(rate("lore_slow_readers_total"), "fell behind")],
                "ops",
            ),
        ],
        "How it ends": [
            over_time(
                "Answers, as readers saw them end",
                "Done, failed, cancelled; lost with a store or no longer kept; or cut.",
                [Query(rate("lore_answers_total", by="outcome"), "{{outcome}}")],
                "reqps",
                stacked=True,
            ),
            over_time(
                "Requests, as generators ended them",
                "An answer that nobody was connected to ends here all the same.",
                [Query(rate("lore_requests_ended_total", by="status"), "{{status}}")],
                "reqps",
                stacked=True,
            ),
        ],
    },
)

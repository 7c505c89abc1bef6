"""*Readers*: how well readers are served."""

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
    "Whether readers get their text: how long they wait, how the text flows, and how answers end.",
    [
        now(
            "Intact answers",
            "The share of the last hour's ended answers that their readers got whole. Cancelled "
            "answers do not count. The objective is 99.9 %.",
            INTACT,
            "percentunit",
            [(0.99, AMBER), (0.999, GREEN)],
            below=RED,
            decimals=2,
        ),
        now(
            "TTFT, p95",
            "Time to the first token: from a request to its first chunk in the log, including "
            "the time in the queue.",
            quantile(0.95, "lore_time_to_first_token_seconds"),
            "s",
            [(2.5, AMBER), (10, RED)],
        ),
        now(
            "Chunk latency, p99",
            "From a chunk's append to its write to a reader.",
            quantile(0.99, "lore_chunk_transmission_seconds"),
            "s",
            [(0.25, AMBER), (1, RED)],
        ),
        now(
            "Delivery lag",
            "The longest time that a reader who is ready has waited for a chunk that is in the "
            "log. Beyond some seconds, delivery is stalled.",
            "max(lore_edge_delivery_lag_seconds{RELEASE})",
            "s",
            [(2, AMBER), (10, RED)],
        ),
        now(
            "Open streams",
            "Readers that are connected to an edge.",
            "sum(lore_edge_connections{RELEASE})",
            "short",
        ),
        now(
            "Refused requests",
            "Requests per second that were not accepted: a full queue, a limit, no store.",
            rate("lore_requests_refused_total"),
            "reqps",
            [(0.1, AMBER), (1, RED)],
        ),
    ],
    {
        "First token": [
            over_time(
                "TTFT",
                "Time to the first token: from a request to its first chunk in the log.",
                quantiles("lore_time_to_first_token_seconds"),
                "s",
            ),
            over_time(
                "Time in the queue",
                "From a request's acceptance to its first claim. If it is high, there are too few "
                "generators.",
                quantiles("lore_queue_wait_seconds"),
                "s",
            ),
            over_time(
                "Accepted and refused requests",
                "Refused requests by the error code that the client got.",
                [
                    Query(rate("lore_requests_accepted_total"), "accepted"),
                    Query(rate("lore_requests_refused_total", by="code"), "{{code}}"),
                ],
                "reqps",
            ),
        ],
        "Delivery": [
            over_time(
                "Chunk latency",
                "From a chunk's append to its write to a reader: Valkey and the edge, without the "
                "reader's network.",
                quantiles("lore_chunk_transmission_seconds"),
                "s",
            ),
            over_time(
                "Inter-token latency",
                "The time between two decoding steps of a request (ITL), without the time in which "
                "it was parked.",
                quantiles("lore_inter_token_seconds"),
                "s",
            ),
            over_time(
                "Open streams",
                "By ack kind: the client acknowledges, the edge does for its socket, or nobody. "
                "Also streams whose reader accepts nothing at the moment (blocked), waiting long "
                "polls, and all connections, including idle ones.",
                [
                    Query("sum by (ack) (lore_edge_connections{RELEASE})", "{{ack}}"),
                    Query("sum(lore_edge_blocked_connections{RELEASE})", "blocked"),
                    Query("sum(lore_edge_polls{RELEASE})", "polls"),
                    Query("sum(lore_edge_open_connections{RELEASE})", "all connections"),
                ],
                "short",
            ),
        ],
        "Reconnects": [
            over_time(
                "Ended streams",
                "By reason: the answer ended, the reader left, the edge sent the reader to another "
                "edge, the reader was silent, or an error. Also connections that were closed "
                "because there were too many.",
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
                "Streams that began after a chunk, by how the reader named the chunk.",
                [Query(rate("lore_resumes_total", by="reason"), "{{reason}}")],
                "ops",
                stacked=True,
            ),
            over_time(
                "Polls",
                "Long polls by result. Many polls mean that a proxy in front of the edges buffers "
                "streams.",
                [Query(rate("lore_polls_total", by="outcome"), "{{outcome}}")],
                "reqps",
                stacked=True,
            ),
            over_time(
                "Slow readers",
                "How often a reader fell so far behind that the edge reads the log for it. Other "
                "readers are not affected.",
                [Query(rate("lore_slow_readers_total"), "fell behind")],
                "ops",
            ),
        ],
        "Outcomes": [
            over_time(
                "Ended answers, as readers saw them",
                "Done, failed, cancelled, history lost, no longer kept, or cut.",
                [Query(rate("lore_answers_total", by="outcome"), "{{outcome}}")],
                "reqps",
                stacked=True,
            ),
            over_time(
                "Ended requests, as generators ended them",
                "Includes answers that had no connected reader.",
                [Query(rate("lore_requests_ended_total", by="status"), "{{status}}")],
                "reqps",
                stacked=True,
            ),
        ],
    },
)

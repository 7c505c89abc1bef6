"""*Flow*: where text waits, and what the protocol does about it."""

from dashboards.grafana import AMBER, RED, Query, board, now, over_time, quantile, quantiles, rate

BOARD = board(
    "lore-flow",
    "Lore / Flow",
    "Where text waits: in the reader's window, in an edge, on the way between. A full window is a "
    "slow reader and wants no more pods; a full edge does.",
    [
        now(
            "Fullest edge",
            "What waits in the fullest edge to be written, over what may wait there.",
            "max(lore_edge_buffer_utilization_ratio{RELEASE})",
            "percentunit",
            [(0.5, AMBER), (0.8, RED)],
        ),
        now(
            "Windows, median",
            "How full the readers' windows are: unacknowledged tokens over the window.",
            quantile(0.5, "lore_window_utilization_ratio"),
            "percentunit",
        ),
        now(
            "Waiting for their readers",
            "Requests whose window is full. They hold no slot in the batch.",
            'sum(lore_generator_requests{RELEASE, state="parked"})',
            "short",
        ),
        now(
            "Ack round trip, p95",
            "From a chunk's write to the reader's ack of it.",
            quantile(0.95, "lore_ack_round_trip_seconds"),
            "s",
            [(1, AMBER), (5, RED)],
        ),
        now(
            "Sent twice",
            "Chunks that were sent again, for each that was sent at all.",
            f"{rate('lore_retransmissions_total')} / {rate('lore_chunks_sent_total')}",
            "percentunit",
            [(0.01, AMBER), (0.05, RED)],
            decimals=2,
        ),
        now(
            "Gaps filled",
            "Reads of the log a second because news of chunks had not come.",
            rate("lore_gap_fills_total"),
            "ops",
            [(1, AMBER), (10, RED)],
        ),
    ],
    {
        "Windows (the readers' side)": [
            over_time(
                "How full windows are",
                "Unacknowledged tokens over the window. Full because readers are slow: more pods "
                "change nothing.",
                [
                    Query(quantile(q, "lore_window_utilization_ratio"), f"p{q * 100:g}")
                    for q in (0.5, 0.9)
                ],
                "percentunit",
                most=1,
            ),
            over_time(
                "Requests by state",
                "What the generators hold: decoding, parked behind a full window, or ended and "
                "kept for a store that forgets.",
                [Query("sum by (state) (lore_generator_requests{RELEASE})", "{{state}}")],
                "short",
                stacked=True,
            ),
            over_time(
                "Windows that closed",
                "Times a second that a full window took a request out of the batch: its reader "
                "read slower than the model writes, or was gone.",
                [Query(rate("lore_requests_parked_total"), "parked")],
                "ops",
            ),
            over_time(
                "Parked for",
                "How long a full window kept a request out of the batch.",
                quantiles("lore_request_parked_seconds"),
                "s",
            ),
        ],
        "Buffers (the edges' side)": [
            over_time(
                "Waiting in edges",
                "What waits to be written, over what may wait: edges are added for this.",
                [Query("max by (pod) (lore_edge_buffer_utilization_ratio{RELEASE})", "{{pod}}")],
                "percentunit",
                [(0.5, AMBER)],
                most=1,
            ),
            over_time(
                "Held up",
                "How long the reader who waits longest has waited for text that is in its log.",
                [Query("max by (pod) (lore_edge_delivery_lag_seconds{RELEASE})", "{{pod}}")],
                "s",
                [(10, RED)],
            ),
            over_time(
                "Tokens",
                "Made by generators, written to readers, acknowledged. With several readers of an "
                "answer more is written than made.",
                [
                    Query(rate("lore_tokens_generated_total"), "generated"),
                    Query(rate("lore_tokens_delivered_total"), "delivered"),
                    Query(rate("lore_tokens_acknowledged_total"), "acknowledged"),
                ],
                "short",
            ),
            over_time(
                "Chunks",
                "Added to logs, and written to readers.",
                [
                    Query(rate("lore_chunks_appended_total"), "added to logs"),
                    Query(rate("lore_chunks_sent_total"), "written to readers"),
                ],
                "cps",
            ),
        ],
        "Acks": [
            over_time(
                "Ack round trip",
                "From a chunk's write to the ack: the reader's network, and how eagerly it acks.",
                quantiles("lore_ack_round_trip_seconds"),
                "s",
            ),
            over_time(
                "Taking an ack",
                "From an ack's arrival at an edge to Valkey's answer.",
                quantiles("lore_ack_processing_seconds"),
                "s",
                [(0.1, AMBER)],
            ),
            over_time(
                "Acks",
                "Posted by readers, by Valkey's judgement.",
                [Query(rate("lore_acks_total", by="outcome"), "{{outcome}}")],
                "ops",
                stacked=True,
            ),
        ],
        "Sent and stored again": [
            over_time(
                "Retransmissions",
                "Chunks written to a reader again: no ack in time, or an ack that showed a loss.",
                [Query(rate("lore_retransmissions_total", by="reason"), "{{reason}}")],
                "cps",
                stacked=True,
            ),
            over_time(
                "Appends repeated",
                "Valkey gave no answer, lacked earlier chunks, or had forgotten the request.",
                [Query(rate("lore_appends_repeated_total", by="reason"), "{{reason}}")],
                "ops",
                stacked=True,
            ),
            over_time(
                "From the log",
                "Gaps in live news that were filled from it, and readers who fell back to it.",
                [
                    Query(rate("lore_gap_fills_total"), "gaps filled"),
                    Query(rate("lore_slow_readers_total"), "readers fallen behind"),
                ],
                "ops",
            ),
        ],
    },
)

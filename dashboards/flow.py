"""*Flow*: where text waits: in windows, buffers or the network."""

from dashboards.grafana import AMBER, RED, Query, board, now, over_time, quantile, quantiles, rate

BOARD = board(
    "lore-flow",
    "Lore / Flow",
    "Where text waits: in a reader's window, in an edge, or in the network. A full window means a "
    "slow reader, and more pods do not help. A full edge needs more edges.",
    [
        now(
            "Fullest edge",
            "Buffered bytes over the bytes that may be buffered, in the fullest edge.",
            "max(lore_edge_buffer_utilization_ratio{RELEASE})",
            "percentunit",
            [(0.5, AMBER), (0.8, RED)],
        ),
        now(
            "Window utilization, median",
            "Unacknowledged tokens over the window.",
            quantile(0.5, "lore_window_utilization_ratio"),
            "percentunit",
        ),
        now(
            "Parked requests",
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
            "Retransmitted chunks",
            "Retransmissions over all chunks sent.",
            f"{rate('lore_retransmissions_total')} / {rate('lore_chunks_sent_total')}",
            "percentunit",
            [(0.01, AMBER), (0.05, RED)],
            decimals=2,
        ),
        now(
            "Gap fills",
            "Reads of the log per second because published chunks did not arrive.",
            rate("lore_gap_fills_total"),
            "ops",
            [(1, AMBER), (10, RED)],
        ),
    ],
    {
        "Windows (readers)": [
            over_time(
                "Window utilization",
                "Unacknowledged tokens over the window. Windows are full because readers are slow; "
                "more pods do not help.",
                [
                    Query(quantile(q, "lore_window_utilization_ratio"), f"p{q * 100:g}")
                    for q in (0.5, 0.9)
                ],
                "percentunit",
                most=1,
            ),
            over_time(
                "Requests by state",
                "What the generators hold: decoding, parked by a full window, paced (others wait "
                "for a slot, and its reader has enough for now), or ended and kept in case the "
                "store loses its data.",
                [Query("sum by (state) (lore_generator_requests{RELEASE})", "{{state}}")],
                "short",
                stacked=True,
            ),
            over_time(
                "Requests parked",
                "How often a request left the batch. window: its reader reads more slowly than the "
                "model generates, or has left. pace: others waited, and its reader had enough.",
                [Query(rate("lore_requests_parked_total", by="reason"), "{{reason}}")],
                "ops",
            ),
            over_time(
                "Time parked",
                "How long a full window kept a request out of the batch.",
                quantiles("lore_request_parked_seconds"),
                "s",
            ),
        ],
        "Buffers (edges)": [
            over_time(
                "Buffer utilization",
                "Buffered bytes over the bytes that may be buffered. A scaler adds edges when it "
                "is high.",
                [Query("max by (pod) (lore_edge_buffer_utilization_ratio{RELEASE})", "{{pod}}")],
                "percentunit",
                [(0.5, AMBER)],
                most=1,
            ),
            over_time(
                "Delivery lag",
                "The longest time that a reader who is ready has waited for a chunk that is in the "
                "log.",
                [Query("max by (pod) (lore_edge_delivery_lag_seconds{RELEASE})", "{{pod}}")],
                "s",
                [(10, RED)],
            ),
            over_time(
                "Tokens",
                "Generated, written to readers, and acknowledged. Several readers of an answer "
                "make `delivered` exceed `generated`.",
                [
                    Query(rate("lore_tokens_generated_total"), "generated"),
                    Query(rate("lore_tokens_delivered_total"), "delivered"),
                    Query(rate("lore_tokens_acknowledged_total"), "acknowledged"),
                ],
                "short",
            ),
            over_time(
                "Chunks",
                "Appended to logs, and sent to readers.",
                [
                    Query(rate("lore_chunks_appended_total"), "appended"),
                    Query(rate("lore_chunks_sent_total"), "sent"),
                ],
                "cps",
            ),
        ],
        "Acks": [
            over_time(
                "Ack round trip",
                "From a chunk's write to the reader's ack: the network, and how long the reader "
                "delays acks.",
                quantiles("lore_ack_round_trip_seconds"),
                "s",
            ),
            over_time(
                "Ack processing time",
                "From an ack's arrival at an edge to Valkey's reply.",
                quantiles("lore_ack_processing_seconds"),
                "s",
                [(0.1, AMBER)],
            ),
            over_time(
                "Acks",
                "Acks that readers posted, by outcome.",
                [Query(rate("lore_acks_total", by="outcome"), "{{outcome}}")],
                "ops",
                stacked=True,
            ),
        ],
        "Repeats": [
            over_time(
                "Retransmissions",
                "Chunks sent to a reader again, by reason: no ack in time, or an ack that shows a "
                "loss.",
                [Query(rate("lore_retransmissions_total", by="reason"), "{{reason}}")],
                "cps",
                stacked=True,
            ),
            over_time(
                "Repeated appends",
                "By reason: Valkey did not reply, lacked earlier chunks, or had lost the request.",
                [Query(rate("lore_appends_repeated_total", by="reason"), "{{reason}}")],
                "ops",
                stacked=True,
            ),
            over_time(
                "Reads from the log",
                "Gaps where published chunks did not arrive, and readers who fell behind.",
                [
                    Query(rate("lore_gap_fills_total"), "gap fills"),
                    Query(rate("lore_slow_readers_total"), "slow readers"),
                ],
                "ops",
            ),
        ],
    },
)

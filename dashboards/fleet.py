"""*Fleet*: pods, leases, the operator, the scalers' metrics and Valkey."""

from dashboards.grafana import (
    AMBER,
    GREEN,
    RED,
    Panel,
    Query,
    board,
    now,
    over_time,
    quantile,
    quantiles,
    rate,
)

LEASES: list[Panel] = [
    over_time(
        "Takeovers and handed-back requests",
        "Requests that a generator continued for another one, and requests that a stopping "
        "generator handed back. A rollout causes both.",
        [
            Query(rate("lore_takeovers_total"), "takeovers"),
            Query(rate("lore_requests_handed_back_total"), "handed back"),
        ],
        "ops",
    ),
    over_time(
        "Fenced appends",
        "Appends that Valkey refused because the lease was lost. Many mean that a generator "
        "freezes, or that Valkey is slower than the leases.",
        [Query(rate("lore_fenced_appends_total", by="pod"), "{{pod}}")],
        "ops",
    ),
    over_time(
        "Released, reaped and revived requests",
        "Released: requests of lost generators, by kind of loss. Reaped: stalled requests. "
        "Revived: reaped requests whose reader came back.",
        [
            Query(rate("lore_leases_released_total", by="loss"), "lost: {{loss}}"),
            Query(rate("lore_requests_reaped_total"), "reaped"),
            Query(rate("lore_requests_revived_total"), "revived"),
        ],
        "ops",
    ),
]

OPERATOR: list[Panel] = [
    over_time(
        "Sweeps",
        "The operator's sweeps of all live requests, by outcome.",
        [Query(rate("lore_sweeps_total", by="outcome"), "{{outcome}}")],
        "ops",
        stacked=True,
    ),
    over_time(
        "Sweep duration",
        "A sweep that takes longer than its interval (sweepS) delays the next one.",
        quantiles("lore_sweep_seconds"),
        "s",
        [(5, AMBER)],
    ),
    over_time(
        "Live requests",
        "By status, as the last sweep found them.",
        [Query("sum by (status) (lore_live_requests{RELEASE})", "{{status}}")],
        "short",
        stacked=True,
    ),
    over_time(
        "Requests without progress",
        "Requests of the last sweep that make no progress, by finding.",
        [Query("sum by (finding) (lore_findings{RELEASE})", "{{finding}}")],
        "short",
        stacked=True,
    ),
]

SCALING: list[Panel] = [
    over_time(
        "Utilization",
        "The metrics that scalers add pods for, averaged over the edges or generators.",
        [
            Query("avg(lore_edge_buffer_utilization_ratio{RELEASE})", "edges: buffer"),
            Query(
                'sum(lore_generator_requests{RELEASE, state="decoding"}) '
                "/ sum(lore_generator_slots{RELEASE})",
                "generators: slots",
            ),
            Query("avg(lore_generator_kv_used_ratio{RELEASE})", "generators: KV"),
        ],
        "percentunit",
        [(0.8, AMBER)],
    ),
    over_time(
        "Oldest queued request",
        "How long it has waited.",
        [Query("max(lore_queue_oldest_seconds{RELEASE})", "oldest")],
        "s",
        [(10, AMBER)],
    ),
    over_time(
        "Pods",
        "The HorizontalPodAutoscalers' desired and maximum replicas (from kube-state-metrics), "
        "and the generator pods that the operator sees.",
        [
            Query(
                "max by (horizontalpodautoscaler) "
                "(kube_horizontalpodautoscaler_status_desired_replicas"
                '{namespace="$namespace", horizontalpodautoscaler=~"$release.*"})',
                "{{horizontalpodautoscaler}} desired",
            ),
            Query(
                "max by (horizontalpodautoscaler) "
                "(kube_horizontalpodautoscaler_spec_max_replicas"
                '{namespace="$namespace", horizontalpodautoscaler=~"$release.*"})',
                "{{horizontalpodautoscaler}} maximum",
            ),
            Query("sum by (state) (lore_generator_pods{RELEASE})", "generators {{state}}"),
        ],
        "short",
    ),
]

VALKEY: list[Panel] = [
    over_time(
        "Call latency, p99",
        "By function, from sending a command to its reply, including errors.",
        [
            Query(
                f"histogram_quantile(0.99, "
                f"{rate('lore_store_call_seconds_bucket', by='le, function')})",
                "{{function}}",
            )
        ],
        "s",
        [(0.1, AMBER)],
    ),
    over_time(
        "Failures",
        "Calls that Valkey did not answer or refused, by function; lost connections; and read "
        "answers that were given up because Valkey was full.",
        [
            Query(rate("lore_store_errors_total", by="function"), "{{function}}"),
            Query(rate("lore_store_connections_lost_total", by="link"), "lost: {{link}}"),
            Query(rate("lore_answers_given_up_total"), "answers given up"),
        ],
        "ops",
        stacked=True,
    ),
    over_time(
        "Memory",
        "Used memory and its limit. A full Valkey gives up read answers, then refuses new "
        "requests.",
        [
            Query("max(lore_valkey_memory_used_bytes{RELEASE})", "used"),
            Query("max(lore_valkey_memory_limit_bytes{RELEASE}) > 0", "limit"),
        ],
        "bytes",
    ),
    over_time(
        "Replicas",
        "Replicas in sync, and how far the slowest one is behind.",
        [
            Query("max(lore_valkey_replicas{RELEASE})", "replicas"),
            Query("max(lore_valkey_replica_lag_bytes{RELEASE}) / 1024", "KiB behind"),
        ],
        "short",
    ),
]

PROCESSES: list[Panel] = [
    over_time(
        "Event-loop lag, p99",
        "How late a timer fires. A busy process delays everything by this much.",
        [
            Query(
                f"histogram_quantile(0.99, "
                f"{rate('lore_event_loop_lag_seconds_bucket', by='le, pod')})",
                "{{pod}}",
            )
        ],
        "s",
        [(0.1, AMBER)],
    ),
    over_time(
        "CPU",
        "Cores in use, by pod.",
        [Query(rate("process_cpu_seconds_total", by="pod"), "{{pod}}")],
        "short",
        stacked=True,
    ),
    over_time(
        "Memory",
        "Resident memory, by pod.",
        [Query("sum by (pod) (process_resident_memory_bytes{RELEASE})", "{{pod}}")],
        "bytes",
    ),
]

BOARD = board(
    "lore-fleet",
    "Lore / Fleet",
    "Whether every part is up: pods, leases and takeovers, the operator, the scalers' metrics, "
    "Valkey and the processes.",
    [
        *(
            now(
                f"{part}s",
                f"{part} pods that Prometheus reaches.",
                f'sum(up{{RELEASE, app_kubernetes_io_component="{part.lower()}"}})',
                "short",
                [(1, GREEN)],
                below=RED,
            )
            for part in ("Edge", "Generator")
        ),
        now(
            "Last complete sweep",
            "Time since the operator's last sweep that saw all live requests.",
            "time() - max(lore_last_sweep_timestamp_seconds{RELEASE})",
            "s",
            [(30, AMBER), (120, RED)],
        ),
        now(
            "Requests without progress",
            "Of the operator's last sweep.",
            "sum(lore_findings{RELEASE})",
            "short",
            [(1, AMBER), (20, RED)],
        ),
        now(
            "Takeovers",
            "Requests that a generator continued for another one in the last hour.",
            "sum(increase(lore_takeovers_total{RELEASE}[1h]))",
            "short",
            decimals=0,
        ),
        now(
            "Valkey latency, p99",
            "From sending a command to its reply, over all services.",
            quantile(0.99, "lore_store_call_seconds"),
            "s",
            [(0.05, AMBER), (0.25, RED)],
        ),
    ],
    {
        "Leases": LEASES,
        "Operator": OPERATOR,
        "Scaling": SCALING,
        "Valkey": VALKEY,
        "Processes": PROCESSES,
    },
)

"""*Fleet*: the pods, who owns what, the operator, the scalers and Valkey."""

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
        "Taken over and handed back",
        "Requests claimed that another generator had begun, and given back by one that stops. A "
        "rollout has some of both.",
        [
            Query(rate("lore_takeovers_total"), "taken over"),
            Query(rate("lore_requests_handed_back_total"), "handed back"),
        ],
        "ops",
    ),
    over_time(
        "Fenced appends",
        "Refused because the lease was lost. Many are a generator that freezes, or a Valkey that "
        "is slower than its leases.",
        [Query(rate("lore_fenced_appends_total", by="pod"), "{{pod}}")],
        "ops",
    ),
    over_time(
        "Freed by the operator, and revived",
        "Requests of generators that were lost, by how; stalled ones reaped; and those of them "
        "that a reader wanted to go on.",
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
        "Looks at all live requests, by how they came out.",
        [Query(rate("lore_sweeps_total", by="outcome"), "{{outcome}}")],
        "ops",
        stacked=True,
    ),
    over_time(
        "A sweep takes",
        "Longer than its interval (sweepS), and the next one is late.",
        quantiles("lore_sweep_seconds"),
        "s",
        [(5, AMBER)],
    ),
    over_time(
        "Live requests",
        "As the last sweep found them.",
        [Query("sum by (status) (lore_live_requests{RELEASE})", "{{status}}")],
        "short",
        stacked=True,
    ),
    over_time(
        "Nobody moves on",
        "Requests that the last sweep found standing still, by what is wrong with them.",
        [Query("sum by (finding) (lore_findings{RELEASE})", "{{finding}}")],
        "short",
        stacked=True,
    ),
]

SCALING: list[Panel] = [
    over_time(
        "Share of each pod",
        "The signals that pods are added for, as an average of their tier.",
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
        "Longest wait",
        "How long the oldest request in the queue has waited.",
        [Query("max(lore_queue_oldest_seconds{RELEASE})", "oldest request")],
        "s",
        [(10, AMBER)],
    ),
    over_time(
        "Pods",
        "What the HorizontalPodAutoscalers want and the most that they may have "
        "(kube-state-metrics), and the generator pods that the operator sees.",
        [
            Query(
                "max by (horizontalpodautoscaler) "
                "(kube_horizontalpodautoscaler_status_desired_replicas"
                '{namespace="$namespace", horizontalpodautoscaler=~"$release.*"})',
                "{{horizontalpodautoscaler}} wants",
            ),
            Query(
                "max by (horizontalpodautoscaler) "
                "(kube_horizontalpodautoscaler_spec_max_replicas"
                '{namespace="$namespace", horizontalpodautoscaler=~"$release.*"})',
                "{{horizontalpodautoscaler}} at most",
            ),
            Query("sum by (state) (lore_generator_pods{RELEASE})", "generators {{state}}"),
        ],
        "short",
    ),
]

VALKEY: list[Panel] = [
    over_time(
        "A call takes, p99",
        "By function, as the services measure it, errors included.",
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
        "Calls that brought nothing",
        "Valkey was away, or refused; connections that broke; and answers that were read and given "
        "up because it was full.",
        [
            Query(rate("lore_store_errors_total", by="function"), "{{function}}"),
            Query(rate("lore_store_connections_lost_total", by="link"), "lost: {{link}}"),
            Query(rate("lore_answers_given_up_total"), "given up"),
        ],
        "ops",
        stacked=True,
    ),
    over_time(
        "Memory",
        "What Valkey uses and may use. When it is full, no new request is taken.",
        [
            Query("max(lore_valkey_memory_used_bytes{RELEASE})", "used"),
            Query("max(lore_valkey_memory_limit_bytes{RELEASE}) > 0", "may use"),
        ],
        "bytes",
    ),
    over_time(
        "Replicas",
        "In step with Valkey, and how far the last of them is behind.",
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
        "How late a timer rings: what a busy process adds to everything it does.",
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
        "Cores in use.",
        [Query(rate("process_cpu_seconds_total", by="pod"), "{{pod}}")],
        "short",
        stacked=True,
    ),
    over_time(
        "Memory",
        "Resident.",
        [Query("sum by (pod) (process_resident_memory_bytes{RELEASE})", "{{pod}}")],
        "bytes",
    ),
]

BOARD = board(
    "lore-fleet",
    "Lore / Fleet",
    "Whether all parts are there and do their work: pods, leases and takeovers, the operator, the "
    "scalers' signals, Valkey and the processes.",
    [
        *(
            now(
                f"{part}s",
                f"{part}s that Prometheus reaches.",
                f'sum(up{{RELEASE, app_kubernetes_io_component="{part.lower()}"}})',
                "short",
                [(1, GREEN)],
                below=RED,
            )
            for part in ("Edge", "Generator")
        ),
        now(
            "Operator last saw all",
            "Since its last sweep that saw all live requests.",
            "time() - max(lore_last_sweep_timestamp_seconds{RELEASE})",
            "s",
            [(30, AMBER), (120, RED)],
        ),
        now(
            "Nobody moves on",
            "Requests in the last sweep that nobody moves on.",
            "sum(lore_findings{RELEASE})",
            "short",
            [(1, AMBER), (20, RED)],
        ),
        now(
            "Taken over",
            "Requests of the last hour that another generator had begun.",
            "sum(increase(lore_takeovers_total{RELEASE}[1h]))",
            "short",
            decimals=0,
        ),
        now(
            "Valkey, p99",
            "From sending a command to its reply, over all services.",
            quantile(0.99, "lore_store_call_seconds"),
            "s",
            [(0.05, AMBER), (0.25, RED)],
        ),
    ],
    {
        "Leases": LEASES,
        "Operator": OPERATOR,
        "What the scalers look at": SCALING,
        "Valkey": VALKEY,
        "Processes": PROCESSES,
    },
)

"""``/status``: plots of the key figures, for those without Grafana.

It exists when LORE_PROMETHEUS_URL names a Prometheus. The page is public, as all pages are; the
figures need authentication. They are sums over all readers, and name no request and no subject. But
they tell how much Lore is used, so a public edge does without them. The queries are fixed here: no
caller reaches Prometheus through an edge.
"""

import asyncio
import json
import math
import time
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lore_edge.wire.errors import ApiError
from lore_edge.wire.fetch import FetchFailed, Get, fetching

SPAN_S, STEP_S = 900, 5
KEPT_S = 4.0
"""How many seconds figures are cached, however many callers ask."""
TIMEOUT_S = 5.0
"""The deadline in seconds for all queries of one page."""
MAX_BYTES = 1_048_576
"""The most bytes of each answer."""


@dataclass(frozen=True)
class Figure:
    title: str
    about: str
    unit: str
    """``s``, ``ratio``, or '' for a plain number."""
    lines: dict[str, str]
    """The query of each line, by the line's name."""


def _rate(metric: str) -> str:
    return f"sum(rate({metric}[30s]))"


def _quantiles(histogram: str) -> dict[str, str]:
    grouped = f"sum by (le) (rate({histogram}_bucket[30s]))"
    return {
        name: f"histogram_quantile({q}, {grouped})" for name, q in (("p50", 0.5), ("p95", 0.95))
    }


FIGURES = (
    Figure(
        "TTFT",
        "Time to the first token: from a request to its first chunk",
        "s",
        _quantiles("lore_time_to_first_token_seconds"),
    ),
    Figure(
        "Chunk latency",
        "From a chunk's append to its write to a reader",
        "s",
        _quantiles("lore_chunk_transmission_seconds"),
    ),
    Figure(
        "Tokens per second",
        "Generated, written to readers, and acknowledged",
        "",
        {
            "generated": _rate("lore_tokens_generated_total"),
            "delivered": _rate("lore_tokens_delivered_total"),
            "acknowledged": _rate("lore_tokens_acknowledged_total"),
        },
    ),
    Figure(
        "Streams and requests",
        "Connected readers, and the generators' requests by state",
        "",
        {
            "connected": "sum(lore_edge_connections)",
            "decoding": 'sum(lore_generator_requests{state="decoding"})',
            "parked": 'sum(lore_generator_requests{state="parked"})',
            "paced": 'sum(lore_generator_requests{state="paced"})',
        },
    ),
    Figure(
        "Utilization",
        "Readers' windows, edges' buffers, generators' slots and KV memory",
        "ratio",
        {
            "windows, median": (
                "histogram_quantile(0.5, "
                "sum by (le) (rate(lore_window_utilization_ratio_bucket[30s])))"
            ),
            "fullest edge": "max(lore_edge_buffer_utilization_ratio)",
            "slots": ('sum(lore_generator_requests{state="decoding"}) / sum(lore_generator_slots)'),
            "KV": "max(lore_generator_kv_used_ratio)",
        },
    ),
    Figure(
        "Ack round trip",
        "From a chunk's write to the reader's ack of it",
        "s",
        _quantiles("lore_ack_round_trip_seconds"),
    ),
    Figure(
        "Repeats",
        "Per second: retransmitted chunks, resumed streams, takeovers of requests",
        "",
        {
            "retransmitted": _rate("lore_retransmissions_total"),
            "resumed": _rate("lore_resumes_total"),
            "takeovers": _rate("lore_takeovers_total"),
        },
    ),
    Figure(
        "Outcomes",
        "Per second: ended answers, as readers saw them, and wasted tokens",
        "",
        {
            "done": 'sum(rate(lore_answers_total{outcome="done"}[30s]))',
            "broken": 'sum(rate(lore_answers_total{outcome=~"failed|history_lost|gone|cut"}[30s]))',
            "wasted tokens": _rate("lore_tokens_wasted_total"),
        },
    ),
)
ALERTS = 'ALERTS{alertstate="firing"}'


class StatusFigures:
    """Answers ``GET /status/figures``."""

    def __init__(self, prometheus_url: str) -> None:
        self._url = prometheus_url.rstrip("/")
        self._asking = asyncio.Lock()
        self._kept: tuple[float, Any] = (-math.inf, None)

    async def figures(self, _: Request) -> Response:
        """Answer with the figures. Raises ApiError 503."""
        async with self._asking:
            asked_at, found = self._kept
            if time.monotonic() - asked_at > KEPT_S:
                found = await self._ask()
                self._kept = (time.monotonic(), found)
        if found is None:
            raise ApiError(503, "prometheus_unavailable", "Prometheus gave no valid answer")
        return JSONResponse(found, headers={"Cache-Control": "no-store"})

    async def _ask(self) -> Any:
        """Query Prometheus. Returns None without a good answer, which is cached, too."""
        end_s = int(time.time()) // STEP_S * STEP_S
        times = list(range(end_s - SPAN_S, end_s + 1, STEP_S))
        secure = self._url.startswith("https:")
        try:
            async with fetching(timeout_s=TIMEOUT_S, max_bytes=MAX_BYTES, secure=secure) as get:
                figures = [
                    asdict(figure)
                    | {
                        "lines": [
                            {"name": name, "values": await self._line(get, expr, times)}
                            for name, expr in figure.lines.items()
                        ]
                    }
                    for figure in FIGURES
                ]
                firing = await self._query(get, "query", query=ALERTS)
            alerts = sorted({str(one["metric"]["alertname"]) for one in firing})
        except (FetchFailed, ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
            return None
        return {"times": times, "figures": figures, "alerts": alerts}

    async def _line(self, get: Get, expr: str, times: list[int]) -> list[float | None]:
        """A value for each time; None where there is none."""
        span = {"start": times[0], "end": times[-1], "step": STEP_S}
        series = await self._query(get, "query_range", query=expr, **span)
        found = {int(at): float(value) for one in series for at, value in one["values"]}
        values = (found.get(at, math.nan) for at in times)
        return [value if math.isfinite(value) else None for value in values]

    async def _query(self, get: Get, call: str, **asked: str | int) -> list[Any]:
        body = await get(f"{self._url}/api/v1/{call}?{urlencode(asked)}")
        return json.loads(body)["data"]["result"]

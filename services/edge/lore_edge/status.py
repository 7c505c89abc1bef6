"""``/status``: the key figures as plots, for whoever runs Lore and has no Grafana at hand.

It is there when LORE_PROMETHEUS_URL names a Prometheus. The page is everybody's, as all pages
are; the figures are for those who are let in. They are sums over all readers, and name no
request and no subject; but they tell how much Lore is used, so an edge in front of the world
leaves them off. What is asked is fixed here: nobody reaches Prometheus through an edge.
"""

import asyncio
import json
import math
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lore_edge.errors import ApiError

SPAN_S, STEP_S = 900, 5
KEPT_S = 4.0
"""However many look, Prometheus is asked once in this time."""
TIMEOUT_S = 5.0

Get = Callable[[str], Any]
"""The JSON behind a URL. Raises OSError, HTTPException or ValueError."""


@dataclass(frozen=True)
class Figure:
    title: str
    about: str
    unit: str
    """``s``, ``ratio`` or '' for a number."""
    lines: dict[str, str]
    """A query by what its line is called."""


def _rate(metric: str) -> str:
    return f"sum(rate({metric}[30s]))"


def _quantiles(histogram: str) -> dict[str, str]:
    grouped = f"sum by (le) (rate({histogram}_bucket[30s]))"
    return {
        name: f"histogram_quantile({q}, {grouped})" for name, q in (("p50", 0.5), ("p95", 0.95))
    }


FIGURES = (
    Figure(
        "First text",
        "From asking to the first chunk",
        "s",
        _quantiles("lore_time_to_first_token_seconds"),
    ),
    Figure(
        "On its way",
        "From a chunk's append to its write to a reader",
        "s",
        _quantiles("lore_chunk_transmission_seconds"),
    ),
    Figure(
        "Tokens a second",
        "Made, written to readers, and read by them",
        "",
        {
            "generated": _rate("lore_tokens_generated_total"),
            "delivered": _rate("lore_tokens_delivered_total"),
            "acknowledged": _rate("lore_tokens_acknowledged_total"),
        },
    ),
    Figure(
        "Streams and requests",
        "Readers that are connected, and what the generators hold",
        "",
        {
            "connected": "sum(lore_edge_connections)",
            "decoding": 'sum(lore_generator_requests{state="decoding"})',
            "parked": 'sum(lore_generator_requests{state="parked"})',
        },
    ),
    Figure(
        "In use",
        "Windows of readers, buffers of edges, slots and KV memory of generators",
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
        "Again",
        "Each second: chunks sent again, readers coming back, requests taken over",
        "",
        {
            "retransmitted": _rate("lore_retransmissions_total"),
            "resumed": _rate("lore_resumes_total"),
            "taken over": _rate("lore_takeovers_total"),
        },
    ),
    Figure(
        "How it ends",
        "Each second: answers as readers saw them end, and tokens made for nobody",
        "",
        {
            "done": 'sum(rate(lore_answers_total{outcome="done"}[30s]))',
            "broken": 'sum(rate(lore_answers_total{outcome=~"failed|history_lost|gone|cut"}[30s]))',
            "tokens wasted": _rate("lore_tokens_wasted_total"),
        },
    ),
)
ALERTS = 'ALERTS{alertstate="firing"}'


class Status:
    """Answers ``GET /status/figures``."""

    def __init__(self, prometheus_url: str, get: Get | None = None) -> None:
        self._url = prometheus_url.rstrip("/")
        self._get = get or _get
        self._asking = asyncio.Lock()
        self._kept: tuple[float, Any] = (-math.inf, None)

    async def figures(self, _: Request) -> Response:
        """Raises ApiError 503."""
        async with self._asking:
            asked_at, found = self._kept
            if time.monotonic() - asked_at > KEPT_S:
                found = await asyncio.to_thread(self._ask)
                self._kept = (time.monotonic(), found)
        return JSONResponse(found, headers={"Cache-Control": "no-store"})

    def _ask(self) -> Any:
        end_s = int(time.time()) // STEP_S * STEP_S
        times = list(range(end_s - SPAN_S, end_s + 1, STEP_S))
        try:
            figures = [
                {
                    "title": figure.title,
                    "about": figure.about,
                    "unit": figure.unit,
                    "lines": [
                        {"name": name, "values": self._line(expr, times)}
                        for name, expr in figure.lines.items()
                    ],
                }
                for figure in FIGURES
            ]
            alerts = sorted({one["metric"]["alertname"] for one in self._query(ALERTS)})
        except (OSError, HTTPException, ValueError, KeyError) as error:
            raise ApiError(
                503, "prometheus_unavailable", "Prometheus does not answer as it should"
            ) from error
        return {"times": times, "figures": figures, "alerts": alerts}

    def _line(self, expr: str, times: list[int]) -> list[float | None]:
        """A value for each time; None where there is none."""
        span = {"start": times[0], "end": times[-1], "step": STEP_S}
        series = self._query_over(expr, span)
        found = {int(at): float(value) for one in series for at, value in one["values"]}
        values = (found.get(at, math.nan) for at in times)
        return [value if math.isfinite(value) else None for value in values]

    def _query(self, expr: str) -> list[Any]:
        return self._get(f"{self._url}/api/v1/query?{urlencode({'query': expr})}")["data"]["result"]

    def _query_over(self, expr: str, span: dict[str, int]) -> list[Any]:
        asked = urlencode({"query": expr, **span})
        return self._get(f"{self._url}/api/v1/query_range?{asked}")["data"]["result"]


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310  # an operator's
        return json.load(answer)
